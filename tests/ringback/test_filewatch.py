import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from helpers.waiting import until
from ringback.filewatch import fingerprint, watch

POLL_S = 0.02
MISSING_S = 0.6


class Reader:
    """Reads files whenever the watch says so.

    Attributes:
        files: What is watched after the next change.
        seen: What the first file held, each time.
        error: Raised instead of reading.
    """

    def __init__(self, *files: Path) -> None:
        self.files: Iterable[Path] = files
        self.first = files[0]
        self.seen: list[str | None] = []
        self.delay_s = 0.0
        self.error: Exception | None = None

    async def take_up(self) -> None:
        """Read the first file."""
        self.seen.append(self.first.read_text() if self.first.exists() else None)
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error

    def watch(self, missing_s: float = MISSING_S) -> "asyncio.Task[None]":
        """Start to watch."""
        known = fingerprint(self.files)
        watching = watch(
            known, lambda: self.files, self.take_up, poll_s=POLL_S, missing_s=missing_s
        )
        return asyncio.create_task(watching)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    """Watch one file that holds `old`."""
    file = tmp_path / "file"
    file.write_text("old")
    reader = Reader(file)
    watching = reader.watch()
    yield reader
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def quiet() -> None:
    """Wait as long as a change would take to be seen."""
    await asyncio.sleep(POLL_S * 8)


async def test_a_write_is_seen(reader: Reader) -> None:
    """A file that is written over is read again, once."""
    reader.first.write_text("new")
    await until(lambda: reader.seen)
    await quiet()
    assert reader.seen == ["new"]


async def test_a_change_of_the_same_length_is_seen(reader: Reader) -> None:
    """Content counts, not size or times."""
    times = reader.first.stat()
    reader.first.write_text("OLD")
    os.utime(reader.first, ns=(times.st_atime_ns, times.st_mtime_ns))
    await until(lambda: reader.seen == ["OLD"])


async def test_no_change_is_no_change(reader: Reader) -> None:
    """Touching a file, or writing what it holds, is none."""
    reader.first.touch()
    await quiet()
    reader.first.write_text("old")
    reader.first.chmod(0o600)
    await quiet()
    assert reader.seen == []


async def test_a_renamed_file_is_seen(reader: Reader, tmp_path: Path) -> None:
    """Editors write another file and rename it; each time, not only the first."""
    other = tmp_path / "other"
    other.write_text("new")
    other.replace(reader.first)
    await until(lambda: reader.seen == ["new"])
    other.write_text("newer")
    other.replace(reader.first)
    await until(lambda: reader.seen == ["new", "newer"])


async def test_half_a_file_is_not_read(reader: Reader) -> None:
    """While a file grows nobody reads it."""
    with reader.first.open("w") as file:
        for _ in range(10):
            file.write("part ")
            file.flush()
            await asyncio.sleep(POLL_S / 2)
    await until(lambda: reader.seen)
    assert reader.seen == ["part " * 10]


async def test_a_file_that_is_away_for_a_moment(reader: Reader) -> None:
    """A file that comes back in time was never away."""
    reader.first.unlink()
    await asyncio.sleep(MISSING_S / 6)
    reader.first.write_text("old")
    await asyncio.sleep(MISSING_S)
    assert reader.seen == []


async def test_a_file_that_stays_away(reader: Reader) -> None:
    """A file that stays away is a change, once; so is its return."""
    reader.first.unlink()
    await quiet()
    assert reader.seen == []
    await until(lambda: reader.seen)
    await quiet()
    reader.first.write_text("old")
    await until(lambda: len(reader.seen) == 2)
    assert reader.seen == [None, "old"]


async def test_a_file_that_was_never_there_delays_nothing(tmp_path: Path) -> None:
    """Only what is taken away is waited for."""
    file = tmp_path / "file"
    file.write_text("old")
    reader = Reader(file, tmp_path / "missing")
    watching = reader.watch(missing_s=60)
    file.write_text("new")
    await until(lambda: reader.seen)
    watching.cancel()


async def test_a_change_during_a_reading_is_seen(reader: Reader) -> None:
    """Two quick changes end in the last one, also if the first is still being taken up."""
    reader.delay_s = 0.2
    reader.first.write_text("first")
    await until(lambda: reader.seen == ["first"])
    reader.first.write_text("second")
    await until(lambda: reader.seen == ["first", "second"])


async def test_files_that_join_are_watched(reader: Reader, tmp_path: Path) -> None:
    """After a change the files are looked for again, also in other folders."""
    other = tmp_path / "sub" / "other"
    other.parent.mkdir()
    other.write_text("a")
    reader.files = [reader.first, other]
    reader.first.write_text("with other")
    await until(lambda: len(reader.seen) == 1)
    other.write_text("b")
    await until(lambda: len(reader.seen) == 2)


async def test_a_swapped_link_in_the_middle_is_seen(tmp_path: Path) -> None:
    """Kubernetes swaps the link to the folder that a file's link leads through."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
    (tmp_path / "..data").symlink_to("v1")
    file = tmp_path / "file"
    file.symlink_to("..data/file")
    reader = Reader(file)
    watching = reader.watch()
    await quiet()
    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await until(lambda: reader.seen == ["v2"])
    watching.cancel()


async def test_an_error_does_not_end_the_watch(reader: Reader) -> None:
    """If a change cannot be taken up, that is logged without its text, and the next one is."""
    reader.error = RuntimeError("sk-marker")
    with capture_logs() as logs:
        reader.first.write_text("bad")
        await until(lambda: logs)
    (line,) = logs
    assert line["event"] == "watch_failed"
    assert line["error"] == "RuntimeError"
    assert "marker" not in str(line)
    reader.error = None
    reader.first.write_text("good")
    await until(lambda: reader.seen == ["bad", "good"])


def test_a_fingerprint_never_fails(tmp_path: Path) -> None:
    """A folder, a missing file and an impossible name have none; equal contents have equal ones."""
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").write_text("same")
    odd = [tmp_path, tmp_path / "missing", Path("nul\0"), tmp_path / "a" / "below"]
    assert set(fingerprint(odd).values()) == {None}
    digests = fingerprint([tmp_path / "a", tmp_path / "b"])
    assert digests[tmp_path / "a"] == digests[tmp_path / "b"] is not None
