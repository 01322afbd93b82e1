"""WebSockets: conversations and sidebands that go through the gateway."""

from typing import Annotated

from pydantic import AfterValidator, Field

from ringback.settings.origins import check_origin_pattern
from ringback.settings.sections import Seconds, Section

# Providers end a session after an hour; a minute more, so that the provider's own words come first.
_SESSION_S = 3660


class WebSocketSettings(Section):
    """What WebSockets may do. The two times take effect where the bootstrap is made."""

    origins: list[Annotated[str, AfterValidator(check_origin_pattern)]] | None = None
    """Origins whose pages may open WebSockets, as in ``cors_origins``, which hold when absent.
    Browsers do not ask CORS about WebSockets; clients that are no browser send no Origin."""

    idle_timeout_s: Seconds = 300
    """A WebSocket on which nothing moves, not even a ping, is closed."""

    max_duration_s: Annotated[float, Field(gt=0, le=86_400)] = _SESSION_S
    """The longest life of a WebSocket."""

    sideband_with_token: tuple[str, ...] = ()
    """Ids of deployments at which a sideband that is opened with the call's own token shows the
    provider the token's ephemeral key in place of the deployment's standard credential."""
