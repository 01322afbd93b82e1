"""What every place where requests are counted has in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from extauthz.limits.rules import Counter


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A request that must wait.

    Attributes:
        counter: The one whose window ends last of those that are full.
        wait_s: Until it ends, in seconds.
    """

    counter: Counter
    wait_s: float


class RateStore(Protocol):
    """A place where requests are counted."""

    async def take(self, counters: Sequence[Counter]) -> Exceeded | None:
        """Count one request in all counters, or in none if any of them is full.

        Args:
            counters: At least one, from `extauthz.limits.rules.rate_counters`.

        Raises:
            StoreUnavailableError: If nobody can tell.
        """
        ...
