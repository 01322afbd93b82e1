"""Where a caller's key stands in a request: the headers of LiteLLM, in its order. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from extauthz.errors import MalformedKeyError, MissingKeyError
from ringback.secrets import Secret

AUTHORIZATION: Final = "authorization"
LITELLM_KEY: Final = "x-litellm-api-key"
# Headers that hold nothing but the key, best first.
RAW_HEADERS: Final = ("api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key")
# Everything in which a key may come, unless the configuration names another header.
KEY_HEADERS: Final = (LITELLM_KEY, AUTHORIZATION, *RAW_HEADERS)

# Visible ASCII without quotes and commas: several lines of a header arrive joined by a comma.
_CREDENTIAL: Final = r"([!#-+\--~]+)"
# Schemes in any case (RFC 9110 section 11.1). NOTE: as in LiteLLM, what follows Basic is the key
# itself, in no encoding.
_BEARER: Final = re.compile(rf"(?i:bearer) +{_CREDENTIAL}")
_AUTHORIZATION: Final = re.compile(rf"(?i:bearer|basic) +{_CREDENTIAL}")
_LITELLM_KEY: Final = re.compile(rf"(?:(?i:bearer|basic) +)?{_CREDENTIAL}")
_SHOWN: Final = {AUTHORIZATION: "Authorization"}
_RAW: Final = re.compile(_CREDENTIAL)


def caller_credential(headers: Mapping[str, str], key_header: str | None = None) -> Secret:
    """Return what a caller shows as the key: the first header that is there decides.

    A header that is empty is not there. One that cannot be read ends the search: whoever sends
    two credentials shall not be let in by the one that was not meant.

    Args:
        headers: Names in lower case.
        key_header: ``general_settings.litellm_key_header_name`` in lower case; it takes the place
            of all others, and holds ``Bearer`` and the key.

    Raises:
        MissingKeyError: If no header holds a key: 401.
        MalformedKeyError: If the first one does not hold one as it should: 401.
    """
    if key_header is not None:
        return _read(headers, key_header, _BEARER)
    name = next((name for name in KEY_HEADERS if _value(headers, name)), AUTHORIZATION)
    forms = {LITELLM_KEY: _LITELLM_KEY, AUTHORIZATION: _AUTHORIZATION}
    return _read(headers, name, forms.get(name, _RAW))


def has_credential(headers: Mapping[str, str], key_header: str | None = None) -> bool:
    """Tell whether a caller shows anything as a key, good or bad.

    Args:
        headers: As in `caller_credential`.
        key_header: As in `caller_credential`.
    """
    names = KEY_HEADERS if key_header is None else (key_header,)
    return any(_value(headers, name) for name in names)


def bearer_credential(headers: Mapping[str, str]) -> Secret:
    """Return the credential of an ``Authorization: Bearer`` header (RFC 9110 section 11.4).

    Several Authorization lines arrive joined by a comma and are refused: no credential holds one.

    Raises:
        MissingKeyError: If there is no such header: 401.
        MalformedKeyError: If it is something else: 401.
    """
    return _read(headers, AUTHORIZATION, _BEARER)


def _value(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").strip(" \t")


def _read(headers: Mapping[str, str], name: str, form: "re.Pattern[str]") -> Secret:
    value = _value(headers, name)
    expected = f"{_SHOWN.get(name, name)}: {'' if name in RAW_HEADERS else 'Bearer '}sk-..."
    if not value:
        raise MissingKeyError(expected)
    found = form.fullmatch(value)
    if found is None:
        raise MalformedKeyError(expected)
    return Secret(found[1])
