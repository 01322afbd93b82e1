"""The HTTP endpoints: who is let in, what is refused, and how."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from emulator.options import Options
from emulator.server import Emulator
from helpers.appbackend import AZURE, OPENAI, SESSION, STANDARD, AppBackend
from helpers.voiceclient import VoiceClient

SDP = {"Content-Type": "application/sdp"}
AUDIO_ONLY_IN_NAME = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"


@pytest.fixture
async def emulator(clean_loop: None) -> AsyncIterator[Emulator]:  # noqa: ARG001 - order
    """An emulator that waits to be spoken to."""
    async with Emulator(Options(greet=False)) as running:
        yield running


async def post(
    http: aiohttp.ClientSession, url: str, **request: Any
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Return the status, the JSON body and the headers of the answer to a POST."""
    async with http.post(url, **request) as response:
        return response.status, await response.json(), response.headers


@pytest.mark.parametrize(
    ("prefix", "headers"),
    [
        pytest.param(OPENAI, STANDARD, id="openai"),
        pytest.param(AZURE, {"api-key": "0123"}, id="azure-api-key"),
        pytest.param(AZURE, {"Authorization": "Bearer eyJ.e30.c2ln"}, id="azure-entra"),
    ],
)
async def test_keys_are_minted(
    http: aiohttp.ClientSession, emulator: Emulator, prefix: str, headers: dict[str, str]
) -> None:
    """The answer is 200 with value, expires_at and the whole session."""
    status, body, answered = await post(
        http, f"{emulator.url}{prefix}/client_secrets", json={"session": SESSION}, headers=headers
    )
    assert status == 200
    assert body.keys() == {"value", "expires_at", "session"}
    assert len(body["value"]) == len("ek_") + 32
    assert body["session"]["id"].startswith("sess_")
    assert answered["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("prefix", "headers", "body", "status", "code"),
    [
        # Realistic
        pytest.param(OPENAI, {}, {}, 401, None, id="no-key"),
        pytest.param(OPENAI, {"api-key": "0123"}, {}, 401, None, id="api-key-at-openai"),
        pytest.param(
            OPENAI, {"Authorization": "Bearer ek_1"}, {}, 401, "invalid_api_key", id="ephemeral-key"
        ),
        pytest.param(OPENAI, STANDARD, {"voice": 1}, 400, "unknown_parameter", id="unknown-field"),
        pytest.param(AZURE, STANDARD, {}, 400, "missing_required_parameter", id="azure-no-session"),
    ],
)
async def test_minting_is_refused(
    http: aiohttp.ClientSession,
    emulator: Emulator,
    *,
    prefix: str,
    headers: dict[str, str],
    body: object,
    status: int,
    code: str | None,
) -> None:
    """Refusals have OpenAI's error shape."""
    answered, refused, _ = await post(
        http, f"{emulator.url}{prefix}/client_secrets", json=body, headers=headers
    )
    assert (answered, refused["error"]["code"]) == (status, code)
    assert refused["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("prefix", "headers", "offer", "status", "message"),
    [
        # Realistic
        pytest.param(OPENAI, SDP, "v=0", 401, "didn't provide", id="no-key"),
        pytest.param(
            OPENAI,
            SDP | {"Authorization": "Bearer ek_unknown"},
            "v=0",
            401,
            "Incorrect",
            id="alien",
        ),
        pytest.param(
            OPENAI, SDP | STANDARD, "v=0", 400, "'session'", id="standard-key-without-session"
        ),
        pytest.param(
            AZURE, SDP | STANDARD, "v=0", 401, "requires ephemeral tokens", id="azure-standard-key"
        ),
        pytest.param(
            AZURE, SDP | {"api-key": "{key}"}, "v=0", 401, "requires ephemeral", id="azure-api-key"
        ),
        pytest.param(
            OPENAI, {"Authorization": "Bearer {key}"}, "v=0", 400, "content type", id="octets"
        ),
        pytest.param(
            OPENAI,
            SDP | {"Authorization": "Bearer {key}"},
            "v=0\r\nm=video 9 X 0\r\n",
            400,
            "Offer did not have an audio media section.",
            id="no-audio",
        ),
        pytest.param(
            AZURE, SDP | {"Authorization": "Bearer {key}"}, "", 400, "Invalid SDP", id="empty"
        ),
        # Pathological
        pytest.param(
            OPENAI,
            SDP | {"Authorization": "Bearer {key}"},
            AUDIO_ONLY_IN_NAME,
            400,
            "Invalid SDP offer",
            id="no-webrtc",
        ),
    ],
)
async def test_offers_are_refused(
    http: aiohttp.ClientSession,
    emulator: Emulator,
    *,
    prefix: str,
    headers: dict[str, str],
    offer: str,
    status: int,
    message: str,
) -> None:
    """Whoever may not call, or offers what is no audio, is told so, and no call begins."""
    backend = AppBackend(http, emulator.url, prefix)
    key = await backend.mint()
    filled = {name: value.format(key=key) for name, value in headers.items()}
    answered, refused, _ = await post(
        http, f"{backend.root}/calls", data=offer.encode(), headers=filled
    )
    assert answered == status
    assert message in refused["error"]["message"]
    async with http.get(f"{emulator.url}/emulator/calls") as response:
        assert await response.json() == {"calls": [], "sockets": []}


