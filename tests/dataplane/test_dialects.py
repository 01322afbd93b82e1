"""Every dialect through the whole gateway: what its provider receives, byte by byte."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import trustme

from helpers.entra import SCOPE, TOKEN, identity_reply, login_refusal, login_reply
from helpers.expect import check_refusal
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import AZURE_KEY, KEY, KEYS, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET, Files
from helpers.handles import CALL_ID, sealed
from helpers.http11 import Header, Message
from helpers.recording import CALLS, CLIENT_SECRETS, JSON, RecordingUpstream, Reply, call_reply
from helpers.recording import minted_reply as current_reply
from helpers.secretscan import find_secrets
from helpers.wsclient import shake_hands
from ringback import __version__
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

EPHEMERAL_KEY: Final = "ek_upstream_of_this_test"
CLIENT_SECRET: Final = "client-secret-of-the-operator"
USER_AGENT: Final = ("user-agent", f"ringback/{__version__}")
OFFERS: Final = "realtimertc"
SESSIONS: Final = "sessions"
LOGIN: Final = "token"


@dataclass(frozen=True, slots=True)
class House:
    """A gateway, and what is around it beside OpenAI and Azure.

    Attributes:
        region: The preview's host for offers.
        entra: Entra ID.
        machine: The metadata service of the machine.
    """

    gateway: Gateway
    region: RecordingUpstream
    entra: RecordingUpstream
    machine: RecordingUpstream

    def reset(self) -> None:
        """Forget what anybody has received, and answer as everybody does."""
        self.gateway.reset()
        for upstream in (self.region, self.entra, self.machine):
            upstream.reset()
        for upstream in (self.gateway.openai, self.gateway.azure):
            upstream.script[CLIENT_SECRETS] = current_reply(EPHEMERAL_KEY)
        self.gateway.azure.script[SESSIONS] = preview_reply()
        self.region.script[OFFERS] = call_reply("rtc_of_the_preview")
        self.entra.script[LOGIN] = login_reply()
        self.machine.script[LOGIN] = identity_reply()

    async def mint(self, model: str, session: dict[str, Any] | None = None) -> Message:
        """Ask for a token."""
        body = {"session": {"type": "realtime", "model": model, **(session or {})}}
        lines = [bearer(KEY), JSON_TYPE]
        path = "/v1/realtime/client_secrets"
        return await self.gateway.post(path, lines, json.dumps(body).encode())


def preview_reply() -> Reply:
    """Return the preview's answer: a flat session with the key in it."""
    content = {
        "id": "sess_1",
        "model": "rt-deployment",
        "voice": "alloy",
        "client_secret": {"value": EPHEMERAL_KEY, "expires_at": 4_000_000_000},
    }
    return Reply(200, (JSON,), json.dumps(content).encode())


