"""What ``python -m extauthz`` and ``python -m sdpfilter`` have in common."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ringback import tracing
from ringback.errors import StartError
from ringback.forks import keep_shared, run_module
from ringback.grpcserver import Service, serve
from ringback.logs import configure, get_logger
from ringback.metrics import serve_metrics, shift_port
from ringback.processes import Child
from ringback.settings import Settings, load_settings
from ringback.supervisor import supervise
from ringback.vitals import Vitals

# A second worker of a service exports its metrics this many ports above the first one's.
METRICS_PORT_STEP = 10


def main(name: str, build: Callable[[Settings], Service]) -> None:
    """Run one worker, or with several ``--listen`` supervise one worker for each.

    Ends the process: 0 after a signal, 2 when the settings or files cannot be used.

    Args:
        name: Package of the service, also its name in logs.
        build: Makes the service from the settings; may raise `StartError`.
    """
    arguments = _parse(name)
    try:
        settings = load_settings(arguments.settings)
        settings = settings.model_copy(
            update={
                field: value
                for field, value in (
                    ("config_file", arguments.config),
                    ("keys_file", arguments.keys),
                    ("metrics_address", arguments.metrics),
                )
                if value is not None
            }
        )
        configure(settings.log_level, name)
        if len(arguments.listen) > 1:
            sys.exit(_supervise(name, arguments, settings))
        tracing.start(settings.tracing, name)
        vitals = Vitals()
        if settings.metrics_address is not None:
            serve_metrics(settings.metrics_address, vitals)
        served = serve(
            build(settings),
            arguments.listen[0],
            vitals,
            max_waiting=settings.overload.max_waiting,
            settings=settings.services,
        )
        asyncio.run(served)
        tracing.stop()
    except StartError as error:
        print(error, file=sys.stderr)  # noqa: T201  for the person who starts it
        sys.exit(2)


def _parse(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {name}")
    parser.add_argument(
        "--listen",
        action="append",
        required=True,
        metavar="ADDR",
        help="unix:/path or host:port; given several times, one worker process for each",
    )
    parser.add_argument("--settings", type=Path, help="ringback.yaml")
    parser.add_argument("--config", type=Path, help="LiteLLM's config.yaml")
    parser.add_argument("--keys", type=Path, help="the key file")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="Prometheus endpoint")
    arguments = parser.parse_args()
    if len(set(arguments.listen)) < len(arguments.listen):
        parser.error("argument --listen: each worker needs an address of its own")
    return arguments


def _supervise(name: str, arguments: argparse.Namespace, settings: Settings) -> int:
    log = get_logger()
    # For settings that only workers which share something may have.
    env = {**os.environ, "RINGBACK_WORKERS": str(len(arguments.listen))}
    commands = [
        _worker_command(name, arguments, settings, index) for index in range(len(arguments.listen))
    ]
    children = [
        Child(
            f"{name}-{index}",
            command,
            env,
            program=partial(run_module, name, command[command.index(name) + 1 :]),
        )
        for index, command in enumerate(commands)
    ]
    keep_shared()
    return supervise(children, lambda line: log.warning("worker", message=line))


def _worker_command(
    name: str, arguments: argparse.Namespace, settings: Settings, index: int
) -> list[str]:
    command = [sys.executable, "-m", name, "--listen", arguments.listen[index]]
    for option in ("settings", "config", "keys"):
        if (path := getattr(arguments, option)) is not None:
            command += [f"--{option}", str(path)]
    if settings.metrics_address is not None:
        command += ["--metrics", shift_port(settings.metrics_address, index * METRICS_PORT_STEP)]
    return command
