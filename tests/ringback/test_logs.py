import json
import subprocess
import sys
from typing import Any

import pytest

from ringback.logs import describe

TEXT = "sk-very-secret"
PROGRAM = """
import asyncio, logging, pathlib, sys, warnings
from ringback.logs import configure, describe, get_logger
from ringback.secrets import Secret
configure({level!r}, "sdpfilter")
log = get_logger()
{body}
"""


def run(body: str, *, level: str = "info", encoding: str = "utf-8") -> list[dict[str, Any]]:
    """Run a program that logs, and return its lines; each must be one JSON object."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level, body=body)],
        env={"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b""
    lines = [json.loads(line) for line in done.stderr.decode("ascii").splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def facts(line: dict[str, Any]) -> dict[str, Any]:
    """Return what a line says beyond what every line has."""
    assert line["service"] == "sdpfilter"
    assert line["time"].endswith("Z")
    return {name: line[name] for name in line if name not in {"service", "time"}}


def raising(error: str, then: str) -> str:
    """Return code that raises and logs."""
    return f"try:\n    raise {error}\nexcept Exception as error:\n    {then}\n"


def test_a_line_is_one_json_object() -> None:
    """An event, its facts, the level, the time in UTC and the name of the service."""
    (line,) = run('log.info("ready", address="unix:/run/s.sock", workers=2)')
    assert facts(line) == {
        "event": "ready",
        "level": "info",
        "address": "unix:/run/s.sock",
        "workers": 2,
    }


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_value_breaks_a_line(encoding: str) -> None:
    """Line ends of any alphabet, quotes and lone surrogates stay inside their JSON string."""
    value = 'a\n"b\r\u2028c\u0085d\x00\ud800ä大'
    (line,) = run(f"log.info('said', value={value!a})", encoding=encoding)
    assert line["value"] == value


def test_secrets_are_three_stars() -> None:
    """A Secret is shown as ``***`` wherever it stands in a fact."""
    body = f'log.info("key", key=Secret("{TEXT}"), more={{"keys": [Secret("{TEXT}")]}})'
    (line,) = run(body)
    assert (line["key"], line["more"]) == ("***", {"keys": ["***"]})


def test_values_without_a_json_form_show_their_type() -> None:
    """What somebody passes by mistake is not printed; a path is, because it is meant."""
    (line,) = run(
        f'log.info("odd", raw=b"{TEXT}", error=ValueError("{TEXT}"), path=pathlib.Path("/etc"))'
    )
    assert facts(line) == {
        "event": "odd",
        "level": "info",
        "raw": "bytes",
        "error": "ValueError",
        "path": "/etc",
    }


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        pytest.param("debug", ["d", "i", "w", "e"], id="debug"),
        pytest.param("info", ["i", "w", "e"], id="info"),
        pytest.param("warning", ["w", "e"], id="warning"),
        pytest.param("error", ["e"], id="error"),
    ],
)
def test_the_level_is_the_least_severe_one_written(level: str, expected: list[str]) -> None:
    """Less severe lines of ours are dropped."""
    lines = run('log.debug("d"); log.info("i"); log.warning("w"); log.error("e")', level=level)
    assert [line["event"] for line in lines] == expected


def test_libraries_write_the_same_shape() -> None:
    """Warnings and errors of libraries are our lines with the name of their logger."""
    lines = run('logging.getLogger("lib").info("no"); logging.getLogger("lib").error("a %s", 1)')
    assert [facts(line) for line in lines] == [{"event": "a 1", "level": "error", "logger": "lib"}]


def test_warnings_of_python_are_lines() -> None:
    """A warning that nobody expects does not break the shape of the log."""
    (line,) = run('warnings.warn("old\\nthing")')
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")


@pytest.mark.parametrize(
    "then",
    [
        pytest.param('log.error("failed", **describe(error))', id="describe"),
        pytest.param('log.exception("failed")', id="exception"),
        pytest.param('log.error("failed", exc_info=True)', id="exc-info"),
        pytest.param('log.error("failed", exc_info=error)', id="exc-info-error"),
        pytest.param('log.error("failed", exc_info=sys.exc_info())', id="exc-info-tuple"),
        pytest.param('logging.getLogger("lib").exception("failed")', id="library"),
    ],
)
def test_an_error_shows_type_and_place_only(then: str) -> None:
    """However an exception is logged, its text stays out: it might quote a request."""
    (line,) = run(raising(f'ValueError("{TEXT}")', then))
    assert TEXT not in json.dumps(line)
    assert (line["event"], line["error"], line["at"]) == ("failed", "ValueError", "<string>:8")


def test_an_error_that_nobody_waits_for_shows_as_little() -> None:
    """What a task ends with is logged by asyncio, which quotes the text of the error."""
    program = f"""
async def fail():
    raise ValueError({TEXT!r})
async def main():
    task = asyncio.create_task(fail())
    await asyncio.wait([task])
asyncio.run(main())
"""
    (line,) = run(program)
    assert facts(line).pop("at").startswith("<string>:")
    assert line["event"] == "Task exception was never retrieved"
    assert line["error"] == "ValueError"
    assert TEXT not in json.dumps(line)


def test_no_error_is_no_fact() -> None:
    """Asking for the exception where there is none adds nothing."""
    (line,) = run('log.error("failed", exc_info=True)')
    assert facts(line) == {"event": "failed", "level": "error"}


def test_describe_names_the_innermost_place() -> None:
    """The place is the line that raised, by file name without folders."""
    try:
        json.loads(TEXT)
    except ValueError as error:
        described = describe(error)
    assert described["error"] == "JSONDecodeError"
    assert described["at"].startswith("decoder.py:")
    assert TEXT not in repr(described)


def test_describe_knows_errors_that_were_never_raised() -> None:
    """Without a traceback the place is unknown."""
    assert describe(ValueError(TEXT)) == {"error": "ValueError", "at": "unknown"}


def test_importing_logs_configures_nothing() -> None:
    """Only `configure` touches the process's logging; tests and tools keep their own."""
    code = "import logging, ringback.logs; print(logging.getLogger().handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
