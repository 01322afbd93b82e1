"""Real calls: an aiortc client against the emulator on loopback."""

import asyncio
import json
from typing import Final

import aiohttp
import pytest

from emulator.ice import IceOptions
from emulator.options import Options
from emulator.script import ANSWERS, GREETING
from emulator.server import Emulator
from emulator.voice import SAMPLE_RATE, synthesize
from helpers.appbackend import AZURE, OPENAI, STANDARD, AppBackend
from helpers.voiceclient import Recording, VoiceClient
from helpers.waiting import until

QUIET: Final = Options(greet=False)


def said(seconds: float) -> Recording:
    """A microphone into which someone speaks for a while."""
    return Recording(synthesize(GREETING)[: int(SAMPLE_RATE * seconds)])


async def test_the_greeting_is_heard_and_ends_with_usage(http: aiohttp.ClientSession) -> None:
    """A client that only connects hears the emulator, reads its words, and gets the usage."""
    async with Emulator() as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id = await backend.connect(client)
        response = (await client.wait_for("response.done"))["response"]
        await client.wait_for("output_audio_buffer.stopped")
        assert client.types()[0] == "session.created"
        assert client.loudest > 3000
        assert client.frames_heard > 200
        assert response["status"] == "completed"
        assert response["output"][0]["content"][0]["transcript"] == GREETING.text
        assert response["usage"]["output_token_details"]["audio_tokens"] == 100
        snapshot = await backend.snapshot(call_id)
        assert snapshot["state"] == "live"
        assert snapshot["channel"] == "oai-events"
        assert snapshot["audio_bytes_received"] > 100_000


async def test_a_session_is_updated_over_the_data_channel(http: aiohttp.ClientSession) -> None:
    """A session.update is answered with the whole merged session, bad events with an error."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        await AppBackend(http, emulator.url).connect(client)
        await client.wait_for("session.created")
        client.send(
            {"type": "session.update", "session": {"type": "realtime", "instructions": "Sing."}}
        )
        session = (await client.wait_for("session.updated"))["session"]
        assert session["instructions"] == "Sing."
        assert session["model"] == "gpt-realtime"
        client.send("{nonsense")
        client.send({"type": "no.such.event", "event_id": "mine"})
        error = await client.wait_for("error", count=2)
        assert error["error"]["event_id"] == "mine"


async def test_audio_flows_while_nothing_is_said(http: aiohttp.ClientSession) -> None:
    """Frames keep arriving in silence, so a client can tell a quiet call from a dead one."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        await AppBackend(http, emulator.url).connect(client)
        await client.wait_for("session.created")
        enough = client.frames_heard + 30
        await until(lambda: client.frames_heard > enough)
        assert client.loudest < 100


async def test_speech_is_detected_and_answered(http: aiohttp.ClientSession) -> None:
    """When someone has spoken, the turn is committed, and an answer follows."""
    async with Emulator(QUIET) as emulator, VoiceClient(said(1.0)) as client:
        await AppBackend(http, emulator.url).connect(client)
        await client.wait_for("input_audio_buffer.speech_started")
        await client.wait_for("input_audio_buffer.speech_stopped")
        await client.wait_for("input_audio_buffer.committed")
        response = (await client.wait_for("response.done"))["response"]
        assert response["output"][0]["content"][0]["transcript"] == ANSWERS[0].text
        assert response["usage"]["input_token_details"]["audio_tokens"] in range(5, 15)
        assert client.loudest > 3000


async def test_the_microphone_is_echoed_on_request(http: aiohttp.ClientSession) -> None:
    """With the echo for a voice the client hears itself, and the turn gets no other answer."""
    options = Options(greet=False, voice="echo")
    async with Emulator(options) as emulator, VoiceClient(said(1.0)) as client:
        await AppBackend(http, emulator.url).connect(client)
        await client.wait_for("input_audio_buffer.committed")
        assert client.loudest > 3000
        assert "response.created" not in client.types()


