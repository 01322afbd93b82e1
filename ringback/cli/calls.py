"""``ringback calls``: see the calls that callkeeper keeps, and end them."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from ringback.cli.table import format_table

if TYPE_CHECKING:
    import grpc

    from callsapi.v1.calls_pb2 import CallState, Event
    from callsapi.v1.calls_pb2_grpc import CallsStub

_Result = TypeVar("_Result")
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="ringback.yaml.")]
Address = Annotated[
    list[str] | None,
    typer.Option(help="Of a worker of callkeeper. Default: those that the settings name."),
]
_TIMEOUT_S: Final = 5.0
_MICRO: Final = 1_000_000
_HEADER: Final = ("CALL", "AGE", "STATE", "MODEL", "KEY", "TEAM", "TOKENS", "COST")

app = typer.Typer(help="See the calls that are open, and end them.", no_args_is_help=True)


@app.command("list")
def list_calls(address: Address = None, settings: SettingsFile = None) -> None:
    """List the calls that are open, oldest first."""
    from callsapi.v1.calls_pb2 import ListRequest

    async def ask(stub: "CallsStub") -> "list[CallState]":
        return list((await stub.List(ListRequest(), timeout=_TIMEOUT_S)).calls)

    # Workers that share their calls each know all of them.
    found = {call.id: call for calls in _ask_all(address, settings, ask) for call in calls}
    calls = sorted(found.values(), key=lambda call: call.opened_at)
    rows = [_row(call, time.time()) for call in calls]
    typer.echo(format_table(_HEADER, rows) if rows else "No call is open.")


@app.command()
def watch(address: Address = None, settings: SettingsFile = None) -> None:
    """Print a line for everything that happens to calls, until Ctrl-C."""
    from callsapi.v1.calls_pb2 import WatchRequest

    async def ask(stub: "CallsStub") -> None:
        async for event in stub.Watch(WatchRequest()):
            typer.echo(_line(event))

    _ask_all(address, settings, ask)
    typer.echo("callkeeper has ended.", err=True)
    raise typer.Exit(1)


@app.command()
def hangup(
    call: Annotated[str, typer.Argument(help="As `ringback calls list` shows it, or a handle.")],
    address: Address = None,
    settings: SettingsFile = None,
) -> None:
    """End a call."""
    import grpc
    from grpc import aio

    from callsapi.v1.calls_pb2 import HangUpRequest

    async def ask(stub: "CallsStub") -> bool:
        try:
            await stub.HangUp(HangUpRequest(call=call), timeout=_TIMEOUT_S)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    if not any(_ask_all(address, settings, ask)):
        typer.echo("There is no such call; see `ringback calls list`.", err=True)
        raise typer.Exit(1)
    typer.echo("It is being ended.")


def _ask_all(
    addresses: list[str] | None,
    settings: Path | None,
    ask: Callable[["CallsStub"], Awaitable[_Result]],
) -> list[_Result]:
    """Ask all workers at once; ends the program with 1 if one cannot be asked."""
    from grpc import aio

    from ringback.errors import StartError
    from ringback.grpcpeers import credentials_for
    from ringback.settings import load_settings

    try:
        loaded = load_settings(settings)
        found = addresses or loaded.supervision.callkeeper
        credentials = credentials_for(found, loaded.services)
    except StartError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    try:
        return asyncio.run(_gather(found, credentials, ask))
    except aio.AioRpcError as error:
        typer.echo(f"callkeeper cannot be asked: {error.code().name.lower()}.", err=True)
        raise typer.Exit(1) from None


async def _gather(
    addresses: Iterable[str],
    credentials: "grpc.ChannelCredentials | None",
    ask: Callable[["CallsStub"], Awaitable[_Result]],
) -> list[_Result]:
    from callsapi.v1.calls_pb2_grpc import CallsStub
    from ringback.grpcpeers import open_channel

    async def one(address: str) -> _Result:
        async with open_channel(address, credentials) as to:
            return await ask(CallsStub(to))

    return await asyncio.gather(*map(one, addresses))


def _row(call: "CallState", now: float) -> tuple[str, ...]:
    minutes, seconds = divmod(max(0, int(now - call.opened_at)), 60)
    payer = call.payer
    return (
        call.id,
        f"{minutes}:{seconds:02}",
        _state(call),
        call.model,
        payer.key_alias or payer.key_hash[:8],
        payer.team_id or "-",
        str(_tokens(call)),
        _cost(call),
    )


def _line(event: "Event") -> str:
    call = event.call
    at = time.strftime("%H:%M:%S", time.localtime(event.at))
    facts = [at, event.name, call.id, call.model, f"{_tokens(call)} tokens", _cost(call)]
    return "  ".join(facts + ([call.reason] if call.reason else []))


def _state(call: "CallState") -> str:
    from callsapi.v1.calls_pb2 import Phase

    return Phase.Name(call.phase).removeprefix("PHASE_").lower()


def _tokens(call: "CallState") -> int:
    used = call.usage
    return sum(
        (
            *(used.text_in, used.audio_in, used.image_in),
            *(used.cached_text_in, used.cached_audio_in, used.cached_image_in),
            *(used.text_out, used.audio_out),
        )
    )


def _cost(call: "CallState") -> str:
    return f"${call.cost_microdollars / _MICRO:.4f}"
