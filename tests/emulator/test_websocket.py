"""Sessions over a WebSocket: who gets one, what is said in it, and how it ends."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import numpy as np
import pytest
from openai import AsyncOpenAI

from emulator.options import Options
from emulator.pcm import SocketAudio, loudness
from emulator.script import ANSWERS, GREETING
from emulator.server import Emulator
from emulator.voice import synthesize
from helpers.appbackend import AZURE, OPENAI, STANDARD, AppBackend

DATED: Final = "/openai/realtime"
MODEL: Final = "?model=gpt-realtime"


@pytest.fixture
async def emulator(clean_loop: None) -> AsyncIterator[Emulator]:  # noqa: ARG001 - order
    """An emulator."""
    async with Emulator(Options(greet=False)) as running:
        yield running


async def read_until(socket: Any, kind: str) -> list[dict[str, Any]]:
    """Return the events up to the first of a type."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(await socket.receive_str(timeout=10)))
    return events


def audio_of(events: list[dict[str, Any]]) -> bytes:
    """Return the audio in events."""
    deltas = [each["delta"] for each in events if each["type"] == "response.output_audio.delta"]
    return b"".join(base64.b64decode(delta) for delta in deltas)


@pytest.mark.parametrize(
    ("prefix", "headers", "protocols"),
    [
        pytest.param(OPENAI, STANDARD, (), id="openai"),
        pytest.param(
            OPENAI, {}, ("realtime", "openai-insecure-api-key.sk-made-up"), id="openai-subprotocol"
        ),
        pytest.param(AZURE, {"api-key": "0123"}, (), id="azure-api-key"),
        pytest.param(AZURE, {"Authorization": "Bearer e.y.J"}, (), id="azure-entra"),
    ],
)
async def test_a_text_turn_is_answered(
    http: aiohttp.ClientSession,
    emulator: Emulator,
    prefix: str,
    headers: dict[str, str],
    protocols: tuple[str, ...],
) -> None:
    """session.created comes first; a response brings words, audio of their length, and usage."""
    url = f"{emulator.url}{prefix}{MODEL}"
    async with http.ws_connect(url, headers=headers, protocols=protocols) as socket:
        assert socket.protocol == ("realtime" if protocols else None)
        created = json.loads(await socket.receive_str(timeout=5))
        assert (created["type"], created["session"]["model"]) == ("session.created", "gpt-realtime")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]}
        await socket.send_json({"type": "conversation.item.create", "item": item})
        await socket.send_json({"type": "response.create"})
        events = await read_until(socket, "response.done")
        assert len(audio_of(events)) == ANSWERS[0].duration_ms * 48
        response = events[-1]["response"]
        assert response["output"][0]["content"][0]["transcript"] == ANSWERS[0].text
        assert response["usage"]["input_token_details"]["text_tokens"] > 0
        assert response["usage"]["output_token_details"]["audio_tokens"] > 0
        assert not any(event["type"].startswith("output_audio_buffer") for event in events)
    async with http.get(f"{emulator.url}/emulator/calls") as response_:
        (session,) = (await response_.json())["sockets"]
    assert session["state"] == "ended"
    assert session["events_received"] == ["conversation.item.create", "response.create"]


async def test_an_audio_turn_is_heard_and_answered(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """Speech in appended audio is found by the turn detection, and transcribed if that is on."""
    speech = synthesize(GREETING).tobytes() + bytes(48_000)
    async with http.ws_connect(f"{emulator.url}{OPENAI}{MODEL}", headers=STANDARD) as socket:
        audio = {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}}
        session = {"type": "realtime", "output_modalities": ["text"], "audio": audio}
        await socket.send_json({"type": "session.update", "session": session})
        for start in range(0, len(speech), 10_001):
            chunk = base64.b64encode(speech[start : start + 10_001]).decode()
            await socket.send_json({"type": "input_audio_buffer.append", "audio": chunk})
        types = [event["type"] for event in await read_until(socket, "response.done")]
    expected = [
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_text.done",
    ]
    assert [kind for kind in types if kind in expected] == expected


async def test_speech_interrupts_the_answer(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """A response that is being generated is cancelled when the user speaks."""
    speech = base64.b64encode(synthesize(GREETING).tobytes()).decode()
    async with http.ws_connect(f"{emulator.url}{OPENAI}{MODEL}", headers=STANDARD) as socket:
        await socket.send_json({"type": "response.create"})
        await read_until(socket, "response.output_audio.delta")
        await socket.send_json({"type": "input_audio_buffer.append", "audio": speech})
        done = (await read_until(socket, "response.done"))[-1]["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")


async def test_a_minted_key_brings_its_session(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """An ephemeral key opens the session that it was minted for, also one of transcription."""
    session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "w"}}}}
    key = await AppBackend(http, emulator.url).mint(session)
    headers = {"Authorization": f"Bearer {key}"}
    async with http.ws_connect(f"{emulator.url}{OPENAI}", headers=headers) as socket:
        created = json.loads(await socket.receive_str(timeout=5))["session"]
    assert created["audio"]["input"]["transcription"] == {"model": "w"}


