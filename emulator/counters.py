"""Counts of what has been asked of the emulator. Pure."""

from collections import Counter


class Counters:
    """How often each operation was answered with each status."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()

    def count(self, operation: str, status: int) -> None:
        """Count an answer."""
        self._answers[operation, status] += 1

    def answers(self) -> dict[str, dict[str, int]]:
        """Return the counts by operation and status."""
        counted: dict[str, dict[str, int]] = {}
        for (operation, status), count in sorted(self._answers.items()):
            counted.setdefault(operation, {})[str(status)] = count
        return counted
