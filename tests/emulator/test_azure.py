"""Azure's other dialects: the paths with an api-version, the preview, and Entra ID's tokens."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from emulator.entra import LIFETIME_S, EntraId
from emulator.errors import ApiError
from emulator.options import Options
from emulator.server import Emulator
from emulator.sessions import Credential
from helpers.appbackend import AppBackend
from helpers.descriptions import OFFERS
from helpers.voiceclient import VoiceClient

KEY: Final = {"api-key": "0123456789abcdef"}
SDP: Final = {"Content-Type": "application/sdp"}
VERSION: Final = "?api-version=2025-04-01-preview"
DATED: Final = "/openai/realtime"
CURRENT: Final = "/openai/v1/realtime"
PREVIEW: Final = "/openai/realtimeapi/sessions"
PREVIEW_CALLS: Final = "/v1/realtimertc"
SESSION: Final = {"type": "realtime", "model": "my-deployment"}
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]
ENTRA: Final = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"


@pytest.fixture
async def emulator(clean_loop: None) -> AsyncIterator[Emulator]:  # noqa: ARG001 - order
    """An emulator that waits to be spoken to, and knows what Entra ID has issued."""
    options = Options(greet=False, entra_tokens=frozenset({ENTRA}))
    async with Emulator(options) as running:
        yield running


class Azure:
    """A client of the emulator that looks at statuses and bodies."""

    def __init__(self, http: aiohttp.ClientSession, emulator: Emulator) -> None:
        self.http = http
        self.url = emulator.url

    async def post(self, path: str, headers: dict[str, str], **body: Any) -> tuple[int, str]:
        """Return the status and the text of the answer."""
        async with self.http.post(self.url + path, headers=headers, **body) as response:
            return response.status, await response.text()

    async def refused(self, path: str, headers: dict[str, str], **body: Any) -> tuple[int, str]:
        """Return the status and the message of a refusal."""
        status, text = await self.post(path, headers, **body)
        return status, json.loads(text)["error"]["message"]

    async def mints_with(self, token: str) -> bool:
        """Whether a bearer token mints."""
        headers = {"Authorization": f"Bearer {token}"}
        path = f"{CURRENT}/client_secrets"
        return (await self.post(path, headers, json={"session": SESSION}))[0] == 200

    async def mint(self, path: str, body: object) -> dict[str, Any]:
        """Return the answer to a mint."""
        status, text = await self.post(path, KEY, json=body)
        assert status == 200, text
        minted: dict[str, Any] = json.loads(text)
        return minted


@pytest.fixture
def azure(http: aiohttp.ClientSession, emulator: Emulator) -> Azure:
    """The emulator as a client of Azure's sees it."""
    return Azure(http, emulator)


@pytest.mark.parametrize("show", ["api-key", "Authorization"])
@pytest.mark.parametrize("as_form", [True, False], ids=["form", "sdp"])
async def test_dated_calls_take_the_key_in_either_header(
    azure: Azure, *, show: str, as_form: bool
) -> None:
    """LiteLLM shows the ephemeral key as api-key and sends a form; others do neither."""
    minted = await azure.mint(f"{DATED}/client_secrets{VERSION}", {"session": SESSION})
    key = minted["value"] if show == "api-key" else f"Bearer {minted['value']}"
    form = aiohttp.FormData({"session": json.dumps(SESSION)}, default_to_multipart=True)
    form.add_field("sdp", OFFER.decode(), content_type="text/plain")
    headers = {show: key} if as_form else {show: key, **SDP}
    status, answer = await azure.post(
        f"{DATED}/calls{VERSION}", headers, data=form if as_form else OFFER
    )
    assert (status, answer[:3]) == (201, "v=0")


async def test_dated_and_current_paths_share_keys_and_calls(
    azure: Azure, http: aiohttp.ClientSession
) -> None:
    """They are one resource: a key of one opens a call at the other, and either hangs up."""
    minted = await azure.mint(f"{DATED}/client_secrets{VERSION}", {"session": SESSION})
    headers = {"Authorization": f"Bearer {minted['value']}", **SDP}
    async with http.post(f"{azure.url}{CURRENT}/calls", data=OFFER, headers=headers) as response:
        call_id = response.headers["Location"].rpartition("/")[2]
    path = f"{DATED}/calls/{call_id}/hangup{VERSION}"
    assert (await azure.post(path, KEY))[0] == 200
    assert (await azure.post(path, KEY))[0] == 404


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        pytest.param(
            f"{DATED}/client_secrets", KEY, 404, "Resource not found", id="dated-without-version"
        ),
        pytest.param(PREVIEW, KEY, 404, "Resource not found", id="preview-without-version"),
        pytest.param(
            f"{DATED}/calls{VERSION}",
            KEY | SDP,
            401,
            "This operation requires ephemeral tokens for authentication",
            id="dated-long-lived-key",
        ),
        pytest.param(
            f"{PREVIEW_CALLS}?model=d",
            KEY | SDP,
            401,
            "This operation requires ephemeral tokens for authentication",
            id="preview-long-lived-key",
        ),
        pytest.param(
            f"{PREVIEW}{VERSION}",
            {"Authorization": "Bearer alien"},
            401,
            "Access token is missing, invalid, audience is incorrect "
            "(https://cognitiveservices.azure.com), or have expired.",
            id="alien-entra-token",
        ),
        pytest.param(
            f"{PREVIEW}{VERSION}", KEY, 400, "Missing required parameter: 'model'.", id="no-model"
        ),
    ],
)
async def test_older_paths_refuse(
    azure: Azure, path: str, headers: dict[str, str], status: int, message: str
) -> None:
    """Each refusal has the provider's words."""
    assert await azure.refused(path, headers, data=b"{}") == (status, message)


