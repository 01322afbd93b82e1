"""The whole gateway in front of recording upstreams: real Envoy, real services."""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from extauthz.keys import hash_key
from helpers.dataplanes import OWN, DataPlane
from helpers.descriptions import OFFERS
from helpers.envoygateway.differences import SLOW_RECOVERY
from helpers.expect import ORIGIN
from helpers.gatewayfiles import KEY, TOKEN_SECRET, Files
from helpers.http11 import Header, Message, request_bytes, send
from helpers.load import Send
from helpers.recording import RecordingUpstream
from helpers.scraping import MetricsPorts
from ringback import health
from ringback.cli.stack import Stack
from ringback.processes import Child
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import token_sealer
from ringback.tokens.claims import CallClaims

OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]
OPENAI: Final = "/v1/realtime"
SHORT: Final = "/realtime"
AZURE: Final = "/openai/v1/realtime"
SDP_TYPE: Final = ("content-type", "application/sdp")
JSON_TYPE: Final = ("content-type", "application/json")

_WAIT_S: Final = 30.0


def bearer(credential: str) -> Header:
    """Return the header that shows a credential."""
    return ("authorization", f"Bearer {credential}")


class Caller:
    """Somebody downstream of a gateway."""

    __slots__ = ()

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        raise NotImplementedError

    @property
    def host(self) -> str:
        """The address of the gateway."""
        return "127.0.0.1"

    async def post(
        self, path: str, headers: Iterable[Header], body: bytes, *, origin: str | None = ORIGIN
    ) -> Message:
        """Send a POST over a connection of its own."""
        lines = [("origin", origin), *headers] if origin else list(headers)
        return await send(self.port, request_bytes("POST", path, lines, body), host=self.host)

    async def mint(
        self,
        model: str = "voice",
        *,
        key: str = KEY,
        prefix: str = OPENAI,
        headers: Iterable[Header] = (),
    ) -> Message:
        """Ask for a token."""
        lines = [bearer(key), JSON_TYPE, *headers]
        body = json.dumps({"session": {"type": "realtime", "model": model}}).encode()
        return await self.post(f"{prefix}/client_secrets", lines, body)

    async def token(self, model: str = "voice", *, key: str = KEY) -> str:
        """Return a token."""
        answer = await self.mint(model, key=key)
        assert answer.status == 200, answer.raw
        return str(answer.json()["value"])

    async def call(
        self,
        token: str,
        *,
        prefix: str = OPENAI,
        headers: Iterable[Header] = (),
        offer: bytes = OFFER,
    ) -> Message:
        """Send an offer."""
        lines = [bearer(token), SDP_TYPE, *headers]
        return await self.post(f"{prefix}/calls", lines, offer)

    async def hang_up(self, location: str, *, key: str = KEY) -> Message:
        """End a call.

        Args:
            location: That of its answer.
            key: Whose call it is.
        """
        return await self.post(f"{location}/hangup", [bearer(key)], b"")

    async def is_ready(self) -> bool:
        """Tell whether a call would find everything."""
        try:
            answer = await send(self.port, request_bytes("GET", "/readyz"), host=self.host)
        except (OSError, asyncio.IncompleteReadError):
            return False
        return answer.status == 200

    async def until_ready(self, timeout_s: float = _WAIT_S) -> None:
        """Wait until a call would find everything."""
        async with asyncio.timeout(timeout_s):
            while not await self.is_ready():  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.05)

    async def mixed(self) -> Send:
        """Return what sends calls with one token, and every fourth time mints."""
        token = await self.token()
        numbers = itertools.count()

        async def send_next() -> Message:
            return await (self.call(token) if next(numbers) % 4 else self.mint())

        return send_next

    async def pair(self) -> Message:
        """Mint and call at once, and return the answer to the call, or the refusal to mint."""
        minted = await self.mint()
        return await self.call(minted.json()["value"]) if minted.status == 200 else minted


class CallerAt(Caller):
    """Somebody who knows an address."""

    __slots__ = ("_host", "_port")

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._port = port
        self._host = host

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        return self._port

    @property
    def host(self) -> str:
        """The address of the gateway."""
        return self._host


