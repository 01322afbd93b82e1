"""Everything that ``ringback up`` starts, as one object: real Envoy, real services.

``async with Stack(StackOptions(port=0, egress_port=0, admin_port=0)) as stack: ... stack.url ...``
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Final, Self

from ringback.cli import probe
from ringback.cli.children import (
    EMULATOR,
    ENVOY,
    Wiring,
    Worker,
    emulator_child,
    envoy_child,
    service_workers,
)
from ringback.cli.demo import write_demo
from ringback.cli.folders import Folders
from ringback.cli.plan import StackOptions, metrics_listener, read_inputs
from ringback.cli.ports import Wanted, take_ports
from ringback.cli.readiness import (
    IsReady,
    NotReadyError,
    emulator_is_ready,
    envoy_is_ready,
    wait_until_ready,
    worker_is_listening,
    worker_is_ready,
)
from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER
from ringback.paths import envoy_dir, find_envoy
from ringback.render.bootstrap import Address, Changes, MakeBootstrap, own_bootstrap
from ringback.render.passthrough import passthrough_cluster
from ringback.secrets import Secret
from ringback.supervisor import STOP_GRACE_S, Supervisor

# Longer than any request but a WebSocket may take (envoy/README.md).
DRAIN_S: Final = 17.0

_LOOPBACK: Final = "127.0.0.1"
# Where to connect to what listens everywhere.
_WILDCARDS: Final = {"0.0.0.0": _LOOPBACK, "::": "::1"}
_DRAIN_POLL_S: Final = 0.1
# Nobody waits for an answer if nobody does so often in a row: a request on a connection that was
# kept may come in between.
_QUIET_POLLS: Final = 3
_SHOWN_LINES: Final = 15
# Envoy ends at once, and the emulator when it has ended its calls.
_SHORT_GRACE_S: Final = 5.0


class Stack:
    """Envoy, the workers of both services and, without a configuration, the emulator.

    Args:
        options: What to start.
        report: Gets one line for each child that ends by itself.
        make_bootstrap: Makes what Envoy starts with.
        forks: Fork the workers from this process, as `ringback.cli.preload` makes worth while.

    Raises:
        StartError: If something that was given cannot be used.
        LaunchError: If a port is in use.
    """

    def __init__(
        self,
        options: StackOptions,
        report: Callable[[str], None] = lambda _line: None,
        *,
        make_bootstrap: MakeBootstrap = own_bootstrap,
        forks: bool = False,
    ) -> None:
        self.inputs: Final = read_inputs(options)
        """What options, settings and configuration say."""
        self.supervisor: Final = Supervisor(report, forks=forks)
        """Watches the children, by name: ``envoy``, ``extauthz-0``, ``sdpfilter-1``, ..."""
        self.demo_key: Secret | None = None
        """A key for all models, if there was neither a configuration nor a key file."""
        self._options = options
        self._make_bootstrap = make_bootstrap
        self._envoy = find_envoy()
        metrics = metrics_listener(self.inputs.settings)
        self._ingress, self._egress, self._admin, emulator, *self._metrics = take_ports(
            Wanted("--port", options.host, options.port),
            Wanted("--egress-port", _LOOPBACK, options.egress_port),
            Wanted("--admin-port", _LOOPBACK, options.admin_port),
            Wanted("the emulator's", _LOOPBACK, 0),
            *([Wanted("metrics_address", metrics.host, metrics.port)] if metrics else []),
        )
        self._emulator = emulator if self.inputs.config is None else None
        self._folders: Folders | None = None
        self._workers: list[Worker] = []
        self._waiting: dict[str, IsReady] = {}

    @property
    def url(self) -> str:
        """Where downstreams connect: ``http://HOST:PORT``."""
        return f"http://{self._ingress_target}"

    @property
    def egress_url(self) -> str:
        """Envoy's listener for our own requests upstream."""
        return f"http://{self._egress}"

    @property
    def admin_url(self) -> str:
        """Envoy's admin interface."""
        return f"http://{self._admin}"

    @property
    def metrics_url(self) -> str | None:
        """Envoy's stats for Prometheus, if the settings say where metrics are served."""
        return f"http://{self._metrics[0]}/stats/prometheus" if self._metrics else None

    @property
    def emulator_url(self) -> str | None:
        """The emulator, if it runs."""
        return f"http://{self._emulator}" if self._emulator else None

    @property
    def folders(self) -> Folders:
        """Where logs, sockets and generated files are, once started."""
        if self._folders is None:
            raise RuntimeError("the stack has not been started")
        return self._folders

    def pid_of(self, name: str) -> int:
        """Return the process id of a child."""
        return self.supervisor.pid_of(name)

    def logs(self, name: str) -> str:
        """Return what a child has logged since the start; Envoy's has the access log."""
        return self.folders.log(name).read_text(encoding="utf-8", errors="replace")

    async def start(self) -> None:
        """Start everything, and return when a call would succeed.

        That is when the first worker of each service is ready; the others follow.

        Raises:
            LaunchError: If the folder is in use, or something ends or is not ready in time.
        """
        self._folders = Folders(self._options.run_dir)
        await self._or_stop(self._start_children(self._folders))

    async def settle(self) -> None:
        """Wait until all workers are ready.

        Raises:
            NotReadyError: If one cannot start or is not ready in time.
        """
        await self._or_stop(self._wait_for(self._workers, worker_is_ready))

    async def envoy_version(self) -> str:
        """Return what Envoy calls its version, for example ``1.40.0``; empty if it does not say."""
        return await probe.envoy_version(self._admin)

    async def drain(self, timeout_s: float = DRAIN_S) -> int:
        """Tell Envoy to accept no connection any more, and wait until no request is active.

        Returns:
            The number of requests that are active even after the timeout.
        """
        await probe.drain(self._admin)
        deadline = time.monotonic() + timeout_s
        active, quiet = 0, 0
        while quiet < _QUIET_POLLS and time.monotonic() < deadline:
            active = await probe.count_requests(self._admin)
            quiet = 0 if active else quiet + 1
            # Envoy announces nothing.
            await asyncio.sleep(_DRAIN_POLL_S)
        return active

    async def stop(self, *, keep_logs: bool = False) -> None:
        """Stop Envoy, then the services, then the emulator; remove sockets and what is temporary.

        Args:
            keep_logs: Leave the run folder also if it is a temporary one.
        """
        services = [name for name in self.supervisor.names if name not in {ENVOY, EMULATOR}]
        await self.supervisor.stop([ENVOY], grace_s=_SHORT_GRACE_S)
        await self.supervisor.stop(services, grace_s=STOP_GRACE_S)
        await self.supervisor.stop([EMULATOR], grace_s=_SHORT_GRACE_S)
        self.folders.close(keep_logs=keep_logs)

    async def __aenter__(self) -> Self:
        await self.start()
        await self.settle()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.shield(self.stop())

    async def _or_stop(self, work: Coroutine[None, None, None]) -> None:
        try:
            async with asyncio.timeout(self._options.ready_timeout_s):
                await work
        except TimeoutError as error:
            names = tuple(self._waiting)
            why = f"Not ready within {self._options.ready_timeout_s:g} s: {', '.join(names)}."
            failure = self._not_ready(why, names)
            await self.stop(keep_logs=True)
            raise failure from error
        except BaseException as error:
            keep_logs = isinstance(error, NotReadyError)
            await asyncio.shield(self.stop(keep_logs=keep_logs))
            raise

    async def _start_children(self, folders: Folders) -> None:
        """Start what a first call needs, and Envoy when there is somebody to give it clusters."""
        self.supervisor.restarts = False
        self._workers = self._plan_workers(folders)
        first = [worker for worker in self._workers if worker.is_first]
        for worker in first:
            await self.supervisor.start(worker.child)
        if self._emulator:
            await self.supervisor.start(emulator_child(self._emulator, folders))
        bootstrap = folders.root / "envoy.json"
        bootstrap.write_text(json.dumps(self._bootstrap(), indent=1), encoding="utf-8")
        authz = [worker for worker in first if worker.service == AUTHZ_CLUSTER]
        await self._wait_for(authz, worker_is_listening)
        await self.supervisor.start(envoy_child(self._envoy, bootstrap, self._options, folders))
        # Envoy says that it is ready when both services are.
        await self._wait_for(first, worker_is_listening, envoy=True)
        self.supervisor.restarts = True
        for worker in self._workers:
            if not worker.is_first:
                await self.supervisor.start(worker.child)

    def _plan_workers(self, folders: Folders) -> list[Worker]:
        config, keys = self.inputs.config, self.inputs.keys
        if config is not None:
            wiring = Wiring(config=config, keys=keys, egress=self._egress)
        else:
            assert self._emulator is not None  # noqa: S101  there is one or the other
            demo = write_demo(folders.root, self._emulator)
            self.demo_key = demo.key if keys is None else None
            wiring = Wiring(
                config=demo.config,
                keys=keys or demo.keys,
                egress=self._egress,
                environ=demo.environ,
            )
        return service_workers(self.inputs, self._options, wiring, folders)

    def _bootstrap(self) -> dict[str, object]:
        endpoints: dict[str, list[str]] = {}
        for worker in self._workers:
            if worker.service == CALLKEEPER:
                # Whom Envoy does not ask.
                continue
            endpoints.setdefault(worker.service, []).append(worker.address)
        settings = self.inputs.settings
        ca_file = {"ca_file": self.inputs.ca_file}
        upstream = settings.upstream.model_copy(update=ca_file)
        changes = Changes(
            ingress=self._ingress,
            egress=self._egress,
            admin=self._admin,
            metrics=self._metrics[0] if self._metrics else None,
            has_metrics=bool(self._metrics),
            endpoints=endpoints,
            cors_origins=settings.cors_origins,
            websocket=settings.websocket,
            overload=settings.overload,
            passthrough=passthrough_cluster(settings, upstream),
            passthrough_timeout_s=settings.passthrough.timeout_s,
            tracing=settings.tracing,
            tracing_ca_file=upstream.ca_file,
            playground=envoy_dir() / "playground.html" if self.inputs.has_playground else None,
        )
        return self._make_bootstrap(changes)

    async def _wait_for(
        self,
        workers: Iterable[Worker],
        condition: Callable[[str], IsReady],
        *,
        envoy: bool = False,
    ) -> None:
        self._waiting = {worker.child.name: condition(worker.address) for worker in workers}
        if envoy:
            self._waiting[ENVOY] = envoy_is_ready(self._ingress_target)
            if self._emulator:
                self._waiting[EMULATOR] = emulator_is_ready(self._emulator)
        lost = self.supervisor.lost
        await wait_until_ready(self._waiting, lost)
        if lost:
            ends = (f"{name} ended with code {code}" for name, code in lost.items())
            raise self._not_ready(f"{', '.join(ends)}.", lost)

    def _not_ready(self, why: str, names: Iterable[str]) -> NotReadyError:
        ends = {name: self.folders.last_lines(name, _SHOWN_LINES) for name in names}
        return NotReadyError(why, self.folders.logs, ends)

    @property
    def _ingress_target(self) -> Address:
        host = self._ingress.host
        return Address(_WILDCARDS.get(host, host), self._ingress.port)
