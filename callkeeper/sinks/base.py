"""What every sink is, and how it fails."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from callkeeper.sinks.records import Record

RecordT_contra = TypeVar("RecordT_contra", bound=Record, contravariant=True)


class SinkUnavailableError(Exception):
    """A sink that cannot take records now; nothing is known of the batch, which is tried again.

    Args:
        reason: For the log; without anything of the records.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class SinkRefusedError(SinkUnavailableError):
    """A batch that the sink will never take as it is; nothing of it was taken."""


class Sink(Protocol[RecordT_contra]):
    """Takes charges or events; one that was taken before counts no second time."""

    @property
    def name(self) -> str:
        """For logs, metrics and files."""

    async def write(self, records: Sequence[RecordT_contra]) -> None:
        """Take all of a batch, or nothing of it.

        Raises:
            SinkUnavailableError: If it cannot, or if it is not known whether it has.
            SinkRefusedError: If it never will.
        """

    async def close(self) -> None:
        """Let go of connections."""