@pytest.mark.parametrize("path", [f"{CURRENT}/client_secrets", f"{DATED}/client_secrets{VERSION}"])
@pytest.mark.parametrize(("token", "status"), [(ENTRA, 200), (ENTRA + "x", 401)])
async def test_entra_tokens_are_checked(azure: Azure, path: str, token: str, status: int) -> None:
    """Only what was issued mints, on any of Azure's paths."""
    headers = {"Authorization": f"Bearer {token}"}
    assert (await azure.post(path, headers, json={"session": SESSION}))[0] == status


@pytest.mark.parametrize("held", ["client_secret", "client_assertion"])
async def test_applications_get_tokens(azure: Azure, held: str) -> None:
    """A form with a secret or a federated token brings a token that mints."""
    form = {
        "grant_type": "client_credentials",
        "client_id": "app",
        "scope": "https://cognitiveservices.azure.com/.default",
        held: "made-up",
    }
    status, text = await azure.post("/my-tenant/oauth2/v2.0/token", {}, data=form)
    assert status == 200
    issued = json.loads(text)
    assert issued["expires_in"] == 3600
    assert await azure.mints_with(issued["access_token"])


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_id": ""}, 401, "invalid_client"),
        ({"scope": "https://cognitiveservices.azure.com"}, 400, "invalid_scope"),
    ],
)
async def test_applications_are_refused(
    azure: Azure, changed: dict[str, str], status: int, code: str
) -> None:
    """The answer has the shape of OAuth 2.0."""
    form = {"grant_type": "client_credentials", "client_id": "app", "client_secret": "made-up"}
    form |= {"scope": "https://cognitiveservices.azure.com/.default"} | changed
    answered, text = await azure.post("/my-tenant/oauth2/v2.0/token", {}, data=form)
    assert (answered, json.loads(text)["error"]) == (status, code)


async def test_managed_identities_get_tokens(azure: Azure) -> None:
    """The metadata service wants its header, and brings a token that mints."""
    url = f"{azure.url}/metadata/identity/oauth2/token?resource=https://cognitiveservices.azure.com"
    async with azure.http.get(url) as response:
        assert response.status == 400
    async with azure.http.get(url, headers={"Metadata": "true"}) as response:
        issued = await response.json()
    assert issued["resource"] == "https://cognitiveservices.azure.com"
    assert await azure.mints_with(issued["access_token"])


async def test_entra_tokens_do_not_open_calls(azure: Azure) -> None:
    """A form with a session, as the unified interface has it, is refused just the same."""
    form = aiohttp.FormData({"session": json.dumps(SESSION)}, default_to_multipart=True)
    form.add_field("sdp", OFFER.decode(), content_type="application/sdp")
    assert await azure.refused(
        f"{CURRENT}/calls", {"Authorization": f"Bearer {ENTRA}"}, data=form
    ) == (401, "This operation requires ephemeral tokens for authentication")


def test_issued_tokens_expire() -> None:
    """A token is good for an hour, and what was given at the start for ever."""
    entra = EntraId(is_strict=True, tokens=["given"])
    issued = Credential(entra.issue(now=1000))
    entra.check(issued, now=1000 + LIFETIME_S - 1)
    with pytest.raises(ApiError):
        entra.check(issued, now=1000 + LIFETIME_S)
    entra.issue(now=10_000)
    entra.check(Credential("given"), now=10_000)


def test_any_token_is_accepted_unless_told_otherwise() -> None:
    """An emulator that issues tokens still accepts others."""
    entra = EntraId(is_strict=False)
    entra.issue(now=0)
    entra.check(Credential("alien"), now=0)


async def test_openai_does_not_ask_entra(azure: Azure) -> None:
    """Its bearer tokens are its own keys."""
    headers = {"Authorization": "Bearer sk-made-up"}
    assert (await azure.post("/v1/realtime/client_secrets", headers, json={}))[0] == 200