@dataclass(frozen=True, slots=True)
class Gateway(Caller):
    """A running stack with its upstreams.

    Attributes:
        openai: Speaks plain HTTP.
        azure: Speaks TLS.
        metrics: Where its metrics are, if it has any.
        dataplane: What has made Envoy's configuration.
    """

    stack: Stack
    files: Files
    openai: RecordingUpstream
    azure: RecordingUpstream
    metrics: MetricsPorts | None = None
    dataplane: DataPlane = OWN

    @property
    def port(self) -> int:
        """Where downstreams connect."""
        return int(self.stack.url.rpartition(":")[2])

    @property
    def egress_port(self) -> int:
        """Envoy's listener for extauthz."""
        return int(self.stack.egress_url.rpartition(":")[2])

    @property
    def received(self) -> list[Message]:
        """What any upstream has received."""
        return [*self.openai.received, *self.azure.received]

    def reset(self) -> None:
        """Forget what upstreams have received, and their scripts."""
        self.openai.reset()
        self.azure.reset()

    def seal(self, *, secret: str = TOKEN_SECRET, **claims: Any) -> str:
        """Return a token as extauthz would make it, but for what is said otherwise."""
        now = int(time.time())
        made: dict[str, Any] = {
            "jti": "made-by-a-test",
            "iat": now,
            "exp": now + 60,
            "ek": Secret("ek_upstream_made_by_a_test"),
            "deployment": "voice-1",
            "origin": self.openai.url(),
            "calls_path": "/v1/realtime/calls",
            "auth_scheme": "bearer",
            "model": "voice",
            "key_hash": hash_key(Secret(KEY)),
            "session_type": "realtime",
        }
        made |= claims
        sealer = token_sealer(TokenSettings(secret=Secret(secret)), {})
        return sealer.seal(CallClaims(**made).to_claims(), made["iat"])

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a child."""
        os.kill(self.stack.pid_of(name), number)

    async def stop(self, *names: str) -> list[Child]:
        """Stop children that shall not come back, and return them for `start`."""
        running = self.stack.supervisor._running
        children = [running[name].child for name in names]
        await self.stack.supervisor.stop(names)
        return children

    async def start(self, children: Iterable[Child]) -> None:
        """Start children again and wait until they serve and Envoy knows it."""
        names = [child.name for child in children]
        for child in children:
            await self.stack.supervisor.start(child)
        await self.wait_for(*names)

    async def wait_for(self, *names: str) -> None:
        """Wait until workers serve and Envoy sends requests to all."""
        async with asyncio.timeout(_WAIT_S):
            for name in names:
                address = self.stack.folders.socket(name)
                while not await asyncio.to_thread(health.check, address, 1):  # noqa: ASYNC110  nor here
                    await asyncio.sleep(0.05)
            if SLOW_RECOVERY in self.dataplane.differences:
                return
            while await self._count_unhealthy():  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.05)

    async def _count_unhealthy(self) -> int:
        port = int(self.stack.admin_url.rpartition(":")[2])
        answer = await send(port, request_bytes("GET", "/clusters"))
        return answer.body.count(b"/failed_active_hc")

    def origin_of(self, model: str) -> str:
        """Return the origin of the one deployment of a model."""
        entries = json.loads(self.files.config.read_text())["model_list"]
        (entry,) = [entry for entry in entries if entry["model_name"] == model]
        return str(entry["litellm_params"]["api_base"])

    def logs(self) -> dict[str, str]:
        """Return what each child has logged."""
        return {name: self.stack.logs(name) for name in self.stack.supervisor.names}

    def access_log(self, listener: str = "ingress_http") -> list[dict[str, Any]]:
        """Return the lines of the access log of a listener that have been written by now."""
        lines = self.stack.logs("envoy").splitlines()
        # The last one may not be whole yet.
        entries = [json.loads(line) for line in lines if line[:1] == "{" and line[-1:] == "}"]
        return [entry for entry in entries if entry["listener"] == listener]

    async def logged(self, request_id: str) -> dict[str, Any]:
        """Return the access log's line of a request, which Envoy writes a little later."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [e for e in self.access_log() if e.get("request_id") == request_id]
            return bool(found)

        await until(is_there)
        (entry,) = found
        return entry


async def until(condition: Callable[[], bool], timeout_s: float = _WAIT_S) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: If it does not in time.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  what other processes do sets no event
            await asyncio.sleep(0.02)
