"""What is compared: Ringback, LiteLLM, and an Envoy that asks nobody.

All of them have the same upstream. Ringback and LiteLLM look up the same virtual key in the same
database and remember it for the same time.
"""

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from bench.compare.envoys import EPHEMERAL_KEY, Envoy, bare_envoy, free_port
from bench.compare.load import Request
from bench.compare.processes import Program
from ringback.cli.plan import StackOptions

RINGBACK: Final = "ringback"
LITELLM: Final = "litellm"
BARE: Final = "bare"

MODEL: Final = "gpt-realtime"
LITELLM_WORKERS: Final = 2

MINT: Final = "mint"
CALL: Final = "call"
OPERATIONS: Final = (MINT, CALL)
PATHS: Final = {MINT: "/v1/realtime/client_secrets", CALL: "/v1/realtime/calls"}

_START_S: Final = 400.0
_PAUSE_S: Final = 0.01
_STANDIN: Final = Path(__file__).with_name("prismastandin")
_SALT: Final = "a salt for measurements only"
_MASTER_KEY: Final = "sk-master-key-for-measurements"


class StartError(Exception):
    """A system did not start, or answers what it should not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the systems share.

    Attributes:
        folder: For files.
        upstream: URL of the provider.
        database: URL of a Postgres with LiteLLM's schema.
        key: A virtual key that is in it.
        offer: An SDP offer, a file.
        litellm: The program.
    """

    folder: Path
    upstream: str
    database: str
    key: str
    offer: Path
    litellm: Path


class System(Protocol):
    """One of those that are compared."""

    name: str
    url: str
    ready_s: float
    """How long it took to its first good answer."""

    @property
    def is_started(self) -> bool:
        """Whether it has been started, and not been ended since."""

    @property
    def program(self) -> Program:
        """Its processes, once started."""

    def start(self) -> None:
        """Start it, without waiting until it is ready."""

    def wait(self) -> None:
        """Wait until it is ready."""

    def requests(self) -> dict[str, Request]:
        """Return what to post, by operation."""

    def stop(self) -> None:
        """End it."""


class _Gateway:
    """What Ringback and LiteLLM have in common."""

    name: str

    def __init__(self, world: World, model: str = MODEL) -> None:
        self.world = world
        self.ready_s = self._started = 0.0
        self.folder = world.folder / self.name
        self.folder.mkdir(exist_ok=True)
        self.url = ""
        self._program: Program | None = None
        self._body = _mint_body(self.folder, model)

    @property
    def program(self) -> Program:
        """Its processes."""
        if self._program is None:
            raise StartError(f"{self.name} has not been started")
        return self._program

    def requests(self) -> dict[str, Request]:
        """Return a mint with the virtual key, and a call with the token of such a mint."""
        mint = self.mint()
        token = json.loads(post(self.url, mint))["value"]
        call = Request(PATHS[CALL], _headers(token, "application/sdp"), self.world.offer)
        return {MINT: mint, CALL: call}

    def wait(self) -> None:
        """Wait until a mint succeeds, whose time counts, and then until a call does.

        Raises:
            StartError: If it ends, or takes too long.
        """
        wait_for(lambda: post(self.url, self.mint()), self.program)
        self.ready_s = time.monotonic() - self._started
        wait_for(lambda: post(self.url, self.requests()[CALL]), self.program)

    @property
    def is_started(self) -> bool:
        """Whether it has been started, and not been ended since."""
        return self._program is not None

    def stop(self) -> None:
        """End it."""
        program, self._program = self._program, None
        if program:
            program.stop()

    def mint(self) -> Request:
        """Return a mint with the virtual key."""
        return Request(PATHS[MINT], _headers(self.world.key, "application/json"), self._body)

    def _start(self, command: list[str], environ: Mapping[str, str]) -> None:
        log = self.folder / "log"
        self._started = time.monotonic()
        self._program = Program(command, log, environ)

    def _config(self, entries: list[dict[str, Any]], **general: object) -> Path:
        file = self.folder / "litellm.yaml"
        settings = {"master_key": _MASTER_KEY, "user_api_key_cache_ttl": 60, **general}
        config = {"model_list": entries, "general_settings": settings}
        file.write_text(json.dumps(config), encoding="utf-8")
        return file


