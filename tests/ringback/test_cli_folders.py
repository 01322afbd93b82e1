import os
import stat
import tempfile
from pathlib import Path

import pytest

from ringback.cli.folders import FolderError, FolderInUseError, Folders


def mode_of(path: Path) -> int:
    """Return who may do what with a path."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_temporary_folder_is_private_and_goes() -> None:
    """Without --run-dir there is a folder for the owner alone, which nothing is left of."""
    folders = Folders(None)
    folders.log("envoy").write_text("a line\n")

    assert mode_of(folders.root) == 0o700
    folders.close()

    assert not folders.root.exists()


def test_logs_stay_after_a_failure() -> None:
    """A temporary folder can be kept, for those who want to know what happened."""
    folders = Folders(None)
    folders.close(keep_logs=True)

    assert folders.logs.is_dir()
    folders.logs.rmdir()
    (folders.root / "lock").unlink()
    folders.root.rmdir()


def test_a_given_folder_stays_without_its_sockets(tmp_path: Path) -> None:
    """With --run-dir everything stays but the sockets."""
    folders = Folders(tmp_path / "a/run")
    socket = Path(folders.socket("extauthz-0").removeprefix("unix:"))
    socket.touch()
    folders.log("extauthz-0").write_text("a line\n")

    folders.close()

    assert folders.root == tmp_path / "a/run"
    assert not socket.exists()
    assert folders.log("extauthz-0").exists()
    assert mode_of(folders.root) == 0o700


def test_a_long_path_gets_sockets_elsewhere(tmp_path: Path) -> None:
    """Where a socket's path would exceed what the kernel takes, sockets go to a short one."""
    folders = Folders(tmp_path / ("long" * 25))
    path = Path(folders.socket("sdpfilter-63").removeprefix("unix:"))

    assert len(os.fsencode(path)) <= 100
    assert mode_of(path.parent) == 0o700
    folders.close()
    assert not path.parent.exists()
    assert folders.root.exists()


def test_a_short_path_holds_its_own_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose path is short enough has the sockets in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.chdir(folder)
        folders = Folders(Path("run"))

        assert folders.socket("extauthz-0") == f"unix:{Path.cwd()}/run/extauthz-0.sock"
        folders.close()


def test_logs_are_rotated(tmp_path: Path) -> None:
    """A start begins new logs and leaves those of the start before."""
    for word in ("first", "second", "third"):
        folders = Folders(tmp_path)
        folders.rotate("envoy").write_text(f"{word}\n")
        folders.close()

    assert (tmp_path / "logs/envoy.log").read_text() == "third\n"
    assert (tmp_path / "logs/envoy.log.1").read_text() == "second\n"


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    """The end of a log is given by lines, whatever bytes it holds, and nothing if there is none."""
    folders = Folders(tmp_path)
    folders.log("envoy").write_bytes(b"one\ntwo\n\xff three\n")

    assert folders.last_lines("envoy", 2) == ["two", "\ufffd three"]
    assert folders.last_lines("emulator", 2) == []
    folders.close()


def test_two_cannot_share_a_folder(tmp_path: Path) -> None:
    """A second start in the same folder is refused while the first one runs."""
    first = Folders(tmp_path)

    with pytest.raises(FolderInUseError, match="is in use by another `ringback up`"):
        Folders(tmp_path)

    first.close()
    Folders(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Where a file is in the way, the message says so and names the option."""
    (tmp_path / "file").touch()

    with pytest.raises(FolderError) as caught:
        Folders(tmp_path / "file/run")

    assert str(caught.value) == (
        f"{tmp_path}/file/run cannot be used: Not a directory. Choose another --run-dir."
    )
