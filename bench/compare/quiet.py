"""Runs that count only if nothing else was going on."""

import sys
import time
from collections.abc import Callable
from typing import Final, TypeVar

from bench.compare.machine import MAX_OTHERS, Others

_TRIES: Final = 6
_PAUSE_S: Final = 5.0

T = TypeVar("T")


class BusyError(Exception):
    """Other programs took too much of the machine.

    Args:
        share: What they took.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def __str__(self) -> str:
        return (
            f"Other programs took {self.share:.0%} of the processors during a run, and again when "
            f"it was repeated; up to {MAX_OTHERS:.0%} is tolerated. End them, or measure anyway "
            "with --force: the figures are then marked as unreliable."
        )


class Quiet:
    """Repeats runs on a machine that was busy, and remembers the worst that was accepted.

    Args:
        force: Accept every run at once.
        pause_s: Before a run is repeated.
    """

    def __init__(self, *, force: bool, pause_s: float = _PAUSE_S) -> None:
        self._force, self._pause_s = force, pause_s
        self.others = 0.0
        """The largest share of other programs in an accepted run."""

    @property
    def is_reliable(self) -> bool:
        """Whether all accepted runs had a quiet machine."""
        return self.others <= MAX_OTHERS

    def run(self, work: Callable[[], T], ours_s: Callable[[], float]) -> T:
        """Do something that is measured.

        Args:
            work: What; it may be repeated.
            ours_s: Tells the processor time of what is measured, in seconds.

        Raises:
            BusyError: If the machine was busy each time.
        """
        for _ in range(_TRIES):
            with Others(ours_s) as others:
                done = work()
            if others.share <= MAX_OTHERS or self._force:
                self.others = max(self.others, others.share)
                return done
            sys.stderr.write(f"  other programs took {others.share:.0%}; again\n")
            time.sleep(self._pause_s)
        raise BusyError(others.share)
