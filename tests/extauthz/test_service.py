import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode, aio
from structlog.testing import capture_logs

from envoyapi.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoyapi.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoyapi.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from envoyapi.service.cluster.v3.cds_pb2_grpc import ClusterDiscoveryServiceStub
from envoyapi.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from extauthz.catalogue import Catalogue
from extauthz.clusters import snapshot_of
from extauthz.configuration import Configuration, ConfigurationKeeper, load_configuration
from extauthz.deployments import Deployment
from extauthz.discovery import ClusterDiscovery
from extauthz.egress import Egress
from extauthz.keys import KeyQuery, KeySources, MasterKeySource, VirtualKey
from extauthz.keys.stores import KeyStores
from extauthz.routing import Router
from extauthz.service import ExtAuthz
from helpers.authz import EPHEMERAL_KEY, OPENAI, Clock, Config, gate, sealer, settings, write_config
from helpers.authz import minter as make_minter
from helpers.listener import Listener, Turn, listening
from helpers.recording import JSON, Reply
from ringback.secrets import Secret

MASTER = "sk-master-0123456789"
MINT = "/v1/realtime/client_secrets"
CALLS = "/v1/realtime/calls"


class Service:
    """The service on a server of its own, and Envoy's side of it."""

    def __init__(self, listener: Listener, folder: Path) -> None:
        self.listener = listener
        self.clock: Callable[[], float] = Clock()
        self.config = folder / "config.yaml"
        params = {"model": "openai/gpt-realtime", "api_key": "sk-upstream"}
        entry = {"model_name": "voice", "litellm_params": params}
        write_config(self.config, entry, general_settings={"master_key": MASTER})
        self.settings = settings(config_file=self.config)
        self.configuration: Callable[[], Configuration] | None = None
        self.router = Router()
        self.port = 0
        # Requests that are under way when the server stops; the channel waits for them.
        self.asked: list[asyncio.Task[CheckResponse]] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[aio.Channel]:
        """Run the service as a worker does, and connect to it."""
        egress, seal = Egress.through(self.listener.url), sealer()
        stores = KeyStores(self.settings, egress)
        configuration = load_configuration(self.settings, stores)
        discovery = ClusterDiscovery(snapshot_of(configuration.origins, self.settings.upstream))
        keeper = ConfigurationKeeper(configuration, self.settings, discovery)
        minter = make_minter(egress, seal, self.settings, self.clock, router=self.router)
        current = self.configuration or (lambda: keeper.current)
        decider = gate(current, minter, seal, self.clock)
        service = ExtAuthz(decider, keeper, discovery, egress, stores)
        server = aio.server()
        service.register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await service.start()
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
            await service.drain()
            started = time.monotonic()
            await server.stop(15)
            assert time.monotonic() - started < 10
            await asyncio.gather(*self.asked)
        await service.stop()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Return the service, ready to be served, with a provider on loopback."""
    async with listening() as listener:
        yield Service(listener, tmp_path)


async def check(
    channel: aio.Channel,
    path: str,
    credential: str = MASTER,
    *,
    timeout_s: float = 10,
) -> CheckResponse:
    """Ask as Envoy does."""
    headers = {"authorization": f"Bearer {credential}", "x-request-id": "request-1"}
    request = AttributeContext.HttpRequest(method="POST", path=path, headers=headers)
    attributes = AttributeContext(request=AttributeContext.Request(http=request))
    stub: Any = AuthorizationStub(channel)
    response: CheckResponse = await stub.Check(
        CheckRequest(attributes=attributes), timeout=timeout_s
    )
    return response


def mark_of(response: CheckResponse) -> set[str]:
    """Return which marks of the interlock a response carries."""
    return {"checked", "answered"} & MessageToDict(response.dynamic_metadata).keys()


async def test_a_conversation_begins(service: Service) -> None:
    """Over gRPC a key becomes a token and the token an upstream request."""
    service.listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
    async with service.serving() as channel:
        minted = await check(channel, MINT)
        assert minted.status.code == 7
        assert int(minted.denied_response.status.code) == 200
        assert mark_of(minted) == {"answered"}
        call = await check(channel, CALLS, json.loads(minted.denied_response.body)["value"])
    assert call.status.code == 0
    assert mark_of(call) == {"checked"}
    headers = {option.header.key: option.header.value for option in call.ok_response.headers}
    assert headers["authorization"] == f"Bearer {EPHEMERAL_KEY}"


async def test_clusters_are_served_on_the_same_server(service: Service) -> None:
    """Envoy gets its clusters where it asks for decisions; an open stream holds up no stop."""
    async with service.serving() as channel:
        stub: Any = ClusterDiscoveryServiceStub(channel)
        stream = stub.StreamClusters()
        await stream.write(DiscoveryRequest())
        response = await stream.read()
        assert b"api.openai.com" in response.resources[0].value


async def test_what_is_refused_is_no_error(service: Service) -> None:
    """A refusal is an answer: gRPC status OK, a denial inside, and no line in the log."""
    with capture_logs() as logs:
        async with service.serving() as channel:
            for path, credential in ((MINT, "sk-unknown"), (CALLS, "ek_x"), ("/other", MASTER)):
                response = await check(channel, path, credential)
                assert response.status.code == 7
                assert mark_of(response) == {"answered"}
    assert logs == []


def fail_with(error: BaseException) -> Callable[..., NoReturn]:
    """Return a function that fails."""

    def fail(*_arguments: object) -> NoReturn:
        raise error

    return fail


class Failing:
    """A key source that fails, or finds what it was given."""

    def __init__(self, error: BaseException | None = None, key: VirtualKey | None = None) -> None:
        self._error = error
        self._key = key

    async def find(self, query: KeyQuery) -> VirtualKey | None:  # noqa: ARG002  a KeySource
        """Fail."""
        if self._error is not None:
            raise self._error
        return self._key


def configured(
    *sources: Failing | MasterKeySource,
    deployment: Deployment = OPENAI,
) -> Callable[[], Configuration]:
    """Return a configuration in which something may be wrong."""
    catalogue = Catalogue(Config((deployment,)))
    return lambda: Configuration(catalogue, KeySources(*sources), None, None, {}, {})


GOOD_KEYS = MasterKeySource(Secret(MASTER))
ODD_KEY = VirtualKey("a" * 64, alias="\udcff-marker")
# Text that only an error that is shown would show.
MARKED = RuntimeError("sk-marker")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        # Realistic
        pytest.param({"configuration": configured(Failing(MARKED))}, "RuntimeError", id="keys"),
        pytest.param(
            {"configuration": configured(Failing(ConnectionError("sk-marker")))},
            "ConnectionError",
            id="database",
        ),
        pytest.param({"clock": fail_with(OSError("sk-marker"))}, "OSError", id="clock"),
        # Synthetic
        pytest.param({"configuration": fail_with(MARKED)}, "RuntimeError", id="configuration"),
        pytest.param(
            {
                "configuration": configured(GOOD_KEYS),
                "router": Router(fail_with(KeyError("sk-marker"))),
            },
            "KeyError",
            id="choice",
        ),
        pytest.param(
            {
                "configuration": configured(
                    GOOD_KEYS, deployment=replace(OPENAI, api_key=Secret("sk-marker\n"))
                )
            },
            "ValueError",
            id="header",
        ),
        # Pathological
        pytest.param(
            {"configuration": configured(Failing(key=ODD_KEY))}, "UnicodeEncodeError", id="label"
        ),
        pytest.param(
            {"configuration": configured(Failing(RecursionError()))}, "RecursionError", id="stack"
        ),
        pytest.param(
            {"configuration": configured(Failing(MemoryError()))}, "MemoryError", id="memory"
        ),
        pytest.param({"clock": lambda: "now"}, "TypeError", id="type"),
    ],
)
async def test_whatever_fails_nothing_passes(
    service: Service, change: dict[str, Any], error: str
) -> None:
    """An error anywhere is status INTERNAL, logged once with the request's id, not its text."""
    for name, value in change.items():
        setattr(service, name, value)
    with capture_logs() as logs:
        async with service.serving() as channel:
            service.listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
            with pytest.raises(aio.AioRpcError) as failed:
                await check(channel, MINT)
    assert failed.value.code() is StatusCode.INTERNAL
    assert failed.value.details() == "the request cannot be decided"
    (line,) = logs
    assert line == {
        "event": "check_failed",
        "log_level": "error",
        "request_id": "request-1",
        "error": error,
        "at": line["at"],
    }
    assert "marker" not in str(logs)