@pytest.mark.parametrize("is_ephemeral", [True, False], ids=["ephemeral-key", "standard-key"])
async def test_openai_takes_a_form_with_a_session(
    http: aiohttp.ClientSession, emulator: Emulator, *, is_ephemeral: bool
) -> None:
    """The unified interface: sdp and session as parts, with either kind of key."""
    backend = AppBackend(http, emulator.url)
    key = await backend.mint() if is_ephemeral else "sk-made-up"
    async with VoiceClient() as client:
        form = aiohttp.FormData()
        form.add_field("sdp", await client.offer(), content_type="application/sdp")
        form.add_field(
            "session", json.dumps(SESSION | {"model": "other"}), content_type="application/json"
        )
        headers = {"Authorization": f"Bearer {key}"}
        async with http.post(f"{backend.root}/calls", data=form, headers=headers) as response:
            assert response.status == 201
            call_id = response.headers["Location"].rpartition("/")[2]
            await client.accept(await response.text())
        assert (await backend.wait_for_state(call_id, "live"))["model"] == "other"


async def test_azure_takes_no_form(http: aiohttp.ClientSession, emulator: Emulator) -> None:
    """Azure wants the SDP itself."""
    backend = AppBackend(http, emulator.url, AZURE)
    form = aiohttp.FormData({"session": "{}"}, default_to_multipart=True)
    headers = {"Authorization": f"Bearer {await backend.mint()}"}
    status, refused, _ = await post(http, f"{backend.root}/calls", data=form, headers=headers)
    assert (status, refused["error"]["code"]) == (400, "unsupported_content_type")


@pytest.mark.parametrize(
    ("part", "code"),
    [("sdp2", "unknown_parameter"), ("session", "missing_required_parameter")],
)
async def test_forms_with_other_parts_are_refused(
    http: aiohttp.ClientSession, emulator: Emulator, part: str, code: str
) -> None:
    """A form needs an sdp part, and may have a session part."""
    form = aiohttp.FormData({part: "{}"}, default_to_multipart=True)
    status, refused, _ = await post(
        http, f"{emulator.url}{OPENAI}/calls", data=form, headers=STANDARD
    )
    assert (status, refused["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", b"--x--", id="no-boundary"),
        pytest.param("multipart/form-data; boundary=x", b"nonsense", id="no-part"),
        pytest.param("multipart/form-data; boundary=x", b"--x\r\n\r\nhalf", id="half-a-part"),
    ],
)
async def test_broken_forms_are_refused(
    http: aiohttp.ClientSession, emulator: Emulator, content_type: str, body: bytes
) -> None:
    """The answer is 400, not 500."""
    url, headers = f"{emulator.url}{OPENAI}/calls", STANDARD | {"Content-Type": content_type}
    status, refused, _ = await post(http, url, data=body, headers=headers)
    assert status == 400
    assert refused["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/realtime", 401),
        ("GET", "/v1/realtime/client_secrets", 405),
        ("POST", "/v1/realtime/sessions", 404),
        ("POST", "/v1/chat/completions", 404),
    ],
)
async def test_other_paths_are_refused_as_json(
    http: aiohttp.ClientSession, emulator: Emulator, method: str, path: str, status: int
) -> None:
    """Unknown paths and methods have an error body too."""
    async with http.request(method, emulator.url + path) as response:
        assert response.status == status
        assert (await response.json())["error"]["message"]


