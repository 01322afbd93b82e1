"""``ringback calls``: see the calls that callkeeper keeps, and end them."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

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
Live = Annotated[bool, typer.Option("--live", help="Again every second, until Ctrl-C.")]
_TIMEOUT_S: Final = 5.0
_REDRAW_S: Final = 1.0
_IN_PART: Final = "A worker of callkeeper cannot be asked: calls that it keeps alone are missing."
# Cursor to the upper left, and everything from there on cleared; without a terminal it is left out.
_CLEAR: Final = "\x1b[H\x1b[J"

app = typer.Typer(help="See the calls that are open, and end them.", no_args_is_help=True)


@app.command("list")
def list_calls(
    address: Address = None, settings: SettingsFile = None, *, live: Live = False
) -> None:
    """List the calls that are open, oldest first."""
    from ringback.cli.callrows import call_table

    async def show(stubs: "list[CallsStub]") -> bool:
        while live:
            calls, is_whole = await _calls_of(stubs)
            room = shutil.get_terminal_size().lines - 2 if sys.stdout.isatty() else None
            typer.echo(_CLEAR, nl=False)
            typer.echo(call_table(calls, time.time(), room))
            if not is_whole:
                typer.echo(_IN_PART)
            await asyncio.sleep(_REDRAW_S)
        calls, is_whole = await _calls_of(stubs)
        typer.echo(call_table(calls, time.time()))
        return is_whole

    if not _run(address, settings, show):
        typer.echo(_IN_PART, err=True)
        raise typer.Exit(1)


@app.command()
def watch(address: Address = None, settings: SettingsFile = None) -> None:
    """Print a line for everything that happens to calls, until Ctrl-C."""
    from callsapi.v1.calls_pb2 import WatchRequest
    from ringback.cli.callrows import event_line

    async def follow(stream: "AsyncIterable[Event]") -> None:
        async for event in stream:
            typer.echo(event_line(event))

    async def follow_all(stubs: "list[CallsStub]") -> None:
        streams = [stub.Watch(WatchRequest()) for stub in stubs]
        await asyncio.gather(*(stream.initial_metadata() for stream in streams))
        # Of a stream that could not be opened there is metadata, too.
        if not any(stream.done() for stream in streams):
            typer.echo("Nothing is missed from here on; Ctrl-C ends it.", err=True)
        await asyncio.gather(*map(follow, streams))

    _run(address, settings, follow_all)
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

    async def ask_all(stubs: "list[CallsStub]") -> bool:
        answers = await asyncio.gather(*map(ask, stubs), return_exceptions=True)
        # Whoever else cannot be asked would not have known it.
        if True in answers:
            return True
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return False

    if not _run(address, settings, ask_all):
        typer.echo("There is no such call; see `ringback calls list`.", err=True)
        raise typer.Exit(1)
    typer.echo("It is being ended.")


def _run(
    addresses: list[str] | None,
    settings: Path | None,
    work: Callable[["list[CallsStub]"], Awaitable[_Result]],
) -> _Result:
    """Do something with all workers; ends the program with 1 if one cannot be asked.

    Ctrl-C ends it with 0: until then is as long as it was asked to go on.
    """
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
        return asyncio.run(_with_stubs(found, credentials, work))
    except aio.AioRpcError as error:
        typer.echo(f"callkeeper cannot be asked: {error.code().name.lower()}.", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit from None


async def _with_stubs(
    addresses: Iterable[str],
    credentials: "grpc.ChannelCredentials | None",
    work: Callable[["list[CallsStub]"], Awaitable[_Result]],
) -> _Result:
    from callsapi.v1.calls_pb2_grpc import CallsStub
    from ringback.grpcpeers import open_channel

    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(open_channel(address, credentials))
            for address in addresses
        ]
        return await work([CallsStub(channel) for channel in channels])


async def _calls_of(stubs: "Iterable[CallsStub]") -> "tuple[list[CallState], bool]":
    """Return the calls that workers keep, oldest first, and whether all of them could be asked.

    Raises:
        grpc.aio.AioRpcError: If none can.
    """
    from callsapi.v1.calls_pb2 import ListRequest

    answers = await asyncio.gather(
        *(stub.List(ListRequest(), timeout=_TIMEOUT_S) for stub in stubs), return_exceptions=True
    )
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    if len(failed) == len(answers):
        raise failed[0]
    # Workers that share their calls each know all of them.
    calls = {
        call.id: call
        for answer in answers
        if not isinstance(answer, BaseException)
        for call in answer.calls
    }
    return sorted(calls.values(), key=lambda call: call.opened_at), not failed
