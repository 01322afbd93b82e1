"""``ringback up``: everything on this machine with one command."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import asyncio
import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ringback.cli.plan import StackOptions
    from ringback.cli.stack import Stack
    from ringback.supervisor import StopSignals


Config = Annotated[Path | None, typer.Option(help="LiteLLM's config.yaml. Default: an emulator.")]
SettingsFile = Annotated[Path | None, typer.Option(help="ringback.yaml.")]
Keys = Annotated[Path | None, typer.Option(help="The key file.")]
Host = Annotated[str, typer.Option(help="IP address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")]
LoopbackPort = Annotated[int, typer.Option(min=0, max=65535, help="On loopback; 0 as above.")]
Workers = Annotated[
    int | None, typer.Option(min=1, max=64, help="Processes of each service. Default: 2.")
]
RunDir = Annotated[
    Path | None,
    typer.Option(help="Sockets and logs. Default: a temporary folder, removed at the end."),
]
Playground = Annotated[
    bool | None, typer.Option("--playground/--no-playground", help="Default: on without --config.")
]
Concurrency = Annotated[int, typer.Option(min=1, help="Envoy's worker threads.")]


def up(
    *,
    config: Config = None,
    settings: SettingsFile = None,
    keys: Keys = None,
    host: Host = "127.0.0.1",
    port: Port = 4000,
    egress_port: LoopbackPort = 4001,
    admin_port: LoopbackPort = 9901,
    workers: Workers = None,
    run_dir: RunDir = None,
    playground: Playground = None,
    concurrency: Concurrency = 1,
) -> None:
    """Start Envoy, both services and, without --config, an emulator of the providers.

    Prints `ready URL` when a call would succeed. Ctrl-C drains and stops; a second one kills.
    """
    from ringback.cli.plan import StackOptions

    options = StackOptions(
        config=config,
        settings=settings,
        keys=keys,
        host=host,
        port=port,
        egress_port=egress_port,
        admin_port=admin_port,
        workers=workers,
        run_dir=run_dir,
        playground=playground,
        concurrency=concurrency,
    )
    raise typer.Exit(_run_and_explain(options))


def _run_and_explain(options: "StackOptions") -> int:
    """Return the exit code."""
    from ringback.cli.ports import LaunchError
    from ringback.errors import StartError

    try:
        return asyncio.run(_run(options))
    except StartError as error:
        if options.config is not None and _is_about_files(error):
            from ringback.cli.check import check

            # Shows the mistakes of all files, and not only those of the first wrong one.
            check(config=options.config, settings=options.settings, keys=options.keys)
        typer.echo(str(error), err=True)
        return 2
    except LaunchError as error:
        typer.echo(str(error), err=True)
        return 1


def _is_about_files(error: Exception) -> bool:
    from extauthz.errors import ConfigError
    from ringback.settings import SettingsError
    from ringback.tokens.errors import SealingKeyError
    from sdpfilter.policies import PoliciesError

    return isinstance(error, (ConfigError, SettingsError, SealingKeyError, PoliciesError))


def _say(line: str) -> None:
    """Print a line; nobody who listens, or a full disk, is no reason not to drain."""
    with suppress(OSError):
        typer.echo(line)


async def _run(options: "StackOptions") -> int:
    from ringback.cli.news import follow
    from ringback.cli.stack import Stack
    from ringback.forks import can_fork
    from ringback.supervisor import kill_on_second, stop_signals, wait_for_any

    stack = Stack(options, _say, forks=can_fork())
    if can_fork():
        from ringback.cli.preload import preload

        preload()
    with stop_signals() as signals:
        if not await _start(stack, signals):
            return 130
        await _announce(stack)
        news = asyncio.create_task(follow(stack.folders.log("extauthz-0"), _say))
        await wait_for_any(signals.first, stack.supervisor.loss)
        news.cancel()
        await kill_on_second(signals, stack.supervisor, asyncio.create_task(_end(stack)))
        if signals.second.is_set():
            return 130
    return 1 if stack.supervisor.lost else 0


async def _start(stack: "Stack", signals: "StopSignals") -> bool:
    """Start, unless a signal comes first."""
    from ringback.supervisor import kill_on_second

    start = asyncio.create_task(stack.start())
    first = asyncio.create_task(signals.first.wait())
    await asyncio.wait({start, first}, return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    is_early = not start.done()
    if is_early:
        _say("stopping")
        start.cancel()
        with suppress(asyncio.CancelledError):
            await kill_on_second(signals, stack.supervisor, start)
    await asyncio.gather(start, return_exceptions=is_early)
    return not is_early


async def _announce(stack: "Stack") -> None:
    if warning := version_warning(await stack.envoy_version()):
        _say(warning)
    _say("\n".join(_greeting(stack)))
    _say(f"ready {stack.url}")


def version_warning(version: str) -> str | None:
    """Return what to say about an Envoy that is not the one everything was tested with."""
    from ringback.paths import ENVOY_VERSION

    if version == ENVOY_VERSION:
        return None
    return f"warning: Envoy {version or 'of unknown version'}; tested with {ENVOY_VERSION}"


def _greeting(stack: "Stack") -> Iterator[str]:
    from ringback.contract import CALLKEEPER

    key = stack.demo_key.reveal() if stack.demo_key else "YOUR_KEY"
    yield f"url         {stack.url}"
    if stack.demo_key:
        yield f"demo key    {key}"
    yield f"models      {', '.join(stack.inputs.models)}"
    if stack.inputs.has_playground:
        yield f"playground  {stack.url}/playground"
    if stack.inputs.settings.supervision.mode != "off":
        yield f"calls       ringback calls list --address {stack.folders.socket(f'{CALLKEEPER}-0')}"
    yield f"logs        {stack.folders.logs}"
    body = json.dumps({"model": stack.inputs.models[0]})
    yield (
        f"try         curl -s {stack.url}/v1/realtime/client_secrets"
        f" -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
        f" -d {shlex.quote(body)}"
    )


async def _end(stack: "Stack") -> None:
    for name in stack.supervisor.lost:
        _say(f"{name} cannot be started again; {stack.folders.log(name)} says why")
    _say("draining: no new work, waiting for requests in flight")
    left = await stack.drain()
    if left:
        _say(f"{left} requests did not end in time")
    _say("stopping")
    # Whoever was just told that a log says why needs the log.
    await stack.stop(keep_logs=bool(stack.supervisor.lost))
    _say("stopped")
