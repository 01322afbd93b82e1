"""The folder of one ``ringback up``: sockets, logs and generated files."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from ringback.cli.ports import LaunchError

# sun_path has 108 bytes on Linux and 104 on macOS (unix(7)).
_MAX_SOCKET_PATH_BYTES: Final = 100
_LONGEST_SOCKET: Final = "callkeeper-63.sock"


class FolderInUseError(LaunchError):
    """Another ``ringback up`` works in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return f"{self.folder} is in use by another `ringback up`. Choose another --run-dir."


class FolderError(LaunchError):
    """The folder cannot be made or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return f"{self.folder} cannot be used: {self.reason}. Choose another --run-dir."


class Folders:
    """Makes the folder, readable by its owner alone.

    Args:
        run_dir: It stays at the end, all but the sockets. When None a temporary one, which goes.

    Raises:
        LaunchError: If it cannot be used.
    """

    def __init__(self, run_dir: Path | None) -> None:
        self._temporary: list[Path] = []
        self.root = self._make_temporary(None) if run_dir is None else run_dir.absolute()
        self.logs = self.root / "logs"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.root / "lock", os.O_CREAT | os.O_WRONLY, 0o600)
        except OSError as error:
            raise FolderError(self.root, str(error.strerror)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise FolderInUseError(self.root) from error
        self._sockets = self._choose_socket_folder()

    def socket(self, name: str) -> str:
        """Return the address of a socket: ``unix:/path``."""
        return f"unix:{self._sockets / name}.sock"

    def log(self, name: str) -> Path:
        """Return the log file of a child."""
        return self.logs / f"{name}.log"

    def rotate(self, name: str) -> Path:
        """Return the log file of a child, new; what the start before has left is in NAME.log.1."""
        log = self.log(name)
        with suppress(FileNotFoundError):
            log.replace(log.with_name(f"{log.name}.1"))
        return log

    def last_lines(self, name: str, count: int) -> list[str]:
        """Return the end of a child's log."""
        try:
            text = self.log(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return text.splitlines()[-count:]

    def close(self, *, keep_logs: bool = False) -> None:
        """Remove sockets and temporary folders.

        Args:
            keep_logs: Leave the run folder also if it is a temporary one.
        """
        for socket in self._sockets.glob("*.sock"):
            socket.unlink(missing_ok=True)
        for folder in self._temporary:
            if folder != self.root or not keep_logs:
                shutil.rmtree(folder, ignore_errors=True)
        os.close(self._lock)

    def _choose_socket_folder(self) -> Path:
        length = len(os.fsencode(self.root / _LONGEST_SOCKET))
        return self.root if length <= _MAX_SOCKET_PATH_BYTES else self._make_temporary("/tmp")  # noqa: S108  short

    def _make_temporary(self, parent: str | None) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="ringback-", dir=parent))
        self._temporary.append(folder)
        return folder
