import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ringback.cli.news import follow, read_news


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        # Realistic
        pytest.param(
            {
                "event": "config_refused",
                "problems": ["c.yaml: model_list: has no usable entry", "c.yaml: line 3: not YAML"],
                "level": "error",
                "time": "2026-11-22T08:00:00Z",
                "service": "extauthz",
            },
            [
                "extauthz: config_refused",
                "  c.yaml: model_list: has no usable entry",
                "  c.yaml: line 3: not YAML",
            ],
            id="refused-file",
        ),
        pytest.param(
            {"event": "config_changed", "groups": 2, "level": "info", "service": "extauthz"},
            ["extauthz: config_changed groups=2"],
            id="file-taken-up",
        ),
        pytest.param({"event": "clusters_accepted", "level": "info"}, [], id="what-is-well"),
        pytest.param(
            {"event": "check_failed", "request_id": "1", "level": "error"}, [], id="one-request"
        ),
        # Pathological
        pytest.param("a string", [], id="no-object"),
        pytest.param(
            {"event": "\x1b[2J", "level": "error", "why": ["\x1b[1m"]},
            ['service: "\\u001b[2J"', '  "\\u001b[1m"'],
            id="terminal-controls",
        ),
    ],
)
def test_what_is_news(entry: Any, lines: list[str]) -> None:
    """Warnings, errors and files that were taken up are news; requests are not."""
    assert list(read_news(json.dumps(entry).encode())) == lines


def test_other_lines_are_no_news() -> None:
    """Libraries may write what is no JSON."""
    assert list(read_news(b"E0000 chttp2_transport.cc: whatever \xff")) == []


async def test_a_log_is_followed_from_now_on(tmp_path: Path) -> None:
    """What stood there before is no news, and half a line is read when it is whole."""
    log = tmp_path / "extauthz-0.log"
    line = json.dumps({"event": "config_changed", "service": "extauthz"}).encode() + b"\n"
    log.write_bytes(line)
    heard: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(follow(log, heard.put_nowait))
    await asyncio.sleep(0)
    with log.open("ab", buffering=0) as file:
        file.write(line[:9])
        await asyncio.sleep(0.3)
        file.write(line[9:])
    assert await asyncio.wait_for(heard.get(), 5) == "extauthz: config_changed"
    assert heard.empty()
    task.cancel()
