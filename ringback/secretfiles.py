"""Variables whose values are in files: ``NAME_FILE`` names the file that holds ``NAME``.

That is how Kubernetes and Docker hand secrets to a container. Nothing but the name of the file is
in the environment, and a file can change while its readers run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ringback.errors import StartError, why_unusable

SUFFIX: Final = "_FILE"
# Far more than any secret; what is larger is a bundle of certificates or the like.
MAX_BYTES: Final = 64 * 1024


class SecretFileError(StartError):
    """A variable names a file that is of no use.

    Args:
        name: Of the variable with the name of the file.
        problem: What is wrong with it.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"the file that {self.name} names cannot be used: {self.problem}"


class Variables(Mapping[str, str]):
    """An environment in which values may be in files; each look reads the file again.

    A variable that is set beats its file.

    Args:
        environ: The environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        """Return a value.

        Raises:
            KeyError: If there is none.
            SecretFileError: If it should be in a file that cannot be used.
        """
        path = self._environ.get(name + SUFFIX)
        if path and not self._environ.get(name):
            return read_secret(name + SUFFIX, Path(path))
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def read_secret(name: str, path: Path) -> str:
    """Return the text of a file without the line end that editors put behind it.

    Args:
        name: Of the variable that names the file, for the message.
        path: The file.

    Raises:
        SecretFileError: If it cannot be used.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SecretFileError(name, why_unusable(error)) from None
    if len(content) > MAX_BYTES:
        raise SecretFileError(name, "it is too large for a secret")
    return text.rstrip("\r\n")


def secret_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that hold values of variables, to watch them; none that is too large."""
    named = [Path(path) for name, path in environ.items() if name.endswith(SUFFIX) and path]
    return sorted({path for path in named if _is_small(path)})


def _is_small(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= MAX_BYTES
    except (OSError, ValueError):
        return False