@pytest.mark.parametrize("prefix", [OPENAI, AZURE])
async def test_hangup_closes_the_peer_and_forgets_the_call(
    http: aiohttp.ClientSession, prefix: str
) -> None:
    """A hangup is 200 with no body and closes the client's connection; a second one is 404."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url, prefix)
        call_id = await backend.connect(client)
        assert await backend.hang_up(call_id) == (200, "")
        async with asyncio.timeout(5):
            await client.is_closed.wait()
        status, body = await backend.hang_up(call_id)
        assert (status, json.loads(body)["error"]["code"]) == (404, "call_id_not_found")
        assert (await backend.snapshot(call_id))["ended_because"] == "hangup"


async def test_a_call_belongs_to_its_dialect(http: aiohttp.ClientSession) -> None:
    """Azure's endpoints don't find a call that was made over OpenAI's."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        call_id = await AppBackend(http, emulator.url, OPENAI).connect(client)
        status, _ = await AppBackend(http, emulator.url, AZURE).hang_up(call_id)
        assert status == 404


async def test_a_client_that_leaves_ends_its_call(http: aiohttp.ClientSession) -> None:
    """When the client closes its connection, the call is over for everyone."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id = await backend.connect(client)
        await client.wait_for("session.created")
        await client.close()
        snapshot = await backend.wait_for_state(call_id, "ended")
        assert snapshot["ended_because"] == "client left"


async def test_a_client_that_never_connects_is_given_up(http: aiohttp.ClientSession) -> None:
    """An offer that is answered but never followed up ends after the connect timeout."""
    options = Options(connect_timeout_s=0.2)
    async with Emulator(options) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id, _ = await backend.offer(client)
        snapshot = await backend.wait_for_state(call_id, "ended")
        assert snapshot["ended_because"] == "never connected"


@pytest.mark.parametrize("delay_s", [0, 0.01, 0.03, 0.1])
async def test_a_call_can_be_hung_up_while_it_connects(
    http: aiohttp.ClientSession, delay_s: float
) -> None:
    """Wherever ICE and DTLS are by then, the call ends and leaves nothing behind."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id = await backend.call(client)
        await asyncio.sleep(delay_s)
        assert await backend.hang_up(call_id) == (200, "")
        assert (await backend.snapshot(call_id))["state"] == "ended"


async def test_the_session_cap_ends_a_call(http: aiohttp.ClientSession) -> None:
    """At the cap the client gets session_expired, and its connection is closed."""
    # The data channel, which tells of the end, opens after the call has begun.
    options = Options(greet=False, session_cap_s=1.5)
    async with Emulator(options) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id = await backend.connect(client)
        error = (await client.wait_for("error"))["error"]
        assert error["code"] == "session_expired"
        async with asyncio.timeout(5):
            await client.is_closed.wait()
        assert (await backend.snapshot(call_id))["ended_because"] == "session cap"


async def test_observers_see_and_steer_a_call(http: aiohttp.ClientSession) -> None:
    """Every sideband gets every event, may send its own, and leaves the call running."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        key = await backend.mint()
        call_id = await backend.connect(client, key=key)
        await client.wait_for("session.created")
        own_key = {"Authorization": f"Bearer {key}"}
        async with (
            backend.listen_in(call_id) as first,
            backend.listen_in(call_id, own_key) as second,
        ):
            update = {"type": "realtime", "instructions": "From beside."}
            await first.send_json({"type": "session.update", "session": update})
            for socket in (first, second):
                event = await socket.receive_json(timeout=5)
                assert event["type"] == "session.updated"
            assert (await client.wait_for("session.updated"))["session"]["instructions"]
            await second.send_str("{nonsense")
            assert (await second.receive_json(timeout=5))["type"] == "error"
            await second.send_json({"type": "response.create"})
            assert (await first.receive_json(timeout=5))["type"] == "response.created"
        await client.wait_for("response.done")
        assert "error" not in client.types()
        assert (await backend.snapshot(call_id))["state"] == "live"
        async with backend.listen_in(call_id) as socket:
            await backend.hang_up(call_id)
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        pytest.param("call_id=rtc_u0_unknown", STANDARD, id="unknown-call"),
        pytest.param(
            "call_id={call_id}", STANDARD | {"OpenAI-Beta": "realtime=v1"}, id="beta-header"
        ),
        pytest.param(
            "call_id={call_id}", {"Authorization": "Bearer ek_other"}, id="another-ephemeral-key"
        ),
    ],
)
async def test_a_sideband_is_refused(
    http: aiohttp.ClientSession, query: str, headers: dict[str, str]
) -> None:
    """A sideband that may not attach gets 404 instead of an upgrade."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id = await backend.connect(client)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(
                f"{backend.root}?{query.format(call_id=call_id)}", headers=headers
            )
        assert refused.value.status == 404


