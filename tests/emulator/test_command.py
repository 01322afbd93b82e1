"""The command line, and the process that it starts."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from emulator.__main__ import parse_options
from emulator.faults import Fault
from emulator.ice import IceOptions
from emulator.options import Options


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        pytest.param([], Options(port=8090), id="defaults"),
        pytest.param(
            ["--host", "0.0.0.0", "--ice-ports", "50000-50009", "--ice-address", "192.0.2.7"],
            Options(
                host="0.0.0.0",
                port=8090,
                ice=IceOptions(("192.0.2.7",), range(50000, 50010)),
            ),
            id="container",
        ),
        pytest.param(
            ["--port=0", "--no-greet", "--voice=echo", "--session-cap-s=5"],
            Options(port=0, greet=False, voice="echo", session_cap_s=5),
            id="echo",
        ),
        pytest.param(
            ["--fault", "calls:status=503", "--fault", "hangup:delay_s=1"],
            Options(port=8090, faults={"calls": Fault(503), "hangup": Fault(delay_s=1)}),
            id="faults",
        ),
        pytest.param(
            ["--entra", "--entra-token=a", "--entra-token=b"],
            Options(port=8090, entra=True, entra_tokens=frozenset("ab")),
            id="entra",
        ),
    ],
)
def test_options_are_read(arguments: list[str], options: Options) -> None:
    """Each option sets its field."""
    assert parse_options(arguments) == options


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--ice-ports=x", "such as 50000-50019"),
        ("--ice-address=localhost", "expected an IP address"),
        ("--fault=calls:status=1", "200 to 599"),
    ],
)
def test_wrong_options_are_explained(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process leaves with status 2 and says what was expected."""
    with pytest.raises(SystemExit) as left:
        parse_options([argument])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_the_process_says_when_it_listens_and_stops_on_request() -> None:
    """One line with the URL on stdout; on SIGTERM it ends with status 0."""
    command = [sys.executable, "-W", "error", "-m", "emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        word, url = process.stdout.readline().split()
        assert word == "listening"
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as response:  # noqa: S310 - http
            assert json.load(response) == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