def entries(house: dict[str, str]) -> list[dict[str, Any]]:
    """Return one deployment for each dialect and login."""
    azure = {"model": "azure/rt-deployment", "api_base": house["azure"], "api_key": AZURE_KEY}
    login: dict[str, Any] = {name: value for name, value in azure.items() if name != "api_key"}
    openai = {"api_base": f"{house['openai']}/proxy/v1/", "api_key": OPENAI_KEY}
    client = {"tenant_id": "tenant-1", "client_id": "client-1", "client_secret": CLIENT_SECRET}
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "openai": (
            {
                "model": "openai/gpt-realtime",
                "organization": "org-1",
                "project": "proj_1",
                "extra_headers": {"X-Gateway": "g"},
                **openai,
            },
            {},
        ),
        "compatible": ({"model": "hosted_vllm/voice-realtime", **openai}, {}),
        "azure": ({**azure, "api_base": f"{house['azure']}/openai/v1/"}, {}),
        "azure-v1": ({**azure, "api_version": "preview"}, {}),
        "filtered": (azure, {"webrtcfilter": True}),
        "azure-dated": ({**azure, "api_version": "2025-08-28"}, {}),
        "azure-set": ({**azure, "api_version": "2025-08-28"}, {"dialect": "azure"}),
        "azure-preview": (azure, {"calls_base": house["region"]}),
        "either": ({**azure, "order": 1}, {"calls_base": house["region"]}),
        "client": ({**login, **client}, {}),
        "locked-out": ({**login, **client, "client_id": "client-2"}, {}),
        "mixed": ({**login, **client, "client_id": "client-3", "order": 1}, {}),
        "machine": (login, {"credential": "managed_identity"}),
        "token": ({**login, "azure_ad_token": "token-of-the-operator"}, {}),
    }
    made = [
        {"model_name": name, "litellm_params": params, "model_info": {"id": name, "ringback": own}}
        for name, (params, own) in found.items()
    ]
    second = {"litellm_params": {**azure, "order": 2}}
    return [*made, *({**second, "model_name": name} for name in ("mixed", "either"))]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_house(
    authority: trustme.CA, ca_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """Run the gateway; use `house`, which also cleans up."""
    files = Files(tmp_path_factory.mktemp("dialects"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    async with (
        RecordingUpstream() as openai,
        RecordingUpstream(tls) as azure,
        RecordingUpstream(tls) as region,
        RecordingUpstream(tls) as entra,
        RecordingUpstream() as machine,
    ):
        urls = {
            "openai": openai.url(),
            "azure": azure.url("localhost"),
            "region": region.url("localhost"),
        }
        files.write_config(entries(urls))
        files.write_keys()
        files.write_settings(upstream={"ca_file": str(ca_file)})
        environ = {
            "AZURE_AUTHORITY_HOST": entra.url("localhost"),
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": machine.url(),
        }
        async with Stack(replace(files.options(), environ=environ)) as stack:
            yield House(Gateway(stack, files, openai, azure), region, entra, machine)
            secrets = (*KEYS, MASTER_KEY, AZURE_KEY, TOKEN_SECRET, CLIENT_SECRET, TOKEN)
            for name in stack.supervisor.names:
                assert find_secrets(stack.logs(name), *secrets) == set(), name


@pytest.fixture
def house(shared_house: House) -> House:
    """A gateway whose upstreams have received nothing yet."""
    shared_house.reset()
    return shared_house


def seen(request: Message) -> tuple[str, list[Header], bytes]:
    """Return everything of a request."""
    head = request.raw.removesuffix(request.body)
    assert head.count(b"\r\n") == len(request.headers) + 2
    return request.start_line, sorted(request.headers), request.body


def mint_of(
    path: str, host: str, *headers: Header, body: bytes = b""
) -> tuple[str, list[Header], bytes]:
    """Return the mint request that an upstream must receive."""
    common = [
        ("host", host),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        USER_AGENT,
    ]
    return f"POST {path} HTTP/1.1", sorted([*common, *headers]), body


def call_of(
    path: str, host: str, request_id: str, *headers: Header
) -> tuple[str, list[Header], bytes]:
    """Return the call that an upstream must receive."""
    common = [
        ("host", host),
        ("authorization", f"Bearer {EPHEMERAL_KEY}"),
        ("accept", "application/sdp"),
        ("content-type", "application/sdp"),
        ("content-length", str(len(OFFER))),
        ("x-request-id", request_id),
        USER_AGENT,
    ]
    return f"POST {path} HTTP/1.1", sorted([*common, *headers]), OFFER


RT: Final = b'{"session":{"type":"realtime","model":"rt-deployment"}}'
AZURE: Final = "/openai/v1/realtime"
DATED: Final = "/openai/realtime"
VERSION: Final = "?api-version=2025-08-28"
API_KEY: Final = ("api-key", AZURE_KEY)
CURRENT: Final = (f"{AZURE}/client_secrets", [API_KEY], RT)
CURRENT_TARGETS: Final = [
    f"{AZURE}/calls/{CALL_ID}/hangup",
    f"{AZURE}?call_id={CALL_ID}",
    f"{AZURE}?model=rt-deployment",
]


@pytest.mark.parametrize(
    ("model", "at", "minted", "calls_path"),
    [
        # Realistic
        pytest.param(
            "openai",
            "openai",
            (
                "/proxy/v1/realtime/client_secrets",
                [
                    bearer(OPENAI_KEY),
                    ("openai-organization", "org-1"),
                    ("openai-project", "proj_1"),
                    ("x-gateway", "g"),
                ],
                b'{"session":{"type":"realtime","model":"gpt-realtime"}}',
            ),
            "/proxy/v1/realtime/calls",
            id="openai",
        ),
        pytest.param(
            "compatible",
            "openai",
            (
                "/proxy/v1/realtime/client_secrets",
                [bearer(OPENAI_KEY)],
                b'{"session":{"type":"realtime","model":"voice-realtime"}}',
            ),
            "/proxy/v1/realtime/calls",
            id="openai-compatible",
        ),
        pytest.param("azure", "azure", CURRENT, f"{AZURE}/calls", id="azure"),
        pytest.param(
            "azure-v1", "azure", CURRENT, f"{AZURE}/calls", id="azure-version-without-a-date"
        ),
        pytest.param(
            "filtered", "azure", CURRENT, f"{AZURE}/calls?webrtcfilter=on", id="azure-filtered"
        ),
        pytest.param(
            "azure-dated",
            "azure",
            (f"{DATED}/client_secrets{VERSION}", [API_KEY], RT),
            f"{DATED}/calls{VERSION}",
            id="azure-dated",
        ),
        pytest.param("azure-set", "azure", CURRENT, f"{AZURE}/calls", id="azure-dialect-set"),
        pytest.param(
            "token",
            "azure",
            (f"{AZURE}/client_secrets", [bearer("token-of-the-operator")], RT),
            f"{AZURE}/calls",
            id="azure-token",
        ),
    ],
)
async def test_providers_receive_exactly_this(
    house: House, model: str, at: str, minted: tuple[str, list[Header], bytes], calls_path: str
) -> None:
    """A mint and a call are one request each, with these paths, headers and bodies."""
    gateway = house.gateway
    upstream = gateway.openai if at == "openai" else gateway.azure
    extra = [("x-gateway", "g")] if model == "openai" else []
    host = f"{'127.0.0.1' if at == 'openai' else 'localhost'}:{upstream.port}"
    answer = await house.mint(model)
    assert answer.status == 200, answer.raw
    called = await gateway.call(answer.json()["value"])
    assert called.status == 201, called.raw
    first, second = gateway.received
    assert [first, second] == upstream.received
    path, headers, body = minted
    assert seen(first) == mint_of(path, host, *headers, body=body)
    request_id = called.header("x-request-id") or ""
    assert seen(second) == call_of(calls_path, host, request_id, *extra)
    assert house.region.received == house.entra.received == house.machine.received == []


async def test_the_preview_mints_here_and_calls_there(house: House) -> None:
    """Sessions are flat and made at the resource; offers go to the region, with the model."""
    session = {"audio": {"output": {"voice": "alloy"}}, "output_modalities": ["audio"]}
    answer = await house.mint("azure-preview", session)
    assert answer.status == 200, answer.raw
    assert EPHEMERAL_KEY.encode() not in answer.raw
    assert answer.json()["value"] == answer.json()["client_secret"]["value"]
    called = await house.gateway.call(answer.json()["value"])
    assert called.status == 201, called.raw
    (minted,) = house.gateway.received
    (call,) = house.region.received
    assert seen(minted) == mint_of(
        "/openai/realtimeapi/sessions?api-version=2025-04-01-preview",
        f"localhost:{house.gateway.azure.port}",
        API_KEY,
        body=b'{"model":"rt-deployment","modalities":["text","audio"],"voice":"alloy"}',
    )
    assert seen(call) == call_of(
        "/v1/realtimertc?model=rt-deployment",
        f"localhost:{house.region.port}",
        called.header("x-request-id") or "",
    )


@pytest.mark.parametrize(
    ("model", "query", "path"),
    [
        # Realistic
        pytest.param("azure", "?webrtcfilter=on", f"{AZURE}/calls?webrtcfilter=on", id="asked"),
        pytest.param(
            "azure-dated",
            "?webrtcfilter=on",
            f"{DATED}/calls{VERSION}&webrtcfilter=on",
            id="asked-dated",
        ),
        pytest.param(
            "filtered", "?webrtcfilter=off", f"{AZURE}/calls?webrtcfilter=on", id="not-turned-off"
        ),
        pytest.param("openai", "?webrtcfilter=on", "/proxy/v1/realtime/calls", id="openai"),
        pytest.param("azure", "?model=x&api-version=1", f"{AZURE}/calls", id="nothing-else"),
        # Pathological
        pytest.param(
            "filtered",
            "?webrtcfilter=off&webrtcfilter=on",
            f"{AZURE}/calls?webrtcfilter=on",
            id="both",
        ),
        pytest.param("azure", "?webrtcfilter=on%26x=1", f"{AZURE}/calls", id="more-inside"),
        pytest.param("azure", "?webrtcfilter", f"{AZURE}/calls", id="no-value"),
    ],
)
async def test_a_caller_may_ask_for_the_filter(
    house: House, model: str, query: str, path: str
) -> None:
    """The filter passes where Azure knows it; nothing else does, and nobody turns it off."""
    token = (await house.mint(model)).json()["value"]
    house.gateway.reset()
    lines = [bearer(token), ("content-type", "application/sdp")]
    answer = await house.gateway.post(f"/v1/realtime/calls{query}", lines, OFFER)
    assert answer.status == 201, answer.raw
    (call,) = house.gateway.received
    assert call.target == path


@pytest.mark.parametrize(
    ("model", "targets", "credential"),
    [
        # Realistic
        pytest.param(
            "openai",
            [
                f"/proxy/v1/realtime/calls/{CALL_ID}/hangup",
                f"/proxy/v1/realtime?call_id={CALL_ID}",
                "/proxy/v1/realtime?model=gpt-realtime",
            ],
            bearer(OPENAI_KEY),
            id="openai",
        ),
        pytest.param("azure", CURRENT_TARGETS, API_KEY, id="azure"),
        pytest.param(
            "azure-dated",
            [
                f"{DATED}/calls/{CALL_ID}/hangup{VERSION}",
                f"{AZURE}?call_id={CALL_ID}",
                f"{DATED}{VERSION}&deployment=rt-deployment",
            ],
            API_KEY,
            id="azure-dated",
        ),
        pytest.param("token", CURRENT_TARGETS, bearer("token-of-the-operator"), id="azure-token"),
    ],
)
async def test_commands_and_websockets_of_a_dialect(
    house: House, model: str, targets: list[str], credential: Header
) -> None:
    """A hangup, a sideband and a conversation have these paths and the deployment's credential."""
    gateway, handle = house.gateway, sealed(deployment=model)
    upstream = gateway.openai if model == "openai" else gateway.azure
    upstream.script["hangup"] = Reply(200)
    path = f"/v1/realtime/calls/{handle}/hangup"
    assert (await gateway.post(path, [bearer(KEY)], b"")).status == 200
    for query in (f"call_id={handle}", f"model={model}"):
        answer = await shake_hands(gateway, f"/v1/realtime?{query}", bearer(KEY))
        assert answer.status == 101, answer.raw
    assert gateway.received == upstream.received
    assert [request.target for request in upstream.received] == targets
    for request in upstream.received:
        found = {name: request.header(name) for name in ("authorization", "api-key")}
        assert found == {"authorization": None, "api-key": None} | dict([credential])
        assert request.header("x-gateway") == ("g" if model == "openai" else None)


async def test_calls_of_the_preview_take_no_commands(house: House) -> None:
    """What the preview has no word for is 400 and reaches nobody; a WebSocket has its own path."""
    gateway, handle = house.gateway, sealed(deployment="azure-preview")
    for verb, body in (("hangup", b""), ("accept", b"{}"), ("refer", b'{"target_uri":"tel:+1"}')):
        path = f"/v1/realtime/calls/{handle}/{verb}"
        answer = await gateway.post(path, [bearer(KEY), JSON_TYPE], body)
        check_refusal(answer, 400, "unsupported_by_provider")
    answer = await shake_hands(gateway, f"/v1/realtime?call_id={handle}", bearer(KEY))
    assert (answer.status, answer.error["code"]) == (400, "unsupported_by_provider")
    assert gateway.received == house.region.received == []
    answer = await shake_hands(gateway, "/v1/realtime?model=azure-preview", bearer(KEY))
    assert answer.status == 101, answer.raw
    (request,) = gateway.received
    assert request.target == (
        "/openai/realtime?api-version=2025-04-01-preview&deployment=rt-deployment"
    )


async def test_who_cannot_transcribe_is_not_asked(house: House) -> None:
    """A transcription goes to a deployment of the group that has such sessions, if there is one."""
    answer = await house.mint("either", transcription_of("either"))
    assert answer.status == 200, answer.raw
    (minted,) = house.gateway.received
    assert minted.target == f"{AZURE}/client_secrets"
    assert (await house.mint("either")).status == 200
    assert "/realtimeapi/sessions" in house.gateway.received[1].target
    house.reset()
    refused = await house.mint("azure-preview", transcription_of("azure-preview"))
    check_refusal(refused, 400, "invalid_body")
    assert house.gateway.received == []


def transcription_of(model: str) -> dict[str, Any]:
    """Return what makes a session a transcription by a model."""
    return {"type": "transcription", "audio": {"input": {"transcription": {"model": model}}}}


async def test_a_call_with_a_key_speaks_the_dialect(house: House) -> None:
    """Without a token in between, the mint and the call are those of the deployment's dialect."""
    for model, targets in (
        ("azure-dated", [f"{DATED}/client_secrets{VERSION}", f"{DATED}/calls{VERSION}"]),
        ("filtered", [f"{AZURE}/client_secrets", f"{AZURE}/calls?webrtcfilter=on"]),
        ("token", [f"{AZURE}/client_secrets", f"{AZURE}/calls"]),
    ):
        house.gateway.reset()
        house.gateway.azure.script[CLIENT_SECRETS] = current_reply(EPHEMERAL_KEY)
        path = f"/v1/realtime/calls?model={model}"
        answer = await house.gateway.post(path, [bearer(KEY), SDP_TYPE], OFFER)
        assert answer.status == 201, answer.raw
        assert [request.target for request in house.gateway.received] == targets
        call = house.gateway.received[1]
        assert call.header("authorization") == f"Bearer {EPHEMERAL_KEY}"
        assert call.body == OFFER


async def test_a_client_secret_opens_azure(house: House) -> None:
    """The first mint logs in through Envoy, over TLS; the next ones use its token."""
    for _ in range(3):
        answer = await house.mint("client")
        assert answer.status == 200, answer.raw
    (login,) = house.entra.received
    assert login.start_line == "POST /tenant-1/oauth2/v2.0/token HTTP/1.1"
    assert login.header("host") == f"localhost:{house.entra.port}"
    assert login.header("x-forwarded-for") is None
    assert CLIENT_SECRET.encode() in login.body
    assert SCOPE.rpartition("/")[2].encode() in login.body
    host = f"localhost:{house.gateway.azure.port}"
    expected = mint_of(f"{AZURE}/client_secrets", host, bearer(TOKEN), body=RT)
    assert [seen(request) for request in house.gateway.received] == [expected] * 3


async def test_a_managed_identity_opens_azure(house: House) -> None:
    """The metadata service sees its own header, and none that it would refuse."""
    answer = await house.mint("machine")
    assert answer.status == 200, answer.raw
    (login,) = house.machine.received
    assert login.start_line.startswith("GET /metadata/identity/oauth2/token?api-version=2018-02-01")
    assert login.header("metadata") == "true"
    assert login.header("x-forwarded-for") is None
    (minted,) = house.gateway.received
    assert minted.header("authorization") == f"Bearer {TOKEN}"
    assert minted.header("api-key") is None


async def test_what_quotes_a_token_stays_inside(house: House) -> None:
    """A provider's refusal that holds the token of Entra ID reaches nobody."""
    error = {"error": {"message": f"bad token {TOKEN}", "code": "x", "type": "y", "param": None}}
    house.gateway.azure.script[CLIENT_SECRETS] = Reply(400, (JSON,), json.dumps(error).encode())
    answer = await house.mint("client")
    assert answer.status == 400
    assert TOKEN.encode() not in answer.raw


async def test_a_failed_login_is_an_answer(house: House) -> None:
    """Without a token the provider is not asked, and the caller is told 503 and no secret."""
    house.entra.script[LOGIN] = login_refusal(quoted=CLIENT_SECRET)
    answer = await house.mint("locked-out")
    check_refusal(answer, 503, "upstream_login_failed")
    assert CLIENT_SECRET.encode() not in answer.raw
    assert house.gateway.received == []
    # Not every request asks again.
    assert (await house.mint("locked-out")).status == 503
    assert len(house.entra.received) == 1


async def test_a_failed_login_is_a_failed_deployment(house: House) -> None:
    """While another deployment of the group can mint, no caller sees that a login fails."""
    house.entra.script[LOGIN] = login_refusal(quoted=CLIENT_SECRET)
    answer = await house.mint("mixed")
    assert answer.status == 200, answer.raw
    assert len(house.entra.received) == 1
    (minted,) = house.gateway.received
    assert minted.header("api-key") == AZURE_KEY


async def test_calls_end_so(house: House) -> None:
    """Every call's id is sealed, whatever the dialect."""
    answer = await house.gateway.call((await house.mint("azure-preview")).json()["value"])
    assert "rtc_of_the_preview" not in answer.raw.decode()
    assert (answer.header("location") or "").startswith("/v1/realtime/calls/rtc_")
    assert house.gateway.openai.received_at(CALLS) == []
