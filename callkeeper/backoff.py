"""How long to wait before another try. Pure."""

import random
from typing import Final

_FIRST_S: Final = 0.2
_FACTOR: Final = 1.6
# Eight tries in the first ten seconds.
_LONGEST_S: Final = 2.0
_SPREAD: Final = 0.2


def wait_s(tries: int) -> float:
    """Return how long to wait after so many tries in a row, in seconds.

    Spread a little, so that calls that failed together do not come back together.
    """
    wait = min(_LONGEST_S, _FIRST_S * _FACTOR ** min(tries, 20))
    return wait * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311  nobody gains by guessing