class Ringback(_Gateway):
    """Everything that ``ringback up`` starts, with its defaults.

    Args:
        world: What all share.
        name: Of this one, where there are several.
        entries: Of ``model_list``.
        settings: On top of what is needed, as in ``ringback.yaml``.
        model: What mints are for.
    """

    def __init__(
        self,
        world: World,
        name: str = RINGBACK,
        entries: list[dict[str, Any]] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        model: str = MODEL,
    ) -> None:
        self.name = name
        super().__init__(world, model)
        self._entries = entries or [entry(MODEL, world.upstream)]
        self._settings = settings or {}

    def start(self) -> None:
        """Start it."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = self.folder / "ringback.yaml"
        settings.write_text(
            json.dumps(
                {
                    "token": {"secret": _SALT},
                    "database": {"url": self.world.database},
                    **self._settings,
                }
            ),
            encoding="utf-8",
        )
        flags = {
            "--config": self._config(self._entries),
            "--settings": settings,
            "--port": port,
            "--egress-port": 0,
            "--admin-port": 0,
        }
        options = [str(word) for pair in flags.items() for word in pair]
        self._start([str(Path(sys.executable).with_name("ringback")), "up", *options], os.environ)


class LiteLLM(_Gateway):
    """LiteLLM's proxy.

    Args:
        world: What all share.
    """

    name = LITELLM

    def start(self) -> None:
        """Start it."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        entries = [entry(MODEL, self.world.upstream)]
        flags = {
            "--config": self._config(entries, disable_prisma_schema_update=True),
            "--host": "127.0.0.1",
            "--port": port,
            "--num_workers": LITELLM_WORKERS,
            # Its supervisor kills workers that take more than 5 s to import everything.
            "--timeout_worker_healthcheck": round(_START_S),
        }
        options = [str(word) for pair in flags.items() for word in pair]
        environ = {
            **os.environ,
            "DATABASE_URL": self.world.database,
            "LITELLM_SALT_KEY": _SALT,
            "PYTHONPATH": str(_STANDIN),
            # What it advises for production, and no look at the internet.
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        self._start([str(self.world.litellm), *options], environ)


class Bare:
    """Envoy alone: what any gateway made of Envoy costs at least.

    Args:
        world: What all share.
    """

    name = BARE

    def __init__(self, world: World) -> None:
        self.world = world
        self.url = ""
        self.ready_s = 0.0
        self._envoy: Envoy = bare_envoy(world.folder, world.upstream, StackOptions().concurrency)
        self._body = _mint_body(world.folder)

    @property
    def program(self) -> Program:
        """Its process."""
        if self._envoy.program is None:
            raise StartError("bare Envoy has not been started")
        return self._envoy.program

    def start(self) -> None:
        """Start it."""
        self._envoy.start()
        self.url = self._envoy.url

    def wait(self) -> None:
        """Wait until it passes a mint on."""
        started = time.monotonic()
        wait_for(lambda: post(self.url, self.requests()[MINT]), self.program)
        self.ready_s = time.monotonic() - started

    def requests(self) -> dict[str, Request]:
        """Return what the upstream takes."""
        mint = Request(PATHS[MINT], _headers(self.world.key, "application/json"), self._body)
        call = Request(PATHS[CALL], _headers(EPHEMERAL_KEY, "application/sdp"), self.world.offer)
        return {MINT: mint, CALL: call}

    @property
    def is_started(self) -> bool:
        """Whether it has been started, and not been ended since."""
        return self._envoy.program is not None

    def stop(self) -> None:
        """End it."""
        self._envoy.stop()


def entry(group: str, upstream: str, **info: object) -> dict[str, Any]:
    """Return an entry of ``model_list``."""
    params = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "sk-upstream"}
    return {"model_name": group, "litellm_params": params, "model_info": info}


def wait_for(ask: Callable[[], object], program: Program) -> None:
    """Ask until there is a good answer.

    Raises:
        StartError: If the program ends, or takes too long.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and not program.has_ended:
        try:
            ask()
        except (OSError, http.client.HTTPException, StartError):
            time.sleep(_PAUSE_S)
        else:
            return
    raise StartError(f"There is no good answer. The end of {program.log}:\n{program.last_lines()}")


def post(url: str, request: Request) -> bytes:
    """Post once, see that the answer is what the operation is for, and return its body.

    Raises:
        StartError: If it is not.
    """
    connection = http.client.HTTPConnection(url.rpartition("/")[2], timeout=30)
    try:
        headers = dict(request.headers)
        connection.request("POST", request.path, request.body.read_bytes(), headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    is_good = (
        answer.status == 200 and json.loads(body).get("value")
        if request.path == PATHS[MINT]
        else answer.status == 201 and body.startswith(b"v=0")
    )
    if not is_good:
        raise StartError(f"{url}{request.path} answers {answer.status}: {body[:300]!r}")
    return body


def _mint_body(folder: Path, model: str = MODEL) -> Path:
    file = folder / "mint.json"
    body = {"session": {"type": "realtime", "model": model}}
    file.write_text(json.dumps(body), encoding="utf-8")
    return file


def _headers(credential: str, content_type: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}", "Content-Type": content_type}