async def test_a_sideband_waits_for_the_call_to_be_live(http: aiohttp.ClientSession) -> None:
    """Between the answer and the connection a call is not found."""
    async with Emulator(QUIET) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        call_id, answer = await backend.offer(client)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await backend.listen_in(call_id)
        assert refused.value.status == 404
        await client.accept(answer)
        await backend.wait_for_state(call_id, "live")
        async with backend.listen_in(call_id) as socket:
            assert not socket.closed


async def test_azures_filter_spares_the_data_channel(http: aiohttp.ClientSession) -> None:
    """With webrtcfilter=on the browser gets words and buffers, the sideband everything."""
    async with Emulator(QUIET) as emulator, VoiceClient(label="realtime-channel") as client:
        backend = AppBackend(http, emulator.url, AZURE)
        call_id = await backend.connect(client, query="?webrtcfilter=on")
        async with backend.listen_in(call_id, {"api-key": "made-up"}) as sideband:
            await sideband.send_json({"type": "response.create"})
            seen: set[str] = set()
            async with asyncio.timeout(10):
                while "response.done" not in seen:
                    seen.add((await sideband.receive_json())["type"])
        await client.wait_for("output_audio_buffer.stopped")
        assert set(client.types()) == {
            "conversation.item.added",
            "output_audio_buffer.started",
            "output_audio_buffer.stopped",
            "response.output_audio_transcript.delta",
            "response.output_audio_transcript.done",
        }


async def test_calls_without_a_data_channel_are_greeted(http: aiohttp.ClientSession) -> None:
    """A client that only wants audio hears the greeting too."""
    async with Emulator() as emulator, VoiceClient(label=None) as client:
        await AppBackend(http, emulator.url).connect(client)
        async with asyncio.timeout(10):
            await client.hears_something.wait()


async def test_calls_share_the_ports_they_are_given(http: aiohttp.ClientSession) -> None:
    """With one UDP port allowed, a second call is refused with 503 until the first has ended."""
    async with Emulator() as probe, VoiceClient() as client:
        await AppBackend(http, probe.url).connect(client)
        port = client.remote_port
    options = Options(greet=False, ice=IceOptions(ports=range(port, port + 1)))
    async with Emulator(options) as emulator, VoiceClient() as client, VoiceClient() as other:
        backend = AppBackend(http, emulator.url)
        key = await backend.mint()
        call_id = await backend.connect(client, key=key)
        assert client.remote_port == port
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"}
        url = f"{backend.root}/calls"
        async with http.post(url, data=await other.offer(), headers=headers) as response:
            assert response.status == 503
        await backend.hang_up(call_id)
        async with http.post(url, data=await other.offer(), headers=headers) as response:
            assert response.status == 201


async def test_stopping_ends_every_call(http: aiohttp.ClientSession) -> None:
    """When the emulator stops, its calls are closed."""
    async with VoiceClient() as client:
        async with Emulator() as emulator:
            await AppBackend(http, emulator.url).connect(client)
        async with asyncio.timeout(5):
            await client.is_closed.wait()
