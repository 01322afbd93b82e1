"""The command line: ``python -m emulator --port P``."""

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from emulator.faults import parse_fault_option
from emulator.ice import IceOptions, parse_address, parse_port_range
from emulator.options import Options
from emulator.server import run

T = TypeVar("T")


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Return the options on a command line; leaves with status 2 on a wrong one."""
    given = _parser(Options()).parse_args(arguments)
    return Options(
        host=given.host,
        port=given.port,
        greet=given.greet,
        voice=given.voice,
        session_cap_s=given.session_cap_s,
        ice=IceOptions(tuple(given.ice_address), given.ice_ports),
        faults=dict(given.fault),
        entra=given.entra,
        entra_tokens=frozenset(given.entra_token),
    )


def _parser(defaults: Options) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emulator",
        description="An OpenAI and Azure Realtime API that needs no key, with real WebRTC peers.",
    )
    add = parser.add_argument
    add("--host", default=defaults.host, help="address to listen on (%(default)s)")
    add("--port", type=int, default=8090, help="TCP port; 0 takes a free one (%(default)s)")
    toggle = argparse.BooleanOptionalAction
    add("--greet", action=toggle, default=defaults.greet, help="speak first (on)")
    add("--voice", choices=("speech", "echo"), default=defaults.voice, help="what callers hear")
    add("--session-cap-s", type=float, default=defaults.session_cap_s, help="longest call")
    ports = _checked(parse_port_range)
    add("--ice-ports", type=ports, metavar="FIRST-LAST", help="UDP ports for calls, one each")
    several: dict[str, Any] = {"action": "append", "default": []}
    address = _checked(parse_address)
    add("--ice-address", type=address, help="address to offer too; repeatable", **several)
    fault = _checked(parse_fault_option)
    add("--fault", type=fault, help="such as calls:status=503,times=2; repeatable", **several)
    add("--entra", action="store_true", help="Azure accepts only tokens that were issued here")
    token = "and this one; repeatable"
    add("--entra-token", metavar="TOKEN", help=token, **several)
    return parser


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
