"""Charges and events on disk, until a sink has taken them.

A spool is a folder of segments, files of lines that are only ever appended to and deleted as a
whole. A line counts once it is on the disk with its end: what a crash has torn was never promised.
Each segment is locked by the process that writes it; what a dead one has left, any process of the
same machine takes over.
"""

import os
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Generic, Protocol

from callkeeper.model import Charge
from callkeeper.sinks.records import CHARGES, Codec, R
from callkeeper.sinks.segment import Segment
from ringback.logs import get_logger

_SUFFIX: Final = ".jsonl"
# So much at most is written to a sink again after a crash, beside what was never written.
SEGMENT_BYTES: Final = 256 * 1024


class SpoolFullError(Exception):
    """A spool that has reached its bound, or whose disk has."""

    def __str__(self) -> str:
        return "the spool is full"


class Spool(Protocol[R]):
    """Keeps records in their order."""

    size_bytes: int
    """What it holds now."""

    def append(self, records: Sequence[R]) -> None:
        """Keep records; when this returns they are safe. Blocks.

        Raises:
            SpoolFullError: If they do not fit; then none is kept.
        """

    def peek(self, count: int) -> list[R]:
        """Return the oldest records, at most so many. Blocks."""

    def drop(self, count: int) -> None:
        """Forget so many of the records that `peek` returned last. Blocks."""

    def close(self) -> list[R]:
        """Let go; what is on disk stays there, and what is lost is returned."""


class SpoolInMemory(Generic[R]):
    """Keeps records as long as the process lives, for those who have no disk.

    Args:
        max_bytes: Bound, as if they were written.
        codec: How they would be.
    """

    def __init__(self, max_bytes: int, codec: Codec[R]) -> None:
        self.size_bytes = 0
        self._max_bytes, self._codec = max_bytes, codec
        self._records: deque[tuple[R, int]] = deque()

    def append(self, records: Sequence[R]) -> None:
        """See `Spool`."""
        sizes = [len(self._codec.encode(record)) for record in records]
        if self.size_bytes + sum(sizes) > self._max_bytes:
            raise SpoolFullError
        self._records.extend(zip(records, sizes, strict=True))
        self.size_bytes += sum(sizes)

    def peek(self, count: int) -> list[R]:
        """See `Spool`."""
        return [self._records[at][0] for at in range(min(count, len(self._records)))]

    def drop(self, count: int) -> None:
        """See `Spool`."""
        for _ in range(count):
            self.size_bytes -= self._records.popleft()[1]

    def close(self) -> list[R]:
        """See `Spool`."""
        lost = [record for record, _ in self._records]
        self._records.clear()
        self.size_bytes = 0
        return lost


class SpoolOnDisk(Generic[R]):
    """Keeps records in a folder, over the end of the process.

    Args:
        folder: Where; made if it is not there. Nobody else may read it.
        name: Of the sink; spools of several share a folder.
        max_bytes: Bound for all segments of this process.
        segment_bytes: When a segment is full.
        codec: How records are written.

    Raises:
        OSError: If the folder cannot be used.
    """

    def __init__(
        self, folder: Path, name: str, max_bytes: int, segment_bytes: int, codec: Codec[R]
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.size_bytes = 0
        self._folder, self._name = folder, name
        self._max_bytes, self._segment_bytes = max_bytes, segment_bytes
        self._codec = codec
        self._log = get_logger()
        self._segments: deque[Segment[R]] = deque()
        self._adopt()

    def append(self, records: Sequence[R]) -> None:
        """See `Spool`."""
        data = b"".join(self._codec.encode(record) for record in records)
        if self.size_bytes + len(data) > self._max_bytes:
            raise SpoolFullError
        try:
            if not self._segments or self._segments[-1].is_full(self._segment_bytes):
                self._segments.append(self._create())
            self._segments[-1].append(data)
        except OSError as error:
            raise SpoolFullError from error
        self.size_bytes += len(data)

    def peek(self, count: int) -> list[R]:
        """See `Spool`; records of one segment at a time."""
        while self._segments:
            segment = self._segments[0]
            records, bad = segment.peek(count)
            if bad:
                self._log.error("spool_line_unusable", spool=self._name, lines=bad)
            if records:
                return records
            if segment.size == 0 and len(self._segments) == 1:
                return []
            # Nothing of use is left in it.
            self._forget(segment)
        return []

    def drop(self, count: int) -> None:
        """See `Spool`."""
        segment = self._segments[0]
        segment.drop(count)
        if segment.is_read():
            self._forget(segment)

    def close(self) -> list[R]:
        """See `Spool`."""
        for segment in self._segments:
            segment.close(keep=segment.size > 0)
        self._segments.clear()
        return []

    def _create(self) -> Segment[R]:
        # In the order of time, so that the oldest is found first.
        path = self._folder / f"{self._name}.{time.time_ns():020d}.{uuid.uuid4().hex}{_SUFFIX}"
        segment = Segment(path, self._codec, os.O_CREAT | os.O_EXCL)
        _sync_folder(self._folder)
        return segment

    def _adopt(self) -> None:
        """Take over the segments that no living process writes."""
        for path in sorted(self._folder.glob(f"{self._name}.*{_SUFFIX}")):
            try:
                segment = Segment(path, self._codec)
            except (BlockingIOError, FileNotFoundError):
                continue
            self._segments.append(segment)
            self.size_bytes += segment.size
            self._log.info("spool_adopted", spool=self._name, bytes=segment.size)

    def _forget(self, segment: Segment[R]) -> None:
        """Delete a segment that was read; the one that is written is emptied instead."""
        self.size_bytes -= segment.size
        if len(self._segments) > 1:
            self._segments.popleft().close(keep=False)
        else:
            segment.clear()


class MemorySpool(SpoolInMemory[Charge]):
    """Keeps charges; see `SpoolInMemory`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, CHARGES)


class DiskSpool(SpoolOnDisk[Charge]):
    """Keeps charges; see `SpoolOnDisk`."""

    def __init__(
        self, folder: Path, name: str, max_bytes: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        super().__init__(folder, name, max_bytes, segment_bytes, CHARGES)


def _sync_folder(folder: Path) -> None:
    """Have a new name in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
