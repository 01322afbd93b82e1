from pathlib import Path

import pytest

from callkeeper.model import Charge, Payer, Tokens
from callkeeper.sinks.records import BadRecordError, decode, encode
from callkeeper.sinks.spool import DiskSpool, MemorySpool, SpoolFullError
from helpers.charges import charge, some_charges

_MEGABYTE = 1024 * 1024
_CHARGES = some_charges([Payer("ab" * 32, "voice", "team", "user")], calls=30)


def _open(folder: Path, max_bytes: int = _MEGABYTE, segment_bytes: int = 4096) -> DiskSpool:
    return DiskSpool(folder, "litellm", max_bytes, segment_bytes)


def _read(spool: DiskSpool | MemorySpool, count: int = 7) -> list[Charge]:
    found = []
    while batch := spool.peek(count):
        assert spool.peek(count) == batch
        found += batch
        spool.drop(len(batch))
    return found


def _append(spool: DiskSpool | MemorySpool, charges: list[Charge], size: int = 4) -> None:
    for start in range(0, len(charges), size):
        spool.append(charges[start : start + size])


@pytest.mark.parametrize("one", _CHARGES[:3], ids=lambda one: one.usage.id)
def test_charges_survive_a_line(one: Charge) -> None:
    """A charge that was written is the same when it is read."""
    assert decode(encode(one)) == one


@pytest.mark.parametrize(
    "line", [b"", b"{}\n", b"[]\n", b'{"call":{"id":"', b"\xff\n", b"7\n"], ids=repr
)
def test_lines_that_are_no_charges_are_told(line: bytes) -> None:
    """They raise the one error."""
    with pytest.raises(BadRecordError):
        decode(line)


def test_order_is_kept_over_segments_and_processes(tmp_path: Path) -> None:
    """What was not taken is there after a crash, in its order, and what was taken is not."""
    first = _open(tmp_path)
    _append(first, _CHARGES)
    assert first.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) > 3
    taken = first.peek(4)
    first.drop(4)
    # A crash leaves the files, and no lock.
    first.close()
    second = _open(tmp_path)
    _append(second, _CHARGES[:2])
    found = _read(second)
    # Of the segment that was half read, the first half comes again.
    assert found == [*_CHARGES, *_CHARGES[:2]]
    assert taken == _CHARGES[:4]
    assert second.size_bytes == 0
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_last_line_may_be_torn(tmp_path: Path) -> None:
    """What a crash has cut off is left out; what came before and comes after is not."""
    spool = _open(tmp_path)
    spool.append(_CHARGES[:2])
    spool.close()
    (path,) = tmp_path.iterdir()
    for cut in (1, 50, len(encode(_CHARGES[2])) - 1):
        path.write_bytes(path.read_bytes() + encode(_CHARGES[2])[:cut])
        spool = _open(tmp_path)
        assert spool.peek(9) == _CHARGES[:2]
        spool.close()
    spool = _open(tmp_path)
    spool.append(_CHARGES[3:5])
    assert _read(spool) == [*_CHARGES[:2], *_CHARGES[3:5]]
    spool.close()


def test_lines_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    """A damaged line costs itself only."""
    spool = _open(tmp_path)
    spool.append(_CHARGES[:2])
    spool.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"nonsense\n" + path.read_bytes() + b"{}\n")
    spool = _open(tmp_path)
    assert _read(spool) == _CHARGES[:2]
    spool.append(_CHARGES[2:3])
    assert _read(spool) == _CHARGES[2:3]
    assert spool.size_bytes == 0
    spool.close()


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
def test_bound_holds(tmp_path: Path, on_disk: bool) -> None:
    """A batch that does not fit is not taken at all, and there is room again after some were."""
    bound = len(b"".join(map(encode, _CHARGES[:10])))
    spool = _open(tmp_path, bound, 1) if on_disk else MemorySpool(bound)
    _append(spool, _CHARGES[:10], 2)
    assert spool.size_bytes == bound
    with pytest.raises(SpoolFullError):
        spool.append(_CHARGES[10:12])
    assert spool.size_bytes == bound
    spool.drop(len(spool.peek(2)))
    spool.append([_CHARGES[1]])
    assert _read(spool) == [*_CHARGES[2:10], _CHARGES[1]]
    spool.close()


def test_segments_belong_to_one_process(tmp_path: Path) -> None:
    """Two that share a folder, as workers do, never read each other's charges."""
    first, second = _open(tmp_path), _open(tmp_path)
    first.append(_CHARGES[:2])
    second.append(_CHARGES[2:4])
    third = _open(tmp_path)
    assert third.peek(9) == []
    assert (_read(first), _read(second)) == (_CHARGES[:2], _CHARGES[2:4])
    for spool in (first, second, third):
        spool.close()


def test_empty_segment_hides_no_other(tmp_path: Path) -> None:
    """A process that died before its first line has left a file, which is older than others."""
    (tmp_path / "litellm.0.jsonl").touch()
    spool = _open(tmp_path)
    spool.append(_CHARGES[:2])
    spool.close()
    (tmp_path / "litellm.1.jsonl").touch()
    spool = _open(tmp_path)
    assert _read(spool) == _CHARGES[:2]
    spool.close()


def test_files_are_ours_alone(tmp_path: Path) -> None:
    """Nobody else reads who called."""
    spool = _open(tmp_path / "spool")
    spool.append([charge(Payer("ab" * 32), "resp_1", Tokens(text_in=1))])
    (path,) = (tmp_path / "spool").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    spool.close()
