import signal
import socket
import subprocess

import pytest
from typer.testing import CliRunner

from helpers.upprocess import RINGBACK
from ringback.cli import app


def test_it_listens_until_it_is_told_to_stop() -> None:
    """The command prints where it listens, and ends with 0 on SIGTERM."""
    command = [RINGBACK, "emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)

        assert line.startswith("listening http://127.0.0.1:")
        assert process.wait(10) == 0


def test_a_port_in_use_is_said() -> None:
    """The message names the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        result = CliRunner().invoke(app, ["emulator", "--port", str(port)])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"127.0.0.1:{port} cannot be listened on: ")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, instead of a traceback."""
    monkeypatch.setattr("ringback.cli.demo.find_spec", lambda _name: None)

    result = CliRunner().invoke(app, ["emulator"])

    assert result.exit_code == 2
    assert "pip install 'ringback[emulator]'" in result.stderr