async def test_preflights_and_answers_allow_every_origin(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """A page may call the provider itself, and read Location and every refusal."""
    url = f"{emulator.url}{OPENAI}/calls"
    async with http.options(url, headers={"Origin": "http://page.example"}) as response:
        assert response.status == 200
        assert "x-openai-agents-sdk" in response.headers["Access-Control-Allow-Headers"]
    _, _, headers = await post(http, url, data=b"", headers=SDP)
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "location" in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("?call_id=rtc_1&model=gpt-realtime", 400), ("?call_id=rtc_1&api-version=1", 401)],
)
async def test_sideband_requests_need_the_right_query(
    http: aiohttp.ClientSession, emulator: Emulator, query: str, status: int
) -> None:
    """A call_id and nothing that belongs to other interfaces."""
    async with http.get(f"{emulator.url}{AZURE}{query}", headers=STANDARD) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        pytest.param({"status": 500}, 500, "server_error", id="status"),
        pytest.param({"status": 202, "malformed": "garbage"}, 202, "<html>", id="garbage"),
        pytest.param({"malformed": "no_value"}, 200, '{"expires_at"', id="no-value"),
        pytest.param({"malformed": "empty"}, 200, "", id="empty"),
        pytest.param({"delay_s": 0.05}, 200, '{"value": "ek_', id="delay"),
    ],
)
async def test_faults_are_switched_over_http(
    http: aiohttp.ClientSession, emulator: Emulator, fault: dict[str, Any], status: int, body: str
) -> None:
    """A fault hits as often as it says, and is gone when it is deleted."""
    faults, mint = f"{emulator.url}/emulator/faults", f"{emulator.url}{OPENAI}/client_secrets"
    switched = {"client_secrets": fault | {"times": 2}}
    async with http.post(faults, json=switched) as response:
        assert await response.json() == switched
    async with http.post(mint, headers=STANDARD) as response:
        assert response.status == status
        assert body in await response.text()
    async with http.delete(faults) as response:
        assert await response.json() == {}
    async with http.get(faults) as response:
        assert await response.json() == {}
    async with http.post(mint, headers=STANDARD) as response:
        assert (await response.json())["value"]


async def test_a_hangup_can_answer_garbage(http: aiohttp.ClientSession, emulator: Emulator) -> None:
    """Even where the good answer has no body."""
    backend = AppBackend(http, emulator.url)
    async with VoiceClient() as client:
        call_id = await backend.connect(client)
        await http.post(
            f"{emulator.url}/emulator/faults", json={"hangup": {"malformed": "garbage"}}
        )
        status, body = await backend.hang_up(call_id)
        assert (status, body[:6]) == (200, "<html>")


async def test_an_answer_can_lose_its_location(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """The call exists, but nobody learns its id."""
    backend = AppBackend(http, emulator.url)
    key = await backend.mint()
    await http.post(f"{emulator.url}/emulator/faults", json={"calls": {"malformed": "no_location"}})
    headers = SDP | {"Authorization": f"Bearer {key}"}
    async with VoiceClient() as client:
        offer = await client.offer()
        async with http.post(f"{backend.root}/calls", data=offer, headers=headers) as response:
            assert response.status == 200
            assert "Location" not in response.headers
            assert (await response.text()).startswith("v=0")


async def test_a_sideband_can_talk_nonsense(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """Its first message is then no JSON."""
    backend = AppBackend(http, emulator.url)
    await http.post(f"{emulator.url}/emulator/faults", json={"sideband": {"malformed": "garbage"}})
    async with VoiceClient() as client:
        call_id = await backend.connect(client)
        async with backend.listen_in(call_id) as socket:
            assert (await socket.receive_str(timeout=5)).startswith("<html>")


async def test_wrong_faults_are_refused_over_http(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """Nothing is switched on unless all of it is right."""
    faults = f"{emulator.url}/emulator/faults"
    wrong = {"calls": {"status": 500}, "hangup": {"status": 1}}
    status, refused, _ = await post(http, faults, json=wrong)
    assert (status, refused["error"]["message"]) == (
        400,
        "hangup.status: expected a status from 200 to 599",
    )
    async with http.get(faults) as response:
        assert await response.json() == {}