async def test_transcription_is_asked_for_in_the_query(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """intent=transcription needs no model, and has no responses."""
    url = f"{emulator.url}{OPENAI}?intent=transcription"
    async with http.ws_connect(url, headers=STANDARD) as socket:
        created = json.loads(await socket.receive_str(timeout=5))["session"]
        assert created["type"] == "transcription"
        await socket.send_json({"type": "response.create"})
        assert (await read_until(socket, "error"))[-1]["error"]["code"] == "invalid_value"


async def test_the_beta_is_refused(http: aiohttp.ClientSession, emulator: Emulator) -> None:
    """Its header gets an error event, and the close code 4000."""
    headers = STANDARD | {"OpenAI-Beta": "realtime=v1"}
    async with http.ws_connect(f"{emulator.url}{OPENAI}{MODEL}", headers=headers) as socket:
        error = json.loads(await socket.receive_str(timeout=5))
        assert error["error"]["code"] == "beta_api_shape_disabled"
        closed = await socket.receive(timeout=5)
    assert closed.data == 4000
    assert closed.extra == "invalid_request_error.beta_api_shape_disabled"


async def test_azures_dated_path_speaks_the_beta(
    http: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """The deployment is in the query, sessions are flat, and the beta's header does no harm."""
    url = f"{emulator.url}{DATED}?api-version=2025-04-01-preview&deployment=voice"
    headers = {"api-key": "0123", "OpenAI-Beta": "realtime=v1"}
    async with http.ws_connect(url, headers=headers) as socket:
        created = json.loads(await socket.receive_str(timeout=5))["session"]
        assert (created["model"], created["voice"]) == ("voice", "alloy")
        await socket.send_json({"type": "response.create"})
        types = [event["type"] for event in await read_until(socket, "response.done")]
    assert {"response.audio.delta", "response.audio_transcript.done"} <= set(types)


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        pytest.param(f"{OPENAI}{MODEL}", {}, 401, "didn't provide", id="no-key"),
        pytest.param(
            f"{OPENAI}{MODEL}", {"Authorization": "Bearer ek_1"}, 401, "Incorrect", id="unknown-key"
        ),
        pytest.param(OPENAI, STANDARD, 400, "'model'", id="no-model"),
        pytest.param(f"{AZURE}{MODEL}&api-version=1", STANDARD, 401, "provide", id="api-version"),
        pytest.param(DATED, STANDARD, 404, "Resource not found", id="dated-without-version"),
        pytest.param(f"{DATED}?api-version=1", STANDARD, 400, "'deployment'", id="no-deployment"),
        pytest.param(
            f"{DATED}?api-version=1&call_id=rtc_1", STANDARD, 400, "'deployment'", id="dated-call"
        ),
        pytest.param(f"{OPENAI}{MODEL}", STANDARD, 400, "Invalid URL", id="no-upgrade"),
    ],
)
async def test_upgrades_are_refused(
    http: aiohttp.ClientSession,
    emulator: Emulator,
    *,
    path: str,
    headers: dict[str, str],
    status: int,
    message: str,
) -> None:
    """Who may not have a session is told so before there is one."""
    async with http.get(emulator.url + path, headers=headers) as response:
        assert response.status == status
        assert message in (await response.json())["error"]["message"]


async def test_a_session_ends_at_the_cap(http: aiohttp.ClientSession, clean_loop: None) -> None:  # noqa: ARG001 - order
    """An error says why, and the socket is closed with the same words."""
    async with (
        Emulator(Options(session_cap_s=0.2)) as emulator,
        http.ws_connect(f"{emulator.url}{OPENAI}{MODEL}", headers=STANDARD) as socket,
    ):
        error = (await read_until(socket, "error"))[-1]["error"]
        assert error["code"] == "session_expired"
        closed = await socket.receive(timeout=5)
        assert (closed.data, closed.extra) == (aiohttp.WSCloseCode.GOING_AWAY, error["message"])


async def test_a_session_ends_with_the_emulator(http: aiohttp.ClientSession) -> None:
    """Its socket is closed, not cut."""
    async with Emulator(Options()) as emulator:
        url = f"{emulator.url}{OPENAI}{MODEL}"
        async with http.ws_connect(url, headers=STANDARD) as socket:
            await socket.receive_str(timeout=5)
            stopping = asyncio.create_task(emulator.stop())
            assert (await socket.receive(timeout=5)).data == aiohttp.WSCloseCode.GOING_AWAY
        await stopping


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param({"status": 503}, 503, id="status"),
        pytest.param({"malformed": "garbage"}, 101, id="garbage"),
    ],
)
async def test_sessions_have_faults(
    http: aiohttp.ClientSession, emulator: Emulator, fault: dict[str, Any], status: int
) -> None:
    """A session is refused, or its first message is no JSON."""
    await http.post(f"{emulator.url}/emulator/faults", json={"websocket": fault})
    url = f"{emulator.url}{OPENAI}{MODEL}"
    if status != 101:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(url, headers=STANDARD)
        assert refused.value.status == status
        return
    async with http.ws_connect(url, headers=STANDARD) as socket:
        assert (await socket.receive_str(timeout=5)).startswith("<html>")


async def test_the_openai_sdk_connects(emulator: Emulator) -> None:
    """realtime.connect, a text turn, and its words."""
    async with (
        AsyncOpenAI(api_key="sk-made-up", base_url=emulator.openai_url) as openai,
        openai.realtime.connect(model="gpt-realtime") as connection,
    ):
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.response.create()
        async for event in connection:
            if event.type == "response.output_text.done":
                assert event.text == ANSWERS[0].text
            if event.type == "response.done":
                assert event.response.usage
                break


@pytest.mark.parametrize("chunk_bytes", [1, 7, 960, 5000])
def test_audio_in_events_is_cut_into_frames(chunk_bytes: int) -> None:
    """However it is split, it is heard in frames of 20 ms; what is left waits for more."""
    audio = SocketAudio()
    pcm = np.full(2400 + 100, 16384, dtype="<i2").tobytes()
    frames = [
        frame
        for start in range(0, len(pcm), chunk_bytes)
        for frame in audio.hear(pcm[start : start + chunk_bytes])
    ]
    assert frames == [(0.5, 20)] * 5


def test_loudness_is_relative_to_full_scale() -> None:
    """Silence is 0."""
    assert loudness(np.zeros(480, dtype=np.int16)) == 0
