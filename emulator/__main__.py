"""The command line: ``python -m emulator --port P``."""

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from emulator.faults import parse_fault_option
from emulator.ice import IceOptions, parse_address, parse_port_range
from emulator.options import Options
from emulator.server import run

T = TypeVar("T")


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Return the options on a command line; leaves with status 2 on a wrong one."""
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="emulator",
        description="An OpenAI and Azure Realtime API that needs no key, with real WebRTC peers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default=defaults.host, help="address to listen on")
    add("--port", type=int, default=8090, help="TCP port; 0 takes a free one")
    add(
        "--greet",
        action=argparse.BooleanOptionalAction,
        default=defaults.greet,
        help="speak first",
    )
    add(
        "--voice",
        choices=("speech", "echo"),
        default=defaults.voice,
        help="answer with sentences, or with the microphone",
    )
    add("--session-cap-s", type=float, default=defaults.session_cap_s, help="longest call")
    add(
        "--ice-address",
        action="append",
        default=[],
        type=_checked(parse_address),
        metavar="ADDRESS",
        help="offer this address too; repeatable",
    )
    add(
        "--ice-ports",
        type=_checked(parse_port_range),
        metavar="FIRST-LAST",
        help="UDP ports for calls, one each (to publish them from a container)",
    )
    add(
        "--fault",
        action="append",
        default=[],
        type=_checked(parse_fault_option),
        metavar="OPERATION:NAME=VALUE,...",
        help="for instance calls:status=503,times=2; repeatable",
    )
    given = parser.parse_args(arguments)
    return Options(
        host=given.host,
        port=given.port,
        greet=given.greet,
        voice=given.voice,
        session_cap_s=given.session_cap_s,
        ice=IceOptions(tuple(given.ice_address), given.ice_ports),
        faults=dict(given.fault),
    )


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make argparse show what a parser has to say."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return convert


if __name__ == "__main__":
    options = parse_options()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("emulator").setLevel(logging.INFO)
    run(options)
