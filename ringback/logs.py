"""Logs: one JSON object per line on stderr, the same shape for our own lines and for libraries'.

A line holds an event word and facts. No key, token, SDP, header or address belongs in one; `Secret`
values come out as ``***``, and of an exception there is its type and place.

NOTE: gRPC's C core writes lines of its own to stderr, about sockets and not about requests. The
variable GRPC_VERBOSITY, read when grpc is imported, sets how many.
"""

import io
import logging
import sys
import traceback
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from ringback.secrets import Secret

Level = Literal["debug", "info", "warning", "error"]
Logger = FilteringBoundLogger


def configure(level: Level, service: str) -> None:
    """Send every log line of this process to stderr as JSON, warnings of Python too.

    Args:
        level: The least severe level that is written. Libraries never write below ``warning``.
        service: Name of the process in each line.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _adder("service", service),
    ]
    render: list[Processor] = [
        _describe_exception,
        # All ASCII: Unicode has more line separators than `\n`, and stderr may not be UTF-8.
        structlog.processors.JSONRenderer(default=_show),
    ]
    stderr = cast("TextIO", _Lossy(sys.stderr))
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def get_logger() -> Logger:
    """Return the logger of this process."""
    logger: Logger = structlog.get_logger()
    return logger


def describe(error: BaseException) -> dict[str, str]:
    """Return what a log line may say of an unplanned error: its type and place.

    Not its text, which might quote what a request carried.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
    return {"error": type(error).__name__, "at": place}


class _Lossy(io.TextIOBase):
    """Writes as long as it can: a full disk or a reader that has gone costs lines, not requests."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _describe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put the description of an exception in the place of its traceback.

    Of the text only the first line stays: asyncio puts the exception's own words into the next.
    """
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event.update(describe(error), event=str(event["event"]).partition("\n")[0])
    return event


def _show(value: object) -> str:
    """Return what stands for a value that JSON has no form for: its type, unless it is harmless."""
    return str(value) if isinstance(value, Secret | PurePath) else type(value).__name__


def _adder(name: str, value: str) -> Processor:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        event[name] = value
        return event

    return add
