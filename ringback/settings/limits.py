"""How limits are kept."""

from typing import Literal

from ringback.settings.sections import Section


class LimitSettings(Section):
    """Requests per minute; the limits themselves belong to keys, teams and users."""

    when_store_fails: Literal["refuse", "count_locally"] = "refuse"
    """What becomes of requests with a limit while ``store.url`` cannot be asked: 503, or each
    worker counts for itself. Requests without a limit pass in either case."""