async def test_the_preview_speaks_the_beta(azure: Azure, http: aiohttp.ClientSession) -> None:
    """Flat session, key in client_secret, no Location, and the beta's events in the call."""
    minted = await azure.mint(f"{PREVIEW}{VERSION}", {"model": "voice", "voice": "sage"})
    assert (minted["model"], minted["voice"], minted["modalities"]) == (
        "voice",
        "sage",
        ["text", "audio"],
    )
    headers = {"Authorization": f"Bearer {minted['client_secret']['value']}", **SDP}
    async with VoiceClient() as client:
        async with http.post(
            f"{azure.url}{PREVIEW_CALLS}?model=voice", data=await client.offer(), headers=headers
        ) as response:
            assert (response.status, response.headers.get("Location")) == (201, None)
            await client.accept(await response.text())
        assert (await client.wait_for("session.created"))["session"]["voice"] == "sage"
        client.send({"type": "session.update", "session": {"output_modalities": ["text"]}})
        error = (await client.wait_for("error"))["error"]
        assert error["message"] == "Unknown parameter: 'session.output_modalities'."
        client.send({"type": "session.update", "session": {"instructions": "Be brief."}})
        updated = (await client.wait_for("session.updated"))["session"]
        assert updated["instructions"] == "Be brief."
        client.send({"type": "response.create", "response": {"modalities": ["text"]}})
        done = (await client.wait_for("response.done"))["response"]
        assert done["output"][0]["content"][0]["type"] == "text"
        assert "response.text.delta" in client.types()
        snapshot = (await (await http.get(f"{azure.url}/emulator/calls")).json())["calls"][0]
        assert snapshot["dialect"] == "azure_preview"


async def test_preview_keys_are_good_for_the_preview_alone(azure: Azure) -> None:
    """A minute long, with a model in the query, and not at the current path."""
    minted = await azure.mint(f"{PREVIEW}{VERSION}", {"model": "voice"})
    headers = {"Authorization": f"Bearer {minted['client_secret']['value']}", **SDP}
    assert (await azure.refused(PREVIEW_CALLS, headers, data=OFFER))[0] == 400
    assert (await azure.refused(f"{CURRENT}/calls", headers, data=OFFER))[0] == 401


async def test_a_preview_mint_can_lose_its_value(azure: Azure) -> None:
    """The fault of client_secrets hits the preview's path too."""
    fault = {"client_secrets": {"malformed": "no_value", "times": 1}}
    await azure.http.post(f"{azure.url}/emulator/faults", json=fault)
    minted = await azure.mint(f"{PREVIEW}{VERSION}", {"model": "voice"})
    assert "client_secret" not in minted


@pytest.mark.parametrize("prefix", ["/v1/realtime", CURRENT])
async def test_transcription_has_no_path_of_its_own(azure: Azure, prefix: str) -> None:
    """transcription_sessions is retired: client_secrets mints them."""
    status, _ = await azure.refused(f"{prefix}/transcription_sessions", KEY, json={})
    assert status == 404
    session = {
        "type": "transcription",
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe", "language": "de"}}},
    }
    headers = {"Authorization": f"Bearer {ENTRA}"}
    path = f"{prefix}/client_secrets"
    status, text = await azure.post(path, headers, json={"session": session})
    minted = json.loads(text)["session"]
    assert (status, minted["object"]) == (200, "realtime.transcription_session")
    assert minted["audio"]["input"]["transcription"]["model"] == "gpt-4o-transcribe"


@pytest.mark.parametrize("prefix", ["/v1/realtime", CURRENT])
async def test_calls_are_controlled(
    http: aiohttp.ClientSession, emulator: Emulator, prefix: str
) -> None:
    """accept, refer and reject take what they should; after the end every verb is a 404."""
    backend = AppBackend(http, emulator.url, prefix)
    backend_key = await backend.mint(SESSION) if prefix == "/v1/realtime" else None
    azure = Azure(http, emulator)
    key = (
        backend_key or (await azure.mint(f"{prefix}/client_secrets", {"session": SESSION}))["value"]
    )
    own = {"Authorization": f"Bearer {key}"}
    async with VoiceClient() as client:
        call_id = await backend.call(client, key=key)
        async with asyncio.timeout(15):
            await client.is_connected.wait()
        path = f"{prefix}/calls/{call_id}"
        assert (await azure.post(f"{path}/accept", own, json={"type": "realtime"}))[0] == 200
        assert (await azure.refused(f"{path}/accept", own, json={"voice": 1}))[0] == 400
        target = {"target_uri": "tel:+14155550123"}
        assert (await azure.post(f"{path}/refer", own, json=target))[0] == 200
        assert (await azure.refused(f"{path}/refer", own, json={}))[0] == 400
        assert (await azure.refused(f"{path}/reject", own, json={"status_code": "x"}))[0] == 400
        assert (await azure.post(f"{path}/reject", own, json={"status_code": 486}))[0] == 200
        snapshot = await backend.wait_for_state(call_id, "ended")
        assert snapshot["controls"] == ["accept", "refer", "reject"]
        for verb in ("accept", "refer", "reject", "hangup"):
            status, text = await azure.post(f"{path}/{verb}", own, json={"type": "realtime"})
            assert (status, json.loads(text)["error"]) == (
                404,
                {
                    "message": "No session found for the provided call_id",
                    "type": "invalid_request_error",
                    "param": "",
                    "code": "call_id_not_found",
                },
            )
