"""Which paths a key may call: ``allowed_routes``."""

from collections.abc import Iterable
from typing import Final

from extauthz.access.errors import RouteDeniedError
from extauthz.keys.model import VirtualKey

# Names of LiteLLM (LiteLLMRoutes) for groups of routes to which those of the realtime API belong.
# Its other groups hold nothing that is served here.
ROUTE_GROUPS: Final = frozenset({"llm_api_routes", "openai_routes"})


def check_route(key: VirtualKey, *paths: str) -> None:
    """Check that a key may call one of some paths.

    An entry admits its path and all below it, or, with a ``*`` at its end, all that begin so; a
    path under another prefix is another path, even if it leads to the same endpoint.

    Args:
        key: The key; an empty list admits every path.
        paths: Paths of requests, one of which has to be admitted.

    Raises:
        RouteDeniedError: If none is: 403.
    """
    if key.allowed_routes and not any(_admits(key.allowed_routes, path) for path in paths):
        raise RouteDeniedError


def _admits(entries: Iterable[str], path: str) -> bool:
    return any(
        entry in ROUTE_GROUPS
        or path == entry
        or path.startswith(f"{entry}/")
        or (entry.endswith("*") and path.startswith(entry[:-1]))
        for entry in entries
        if entry
    )
