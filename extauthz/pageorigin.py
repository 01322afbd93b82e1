"""The page that a token is bound to (``token.bind_origin``): its ``Origin`` when it mints. Pure.

Browsers send ``Origin`` with every POST; a backend that mints for a page sends the page's.
"""

from collections.abc import Mapping
from typing import Final

from ringback.errors import ApiError
from ringback.tokens.forms import ORIGIN

_ORIGIN: Final = "origin"


class OriginUnusableError(ApiError):
    """A token shall be bound to an origin that no page has that could call: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "origin_unusable"
    param = "Origin"

    def __str__(self) -> str:
        return (
            "The token cannot be bound to this Origin. Mint from a page that is served over https "
            "or http, or send its origin as browsers do: scheme://host[:port] in lower case, "
            "without the port that the scheme implies."
        )


def page_origin(headers: Mapping[str, str]) -> str | None:
    """Return the origin of the page that mints, or for which a backend does.

    Args:
        headers: Names in lower case.

    Returns:
        The origin; None for clients that are no page.

    Raises:
        OriginUnusableError: If it is ``null``, or none that a browser would send: 400.
    """
    origin = headers.get(_ORIGIN)
    if origin is not None and not ORIGIN.fullmatch(origin):
        raise OriginUnusableError
    return origin
