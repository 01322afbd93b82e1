"""Logs: one JSON object per line on stderr, the same shape for our own lines and for libraries'.

A line holds an event word and facts. No key, token, SDP, header or address belongs in one; `Secret`
values come out as ``***``.
"""

import logging
import sys
import traceback
from pathlib import Path
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]
Logger = structlog.stdlib.BoundLogger


def configure(level: Level, service: str) -> None:
    """Send every log line of this process to stderr as JSON.

    Args:
        level: The least severe level that is written. Libraries never write below ``warning``.
        service: Name of the process in each line.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.EventRenamer("event"),
        _adder("service", service),
    ]
    render: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=repr, ensure_ascii=False),
    ]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


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


def _adder(name: str, value: str) -> Processor:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        event[name] = value
        return event

    return add
