"""What the services log and whoever watches the terminal should read, too."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

_POLL_S: Final = 0.25
_LEVELS: Final = frozenset({"warning", "error"})
# Files that were taken up; everything else that is well is in the logs alone.
_GOOD_NEWS: Final = frozenset(
    {"config_changed", "keys_changed", "jwk_set_changed", "revoked_changed"}
)
# Members of a line that say nothing to a reader, or belong to one request.
_NOT_SHOWN: Final = frozenset({"event", "level", "time", "service", "logger"})
_REQUEST: Final = "request_id"


async def follow(log: Path, report: Callable[[str], None]) -> None:
    """Report what a service logs from now on, until cancelled.

    Of several workers that read the same files, one speaks for all.

    Args:
        log: The file that a worker appends to.
        report: Gets one line at a time.
    """
    with log.open("rb") as file:
        file.seek(0, 2)
        rest = b""
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                for news in read_news(line):
                    report(news)
            await asyncio.sleep(_POLL_S)


def read_news(line: bytes) -> Iterator[str]:
    """Give the lines for the terminal that a line of a log is worth; none for most.

    Args:
        line: One JSON object, as `ringback.logs` writes it, or what a library wrote.
    """
    try:
        entry = json.loads(line)
    except ValueError:
        return
    if not isinstance(entry, dict) or _REQUEST in entry:
        return
    event = entry.get("event")
    if entry.get("level") not in _LEVELS and event not in _GOOD_NEWS:
        return
    facts = {name: value for name, value in entry.items() if name not in _NOT_SHOWN}
    details = {name: value for name, value in facts.items() if isinstance(value, list)}
    words = [f"{name}={_show(facts[name])}" for name in facts if name not in details]
    yield " ".join([f"{entry.get('service', 'service')}:", _show(event), *words])
    for items in details.values():
        yield from (f"  {_show(item)}" for item in items)


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() else json.dumps(text)
