"""The upstream and the database that all systems share, and runs of wrk against one of them."""

import hashlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.compare.envoys import Envoy, stub_upstream
from bench.compare.load import Load, LoadError, Request, run
from bench.compare.processes import cpu_by_kind_s, cpu_s
from bench.compare.quiet import Quiet
from bench.compare.results import Sample
from bench.compare.systems import MODEL, System, World, post
from helpers.postgres import Database, PostgresServer

_DESCRIPTIONS: Final = Path(__file__).parents[2] / "tests" / "data" / "sdp"
_OFFER: Final = _DESCRIPTIONS / "offer_chromium156_audio_dc_initial.sdp"
_ANSWER: Final = _DESCRIPTIONS / "answer_openai_2026-08-17_ga_calls.sdp"
KEY_ALIAS: Final = "bench"
_KEY: Final = "sk-virtual-key-for-measurements"
# After a run: requests that were under way reach the upstream until nothing comes for so long.
_CALM_S: Final = 0.4
_POSTGRES: Final = {"shared_buffers": "256MB", "max_wal_size": "4GB", "max_connections": "100"}


@dataclass(frozen=True, slots=True)
class Rig:
    """What runs as long as anything is measured.

    Attributes:
        world: What systems share.
        stub: The upstream.
        postgres: The server of the database.
        quiet: Repeats runs that were disturbed.
    """

    world: World
    stub: Envoy
    postgres: PostgresServer
    quiet: Quiet

    def measure(
        self,
        system: System,
        request: Request,
        connections: int,
        seconds: int,
        keys: tuple[int, int] | None = None,
    ) -> Sample:
        """Put load on a system; see that each request reached the upstream, once.

        Args:
            system: Which one.
            request: What to send.
            connections: How many requests are under way at any moment.
            seconds: How long.
            keys: As in `bench.compare.load.run`; what the database uses counts too then.

        Raises:
            BusyError: If the machine was busy.
            LoadError: If requests failed, or did not reach the upstream.
        """
        measured = [system.program.pid, *([self.postgres.pid] if keys else [])]
        known = {system.program.pid, self._stub_pid, self.postgres.pid}
        used: dict[str, float] = {}

        def work() -> Load:
            post(system.url, request)
            served = self._settle()
            before = cpu_by_kind_s(measured)
            load = run(system.url, request, connections, seconds, keys)
            after = cpu_by_kind_s(measured)
            used.update({kind: after[kind] - before.get(kind, 0.0) for kind in after})
            self._check(load, served, connections)
            return load

        load = self.quiet.run(work, lambda: cpu_s(known))
        return Sample(
            per_s=round(load.per_s, 1),
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            cpu_us={kind: round(took / load.requests * 1e6, 1) for kind, took in used.items()},
        )

    def stub_per_s(self, request: Request, seconds: int) -> float:
        """Return how many requests the upstream answers in a second without anything before it."""
        load = self.quiet.run(
            lambda: run(self.stub.url, request, 64, seconds),
            lambda: cpu_s([self._stub_pid]),
        )
        return round(load.per_s, 1)

    @property
    def _stub_pid(self) -> int:
        assert self.stub.program is not None  # noqa: S101  it runs as long as the rig
        return self.stub.program.pid

    def _settle(self) -> int:
        """Wait until the last run is over, and return what the upstream has answered by then."""
        served = -1
        while (now := self.stub.answered()) != served:
            served = now
            time.sleep(_CALM_S)
        return served

    def _check(self, load: Load, served: int, connections: int) -> None:
        reached = self.stub.answered() - served
        # Those that were under way at the end.
        if not load.requests <= reached <= load.requests + 2 * connections:
            raise LoadError(f"{load.requests} requests were answered, {reached} reached upstream")


@contextmanager
def rig(quiet: Quiet, litellm: Path) -> Iterator[Rig]:
    """Start what all systems share.

    Args:
        quiet: Repeats runs that were disturbed.
        litellm: The program.
    """
    # Whatever has been started is ended then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with (
        tempfile.TemporaryDirectory(prefix="ringback-bench-") as name,
        PostgresServer(**_POSTGRES) as server,
    ):
        folder = Path(name)
        database = server.create_database()
        _add_key(database)
        stub = stub_upstream(folder, _ANSWER)
        stub.start()
        try:
            world = World(
                folder=folder,
                upstream=stub.url,
                database=database.url,
                key=_KEY,
                offer=_OFFER,
                litellm=litellm,
            )
            yield Rig(world, stub, server, quiet)
        finally:
            stub.stop()


def _add_key(database: Database) -> None:
    hashed = hashlib.sha256(_KEY.encode()).hexdigest()
    statement = (
        'INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, models)'
        " VALUES (%s, 'sk-...', %s, %s)"
    )
    database.execute(statement, hashed, KEY_ALIAS, [MODEL])
    database.close()
