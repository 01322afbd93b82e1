"""Where it is told what happens to supervised calls."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ringback.secrets import Secret
from ringback.settings.sections import Section


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username or parts.password or parts.fragment:
        raise ValueError("expected http:// or https:// with a host, and without a user or password")
    return url


Url = Annotated[str, AfterValidator(_check_url)]
_Timeout = Annotated[float, Field(gt=0, le=60)]


class WebhookSettings(Section):
    """A webhook that is told what happens to calls; off without a URL."""

    url: Url | None = None
    """Where events are posted. Certificates are checked by `upstream.ca_file`."""

    secret: Secret | None = None
    """What they are signed with: ``whsec_`` and base64, several with spaces between them."""

    timeout_s: _Timeout = 10
    """For one event."""


class CollectorSettings(Section):
    """A collector of OpenTelemetry that is told the same as log records; off without a URL."""

    url: Url | None = None
    """Base URL of OTLP over HTTP: ``http://collector:4318``. ``/v1/logs`` is appended."""

    timeout_s: _Timeout = 10
    """For one batch."""
