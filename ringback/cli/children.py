"""The children of ``ringback up``: their commands, addresses and environments."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from ringback.cli.folders import Folders
from ringback.cli.plan import Inputs, StackOptions
from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER, PROC_CLUSTER
from ringback.forks import run_module
from ringback.processes import Child
from ringback.render.bootstrap import Address
from ringback.secrets import Secret

ENVOY: Final = "envoy"
EMULATOR: Final = "emulator"

# How long Envoy lets connections end after it was told to drain.
_DRAIN_S: Final = 10
# NOTE: fixed, because Envoy's debug log shows tokens in clear.
_ENVOY_LOG_LEVEL: Final = "warning"
# What any program may need to run here. Everything else of the environment, provider keys among
# it, goes to extauthz alone; our own settings go to both services.
_COMMON_VARIABLES: Final = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)
_COMMON_PREFIXES: Final = ("COVERAGE_", "LC_", "PYTHON")
_SETTINGS_PREFIX: Final = "RINGBACK_"
# Python that does not import from the current folder, whatever lies there.
_PYTHON: Final = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a service.

    Attributes:
        service: Package, and cluster in Envoy.
        address: Where it listens.
        child: The process.
        is_first: Whether it is the first one of its service.
    """

    service: str
    address: str
    child: Child
    is_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the services have to be told beyond the options.

    Attributes:
        config: LiteLLM's configuration, the demonstration's if need be.
        keys: The key file, if there is one.
        egress: Envoy's egress listener.
        environ: Variables of extauthz on top of the environment.
    """

    config: Path
    keys: Path | None
    egress: Address
    environ: Mapping[str, Secret] = field(default_factory=dict)


def envoy_child(envoy: Path, bootstrap: Path, options: StackOptions, folders: Folders) -> Child:
    """Return Envoy with a bootstrap."""
    flags = {
        "-c": bootstrap,
        "--concurrency": options.concurrency,
        "--drain-time-s": _DRAIN_S,
        "--log-level": _ENVOY_LOG_LEVEL,
        # Of a request for CONNECT-UDP it would warn with its path and query.
        "--component-log-level": "misc:error",
        # The access log is for people who look at it, not for archives: 10 s by default.
        "--file-flush-interval-msec": 500,
    }
    arguments = [str(word) for pair in flags.items() for word in pair]
    # Hot restart would claim shared memory that a second Envoy on the machine uses.
    command = [str(envoy), *arguments, "--disable-hot-restart"]
    return Child(ENVOY, command, _common_environ(), folders.rotate(ENVOY))


def emulator_child(address: Address, folders: Folders) -> Child:
    """Return the emulator at an address."""
    command = [*_PYTHON, EMULATOR, "--host", address.host, "--port", str(address.port)]
    return Child(EMULATOR, command, _common_environ(), folders.rotate(EMULATOR))


def service_workers(
    inputs: Inputs, options: StackOptions, wiring: Wiring, folders: Folders
) -> list[Worker]:
    """Return the workers of all services, extauthz first: it takes longest to start.

    callkeeper has workers only if calls are supervised, and several only if they share them.
    """
    ours = _settings_environ(inputs, wiring.egress)
    is_supervised = inputs.settings.supervision.mode != "off"
    if is_supervised:
        ours |= _supervision_environ(inputs, folders)
    settings_file = {"--settings": options.settings}
    authz = _Service(
        AUTHZ_CLUSTER,
        {"--config": wiring.config, "--keys": wiring.keys, **settings_file},
        {**os.environ, **options.environ, **ours, **_revealed(wiring.environ)},
        metrics_offset=0,
    )
    proc = _Service(
        PROC_CLUSTER,
        settings_file,
        {**_common_environ(), **_given_settings(options.environ), **ours},
        metrics_offset=1,
    )
    calls = _Service(
        CALLKEEPER,
        settings_file,
        {**_common_environ(), **_given_settings(options.environ), **ours},
        # 2 is Envoy's.
        metrics_offset=3,
    )
    workers = [
        _worker(service, index, inputs.settings.metrics_address, folders)
        for service in (authz, proc)
        for index in range(inputs.workers)
    ]
    if is_supervised:
        workers += [
            _worker(calls, index, inputs.settings.metrics_address, folders)
            for index in range(_callkeepers(inputs))
        ]
    return workers


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    files: Mapping[str, Path | None]
    environ: Mapping[str, str] = field(repr=False)
    metrics_offset: int


def _worker(service: _Service, index: int, metrics: str | None, folders: Folders) -> Worker:
    name = f"{service.name}-{index}"
    address = folders.socket(name)
    command = [*_PYTHON, service.name, "--listen", address]
    for flag, path in service.files.items():
        command += [flag, str(path)] if path else []
    if metrics is not None:
        # Every worker has an endpoint of its own: several cannot share one port.
        from ringback.metrics import shift_port  # noqa: PLC0415  imports a client library
        from ringback.worker import METRICS_PORT_STEP  # noqa: PLC0415  imports a gRPC server

        ports = service.metrics_offset + index * METRICS_PORT_STEP
        command += ["--metrics", shift_port(metrics, ports)]
    program = partial(_serve, service.name, command[len(_PYTHON) + 1 :])
    child = Child(name, command, service.environ, folders.rotate(name), program)
    return Worker(service.name, address, child, is_first=index == 0)


def _serve(service: str, arguments: Sequence[str]) -> None:
    """Be a worker, in a fork of a process that has imported all services."""
    from ringback.metrics import forget  # noqa: PLC0415  imports a client library

    for other in {AUTHZ_CLUSTER, PROC_CLUSTER, CALLKEEPER} - {service}:
        forget(sys.modules[f"{other}.metrics"])
    run_module(service, arguments)


def _settings_environ(inputs: Inputs, egress: Address) -> dict[str, str]:
    environ = {
        "RINGBACK_UPSTREAM__EGRESS_URL": f"http://{egress}",
        "RINGBACK_UPSTREAM__CA_FILE": str(inputs.ca_file),
        "RINGBACK_WORKERS": str(inputs.workers),
    }
    if inputs.token_secret is not None:
        environ["RINGBACK_TOKEN__SECRET"] = inputs.token_secret.reveal()
    return environ


def _supervision_environ(inputs: Inputs, folders: Folders) -> dict[str, str]:
    """Return whether calls are supervised, and where workers find those of the other services."""
    extauthz = [folders.socket(f"{AUTHZ_CLUSTER}-{index}") for index in range(inputs.workers)]
    keepers = [folders.socket(f"{CALLKEEPER}-{index}") for index in range(_callkeepers(inputs))]
    return {
        "RINGBACK_SUPERVISION__MODE": inputs.settings.supervision.mode,
        "RINGBACK_SUPERVISION__CALLKEEPER": json.dumps(keepers),
        "RINGBACK_SUPERVISION__EXTAUTHZ": json.dumps(extauthz),
    }


def _callkeepers(inputs: Inputs) -> int:
    return inputs.workers if inputs.settings.supervision.store == "valkey" else 1


def _common_environ() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _COMMON_VARIABLES or name.startswith(_COMMON_PREFIXES)
    }


def _given_settings(on_top: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in {**os.environ, **on_top}.items()
        if name.upper().startswith(_SETTINGS_PREFIX)
    }


def _revealed(secrets: Mapping[str, Secret]) -> dict[str, str]:
    return {name: secret.reveal() for name, secret in secrets.items()}