async def test_a_cancelled_decision_is_no_consent(service: Service) -> None:
    """A decision that is cancelled inside is never answered; Envoy's deadline then refuses."""
    service.configuration = configured(Failing(asyncio.CancelledError()))
    async with service.serving() as channel:
        with pytest.raises(aio.AioRpcError) as failed:
            await check(channel, MINT, timeout_s=0.3)
    assert failed.value.code() is StatusCode.DEADLINE_EXCEEDED


async def test_no_message_is_consent_by_accident(service: Service) -> None:
    """Whatever bytes come as a request, no answer is empty, and none consents."""
    bodies = [b"", b"\xff" * 20, CheckRequest().SerializeToString(), b"\x0a\x02\x22\x00"]
    async with service.serving() as channel:
        method: Any = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        for body in bodies:
            try:
                answer = await method(body, timeout=5)
            except aio.AioRpcError as error:
                assert error.code() is not StatusCode.OK  # noqa: PT017  both ways are right
            else:
                assert CheckResponse.FromString(answer).status.code == 7


async def test_a_request_in_flight_is_finished(service: Service) -> None:
    """A worker that stops first ends the decisions that it began."""
    reply = Reply(200, (JSON,), b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
    service.listener.turns.append(Turn(reply.to_bytes(), delay_s=0.3))
    async with service.serving() as channel:
        service.asked.append(asyncio.create_task(check(channel, MINT)))
        await service.listener.received.wait()
    assert int(service.asked[0].result().denied_response.status.code) == 200
