"""No secret is taken from a command line, which everybody on the machine can read."""

import argparse
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from emulator import __main__ as emulator
from emulator.options import Options
from ringback import worker
from ringback.cli import app

# Words that an option for a secret would have in its name.
SUSPICIOUS = re.compile(r"key|secret|password|passwd|token|credential|salt|auth|bearer|url")
# Those that have one all the same, and why that is none.
HARMLESS = {
    "--keys": "a file of hashes",
    "--key": "asks for one, and takes none",
    "--key-alias": "a name",
    "--token-id": "the id in the access log, which opens nothing",
    "--entra-token": "made up, for a provider that is none",
}


def options_of(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Give each option and argument of a command and of those below it."""
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            yield name, option
    for sub, below in getattr(command, "commands", {}).items():
        yield from options_of(below, f"{name} {sub}")


def test_no_option_is_for_a_secret() -> None:
    """Of all options of `ringback` none could be meant for a key, a password or a URL with one."""
    found = [*options_of(get_command(app), "ringback")]
    assert len(found) > 60
    assert ("ringback tokens revoke", "--token-id") in found
    suspicious = [(name, option) for name, option in found if SUSPICIOUS.search(option.lower())]
    assert {option for _, option in suspicious} <= HARMLESS.keys()


class _SeenError(Exception):
    """Ends what would have read the arguments."""


def check_parser(parser: argparse.ArgumentParser) -> None:
    """Check the options of a program."""
    options = {option for action in parser._actions for option in action.option_strings}
    assert len(options) > 3
    assert {option for option in options if SUSPICIOUS.search(option)} <= HARMLESS.keys()


@pytest.mark.parametrize("service", ["extauthz", "sdpfilter"])
def test_no_option_of_a_service_is_for_a_secret(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds for `python -m extauthz` and `python -m sdpfilter`."""
    seen: list[argparse.ArgumentParser] = []

    def parse_args(parser: argparse.ArgumentParser) -> None:
        seen.append(parser)
        raise _SeenError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(_SeenError):
        worker._parse(service)
    check_parser(seen[0])


def test_no_option_of_the_emulator_is_for_a_secret() -> None:
    """The emulator needs no key, and takes none."""
    check_parser(emulator._parser(Options()))


def test_an_option_for_a_secret_would_be_found() -> None:
    """The words are those that people use."""
    for option in ("--master-key", "--token", "--db-password", "--store-url", "--auth"):
        assert SUSPICIOUS.search(option)
