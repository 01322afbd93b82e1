"""Charges on disk, until a sink has taken them.

A spool is a folder of segments, files of lines that are only ever appended to and deleted as a
whole. A line counts once it is on the disk with its end: what a crash has torn was never promised.
Each segment is locked by the process that writes it; what a dead one has left, any process of the
same machine takes over.
"""

import fcntl
import os
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from callkeeper.model import Charge
from callkeeper.sinks.records import BadRecordError, decode, encode
from ringback.logs import get_logger

_SUFFIX: Final = ".jsonl"
# So much at most is written to a sink again after a crash, beside what was never written.
_SEGMENT_BYTES: Final = 256 * 1024


class SpoolFullError(Exception):
    """A spool that has reached its bound, or whose disk has."""

    def __str__(self) -> str:
        return "the spool is full"


class Spool(Protocol):
    """Keeps charges in their order."""

    size_bytes: int
    """What it holds now."""

    def append(self, charges: Sequence[Charge]) -> None:
        """Keep charges; when this returns they are safe. Blocks.

        Raises:
            SpoolFullError: If they do not fit; then none is kept.
        """

    def peek(self, count: int) -> list[Charge]:
        """Return the oldest charges, at most so many. Blocks."""

    def drop(self, count: int) -> None:
        """Forget so many of the charges that `peek` returned last. Blocks."""

    def close(self) -> list[Charge]:
        """Let go; what is on disk stays there, and what is lost is returned."""


class MemorySpool:
    """Keeps charges as long as the process lives, for those who have no disk.

    Args:
        max_bytes: Bound, as if they were written.
    """

    def __init__(self, max_bytes: int) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._charges: deque[tuple[Charge, int]] = deque()

    def append(self, charges: Sequence[Charge]) -> None:
        """See `Spool`."""
        sizes = [len(encode(charge)) for charge in charges]
        if self.size_bytes + sum(sizes) > self._max_bytes:
            raise SpoolFullError
        self._charges.extend(zip(charges, sizes, strict=True))
        self.size_bytes += sum(sizes)

    def peek(self, count: int) -> list[Charge]:
        """See `Spool`."""
        return [self._charges[at][0] for at in range(min(count, len(self._charges)))]

    def drop(self, count: int) -> None:
        """See `Spool`."""
        for _ in range(count):
            self.size_bytes -= self._charges.popleft()[1]

    def close(self) -> list[Charge]:
        """See `Spool`."""
        lost = [charge for charge, _ in self._charges]
        self._charges.clear()
        self.size_bytes = 0
        return lost


class DiskSpool:
    """Keeps charges in a folder, over the end of the process.

    Args:
        folder: Where; made if it is not there. Nobody else may read it.
        name: Of the sink; spools of several share a folder.
        max_bytes: Bound for all segments of this process.
        segment_bytes: When a segment is full.

    Raises:
        OSError: If the folder cannot be used.
    """

    def __init__(
        self, folder: Path, name: str, max_bytes: int, segment_bytes: int = _SEGMENT_BYTES
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.size_bytes = 0
        self._folder, self._name = folder, name
        self._max_bytes, self._segment_bytes = max_bytes, segment_bytes
        self._log = get_logger()
        self._segments: deque[_Segment] = deque()
        self._adopt()

    def append(self, charges: Sequence[Charge]) -> None:
        """See `Spool`."""
        data = b"".join(encode(charge) for charge in charges)
        if self.size_bytes + len(data) > self._max_bytes:
            raise SpoolFullError
        try:
            if not self._segments or self._segments[-1].is_full(self._segment_bytes):
                self._segments.append(self._create())
            self._segments[-1].append(data)
        except OSError as error:
            raise SpoolFullError from error
        self.size_bytes += len(data)

    def peek(self, count: int) -> list[Charge]:
        """See `Spool`; charges of one segment at a time."""
        while self._segments:
            segment = self._segments[0]
            charges, bad = segment.peek(count)
            if bad:
                self._log.error("spool_line_unusable", spool=self._name, lines=bad)
            if charges:
                return charges
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

    def close(self) -> list[Charge]:
        """See `Spool`."""
        for segment in self._segments:
            segment.close(keep=segment.size > 0)
        self._segments.clear()
        return []

    def _create(self) -> "_Segment":
        # In the order of time, so that the oldest is found first.
        path = self._folder / f"{self._name}.{time.time_ns():020d}.{uuid.uuid4().hex}{_SUFFIX}"
        segment = _Segment(path, os.O_CREAT | os.O_EXCL)
        _sync_folder(self._folder)
        return segment

    def _adopt(self) -> None:
        """Take over the segments that no living process writes."""
        for path in sorted(self._folder.glob(f"{self._name}.*{_SUFFIX}")):
            try:
                segment = _Segment(path)
            except (BlockingIOError, FileNotFoundError):
                continue
            self._segments.append(segment)
            self.size_bytes += segment.size
            self._log.info("spool_adopted", spool=self._name, bytes=segment.size)

    def _forget(self, segment: "_Segment") -> None:
        """Delete a segment that was read; the one that is written is emptied instead."""
        self.size_bytes -= segment.size
        if len(self._segments) > 1:
            self._segments.popleft().close(keep=False)
        else:
            segment.clear()


class _Segment:
    """One file.

    Raises:
        BlockingIOError: If another process has it.
    """

    def __init__(self, path: Path, flags: int = 0) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, its former owner may have deleted it.
            if os.fstat(self._file).st_nlink == 0:
                raise FileNotFoundError(path)
            self._truncate_to_lines()
        except OSError:
            os.close(self._file)
            raise
        self._read = 0
        self._is_torn = False
        self._ends: list[int] = []

    def _truncate_to_lines(self) -> None:
        """Cut off what a crash has left of a last line."""
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size, 0)
        self.size = content.rfind(b"\n") + 1
        if self.size < size:
            os.ftruncate(self._file, self.size)

    def append(self, data: bytes) -> None:
        """Write lines, and have them on disk; or leave the file as it was.

        Raises:
            OSError: If that fails.
        """
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fdatasync(self._file)
        except OSError:
            # Should that fail, too, nothing may be written behind what is torn.
            self._is_torn = True
            os.ftruncate(self._file, self.size)
            self._is_torn = False
            raise
        self.size += len(data)

    def peek(self, count: int) -> tuple[list[Charge], int]:
        """Return the next charges, and how many lines between them are none."""
        content = os.pread(self._file, self.size - self._read, self._read)
        charges: list[Charge] = []
        self._ends, at, bad = [], self._read, 0
        for line in content.splitlines(keepends=True):
            if len(charges) == count:
                break
            at += len(line)
            try:
                charges.append(decode(line))
                self._ends.append(at)
            except BadRecordError:
                bad += 1
        if not charges:
            self._read = at
        return charges, bad

    def drop(self, count: int) -> None:
        """Go on behind so many of the charges of `peek`."""
        if count:
            self._read = self._ends[count - 1]
            del self._ends[:count]

    def is_full(self, limit: int) -> bool:
        """Tell whether the next lines belong into another one."""
        return self._is_torn or self.size >= limit

    def is_read(self) -> bool:
        """Tell whether there is nothing more to read."""
        return self._read >= self.size

    def clear(self) -> None:
        """Empty the file."""
        os.ftruncate(self._file, 0)
        self.size = self._read = 0

    def close(self, *, keep: bool) -> None:
        """Unlock the file, and delete it unless it is kept."""
        if not keep:
            self._path.unlink(missing_ok=True)
        os.close(self._file)


def _sync_folder(folder: Path) -> None:
    """Have a new name in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
