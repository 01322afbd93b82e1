import stat
import sys
import sysconfig
from pathlib import Path

import pytest

from ringback import paths
from ringback.paths import (
    ENVOY_VERSION,
    MissingEnvoyError,
    MissingFileError,
    envoy_dir,
    find_envoy,
)

ROOT = Path(__file__).parents[2]


def write_program(path: Path, text: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_version_is_pinned_once() -> None:
    """The version that code compares with is the one in .envoy-version."""
    assert (ROOT / ".envoy-version").read_text().strip() == ENVOY_VERSION


def test_a_checkout_uses_its_own_files() -> None:
    """In a checkout, envoy/envoy.yaml is the one that people edit."""
    assert envoy_dir() == ROOT / "envoy"
    assert (envoy_dir() / "playground.html").is_file()


def test_an_installation_uses_its_data_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a checkout, the files are where wheels put data."""
    installed = tmp_path / "share/ringback/envoy"
    installed.mkdir(parents=True)
    (installed / "envoy.yaml").touch()
    monkeypatch.setattr(paths, "_CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setattr(sysconfig, "get_path", lambda _name, _scheme=None: str(tmp_path))

    assert envoy_dir() == installed


def test_missing_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the files are nowhere, the error names them, each place, and what to do."""
    monkeypatch.setattr(paths, "_CHECKOUT", tmp_path / "here")
    monkeypatch.setattr(sysconfig, "get_path", lambda _name, _scheme=None: str(tmp_path / "data"))

    with pytest.raises(MissingFileError) as caught:
        envoy_dir()

    assert str(caught.value) == (
        f"envoy/envoy.yaml is neither in {tmp_path}/here nor in "
        f"{tmp_path}/data/share/ringback. Install Ringback again."
    )


def test_envoy_on_path_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An Envoy on PATH is preferred to the wheel's: whoever put it there wants it."""
    envoy = write_program(tmp_path / "bin/envoy", "true")
    monkeypatch.setenv("PATH", str(envoy.parent))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    write_program(tmp_path / "venv/bin/envoy", "true")

    assert find_envoy() == envoy


def test_envoy_beside_python_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The wheel's Envoy is found without an activated environment."""
    envoy = write_program(tmp_path / "venv/bin/envoy", "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))

    assert find_envoy() == envoy


def test_no_envoy_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any Envoy the message names the extra to install and the version."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(MissingEnvoyError, match=r"pip install 'ringback\[envoy\]'.* 1\.40\.0"):
        find_envoy()
