"""One file of a spool: lines that are only appended, and locked by the process that writes it."""

import fcntl
import os
from pathlib import Path
from typing import Generic

from callkeeper.sinks.records import BadRecordError, Codec, R


class Segment(Generic[R]):
    """One file.

    Args:
        path: Of the file.
        codec: How records are written.
        flags: For opening, beside those that are always needed.

    Raises:
        BlockingIOError: If another process has it.
    """

    def __init__(self, path: Path, codec: Codec[R], flags: int = 0) -> None:
        self._path = path
        self._codec = codec
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

    def peek(self, count: int) -> tuple[list[R], int]:
        """Return the next records, and how many lines between them are none."""
        content = os.pread(self._file, self.size - self._read, self._read)
        records: list[R] = []
        self._ends, at, bad = [], self._read, 0
        for line in content.splitlines(keepends=True):
            if len(records) == count:
                break
            at += len(line)
            try:
                records.append(self._codec.decode(line))
                self._ends.append(at)
            except BadRecordError:
                bad += 1
        if not records:
            self._read = at
        return records, bad

    def drop(self, count: int) -> None:
        """Go on behind so many of the records of `peek`."""
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
