"""Changes of files that people also write: one at a time, and refusals in plain words."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


@contextmanager
def refusals(place: Path | str) -> Iterator[None]:
    """Turn what is wrong with a file or a store into a message and exit code 2."""
    from ringback.errors import StartError, why_unusable

    try:
        yield
    except StartError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"{place}: cannot be used: {why_unusable(error)}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Lock the folder of a file, so that two changes at once both stay."""
    folder = os.open(file.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
