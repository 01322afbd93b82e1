"""How often one key may seal.

Each seal takes a random nonce of 96 bits, and two equal ones would give the key away. NIST SP
800-38D section 8.3 allows 2^32 of them under one key, by all processes that have it together.
"""

from typing import Final, Protocol

from ringback.counters import SEALS
from ringback.logs import get_logger
from ringback.tokens.errors import CannotSealError

MAX_SEALS: Final = 2**32
# Nobody counts for all, so each process has a share: of so many processes, or lives of processes,
# that a key sees.
PROCESSES: Final = 64
SHARE: Final = MAX_SEALS // PROCESSES
# Keys in use at one time; a key of each day would be a further series of metrics each day.
_KEPT: Final = 8


class _Counter(Protocol):
    def inc(self) -> None: ...


class SealBudget:
    """Counts what this process seals under each key, warns at half its share and ends at all of it.

    Args:
        kind: What is sealed, for logs and metrics.
        share: How often this process may seal under one key.
    """

    def __init__(self, kind: str, share: int = SHARE) -> None:
        self._kind = kind
        self._share = share
        self._sealed: dict[str, int] = {}
        self._counters: dict[str, _Counter] = {}

    def check(self, kid: str) -> None:
        """Check that a key may seal once more.

        Raises:
            CannotSealError: If it may not.
        """
        if self._sealed.get(kid, 0) >= self._share:
            raise CannotSealError("worn_out")

    def take(self, kid: str) -> None:
        """Count one seal that `check` has allowed."""
        if kid not in self._sealed:
            self._begin(kid)
        self._sealed[kid] += 1
        self._counters[kid].inc()
        if self._sealed[kid] == self._share // 2:
            self._warn("sealing_key_wears_out", kid)
        elif self._sealed[kid] == self._share:
            self._warn("sealing_key_worn_out", kid)

    def _begin(self, kid: str) -> None:
        if len(self._counters) == _KEPT:
            oldest = next(iter(self._counters))
            del self._counters[oldest], self._sealed[oldest]
            SEALS.remove(self._kind, oldest)
        self._sealed[kid] = 0
        self._counters[kid] = SEALS.labels(self._kind, kid)

    def _warn(self, event: str, kid: str) -> None:
        hint = "put a new key first in the JWK set, or wait for the key of the next day"
        get_logger().error(event, kind=self._kind, kid=kid, seals=self._sealed[kid], hint=hint)
