"""openai-python as it is published, through the gateway."""

import base64
from typing import Any, Final, cast

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AuthenticationError, NotFoundError

from emulator.script import GREETING
from emulator.voice import SAMPLE_RATE, synthesize
from helpers.sdkgateway import Provided
from helpers.voiceclient import Recording, VoiceClient

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

UPSTREAM_NAMES: Final = {"gpt-realtime": "gpt-realtime", "azure-realtime": "voice"}
EVERY_MODEL = pytest.mark.parametrize("model", UPSTREAM_NAMES)


def client(gateway: Provided, key: str, prefix: str = "/v1") -> AsyncOpenAI:
    """Return the SDK's client, pointed at the gateway."""
    return AsyncOpenAI(api_key=key, base_url=gateway.url + prefix, max_retries=0)


@pytest.mark.parametrize("model", [*UPSTREAM_NAMES, "azure-dated", "azure-entra"])
async def test_a_backend_mints_and_a_client_calls(gateway: Provided, model: str) -> None:
    """client_secrets.create with the key, calls.create with the token, hangup with the call id."""
    async with client(gateway, gateway.key) as backend, VoiceClient() as voice:
        minted = await backend.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "model": model, "instructions": "Sing."},
        )
        assert minted.value.startswith("ek_")
        async with client(gateway, minted.value) as browser:
            answer = await browser.realtime.calls.create(sdp=await voice.offer())
        await voice.accept(answer.text)
        assert (await voice.wait_for("session.created"))["session"]["instructions"] == "Sing."
        call_id = answer.response.headers["Location"].rpartition("/")[2]
        assert call_id.startswith("rtc_")
        await backend.realtime.calls.hangup(call_id)
        await voice.is_closed.wait()
        # Nothing is left to do, and that is no error.
        await backend.realtime.calls.hangup(call_id)
        with pytest.raises(NotFoundError) as refused:
            await backend.realtime.calls.hangup("rtc_of-somebody-else")
        assert refused.value.code == "call_id_not_found"


async def test_azures_preview_serves_clients_of_today(gateway: Provided) -> None:
    """The gateway mints and calls as the preview wants it; what is said then is the preview's."""
    async with client(gateway, gateway.key) as backend, VoiceClient() as voice:
        minted = await backend.realtime.client_secrets.create(
            session={
                "type": "realtime",
                "model": "azure-preview",
                "audio": {"output": {"voice": "sage"}},
            }
        )
        async with client(gateway, minted.value) as browser:
            answer = await browser.realtime.calls.create(sdp=await voice.offer())
        await voice.accept(answer.text)
        assert (await voice.wait_for("session.created"))["session"]["voice"] == "sage"
        # The preview does not tell a call's id.
        assert "Location" not in answer.response.headers


@EVERY_MODEL
async def test_a_backend_relays_an_offer(gateway: Provided, model: str) -> None:
    """calls.create with an offer, a session and the key: the unified interface."""
    async with client(gateway, gateway.key) as backend, VoiceClient() as voice:
        answer = await backend.realtime.calls.create(
            sdp=await voice.offer(),
            session={"type": "realtime", "model": model, "instructions": "Hum."},
        )
        await voice.accept(answer.text)
        assert (await voice.wait_for("session.created"))["session"]["instructions"] == "Hum."
        call_id = answer.response.headers["Location"].rpartition("/")[2]
        await backend.realtime.calls.hangup(call_id)
        await voice.is_closed.wait()


async def test_azures_client_mints_and_calls(gateway: Provided) -> None:
    """AzureOpenAI with a base URL: api-key at the mint, the token as a bearer token at calls."""
    base = f"{gateway.url}/openai/v1"
    async with (
        AsyncAzureOpenAI(api_key=gateway.key, base_url=base, api_version="preview") as backend,
        VoiceClient() as voice,
    ):
        minted = await backend.realtime.client_secrets.create(
            session={"type": "realtime", "model": "azure-realtime"}
        )
        async with AsyncAzureOpenAI(
            azure_ad_token=minted.value, base_url=base, api_version="preview"
        ) as browser:
            answer = await browser.realtime.calls.create(sdp=await voice.offer())
        await voice.accept(answer.text)
        await voice.wait_for("session.created")
        call_id = answer.response.headers["Location"].rpartition("/")[2]
        await backend.realtime.calls.hangup(call_id)
        await voice.is_closed.wait()


@EVERY_MODEL
async def test_a_websocket_converses(gateway: Provided, model: str) -> None:
    """connect(model=) takes the key; words, audio and usage come back."""
    heard, spoken = 0, None
    async with (
        client(gateway, gateway.key) as backend,
        backend.realtime.connect(model=model) as connection,
    ):
        await connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Is anybody there?"}],
            }
        )
        await connection.response.create()
        async for event in connection:
            if event.type == "response.output_audio.delta":
                heard += len(event.delta)
            if event.type == "response.done":
                spoken = event.response.usage
                break
    assert heard > 10_000
    assert spoken
    assert spoken.output_token_details
    assert spoken.output_token_details.audio_tokens
    assert (await gateway.sockets())[-1]["model"] == UPSTREAM_NAMES[model]


async def test_the_header_of_the_beta_stays_here(gateway: Provided) -> None:
    """The provider closes a session that asks for the beta, and knows no call for it."""
    beta = {"OpenAI-Beta": "realtime=v1"}
    async with client(gateway, gateway.key) as backend, VoiceClient() as voice:
        async with backend.realtime.connect(model="gpt-realtime", extra_headers=beta) as socket:
            assert (await socket.recv()).type == "session.created"
        call_id = await gateway.call(voice, "gpt-realtime")
        async with backend.realtime.connect(call_id=call_id, extra_headers=beta) as sideband:
            await sideband.response.create()
            await sideband.recv()


@EVERY_MODEL
async def test_a_backend_joins_the_call_of_a_client(gateway: Provided, model: str) -> None:
    """connect(call_id=) with the id from Location: the backend steers what the client hears."""
    async with client(gateway, gateway.key) as backend, VoiceClient() as voice:
        call_id = await gateway.call(voice, model)
        async with backend.realtime.connect(call_id=call_id) as connection:
            await connection.session.update(
                session={"type": "realtime", "instructions": "Whisper."}
            )
            async for event in connection:
                if event.type == "session.updated":
                    break
        assert (await voice.wait_for("session.updated"))["session"]["instructions"] == "Whisper."
        await backend.realtime.calls.hangup(call_id)
        await voice.is_closed.wait()


@pytest.mark.parametrize("way", ["client_secrets", "transcription_sessions"])
async def test_what_is_said_is_transcribed(gateway: Provided, way: str) -> None:
    """A token for a transcription comes from either endpoint; models have the names of groups."""
    microphone = Recording(synthesize(GREETING)[:SAMPLE_RATE])
    async with client(gateway, gateway.key) as backend, VoiceClient(microphone) as voice:
        if way == "client_secrets":
            token = (
                await backend.realtime.client_secrets.create(
                    session={
                        "type": "transcription",
                        "audio": {"input": {"transcription": {"model": "transcriber"}}},
                    }
                )
            ).value
        else:
            minted = await backend.beta.realtime.transcription_sessions.create(
                # The SDK knows the names of OpenAI's models only.
                input_audio_transcription=cast("Any", {"model": "transcriber"})
            )
            token = minted.client_secret.value
        async with client(gateway, token) as browser:
            answer = await browser.realtime.calls.create(sdp=await voice.offer())
        await voice.accept(answer.text)
        created = (await voice.wait_for("session.created"))["session"]
        assert created["type"] == "transcription"
        assert created["audio"]["input"]["transcription"]["model"] == "gpt-4o-transcribe"
        await voice.wait_for("conversation.item.input_audio_transcription.completed")


async def test_what_is_said_over_a_websocket_is_transcribed(gateway: Provided) -> None:
    """intent=transcription with the name of the group; the session comes as an update."""
    speech = base64.b64encode(synthesize(GREETING).tobytes()).decode()
    query = {"intent": "transcription", "model": "transcriber"}
    async with (
        client(gateway, gateway.key) as backend,
        backend.realtime.connect(extra_query=query) as connection,
    ):
        await connection.session.update(
            session={
                "type": "transcription",
                "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
            }
        )
        await connection.input_audio_buffer.append(audio=speech)
        await connection.input_audio_buffer.commit()
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.completed":
                break
    assert (await gateway.sockets())[-1]["type"] == "transcription"


async def test_refusals_are_the_sdks_errors(gateway: Provided) -> None:
    """A wrong key is an AuthenticationError with the gateway's words, and reaches nobody."""
    async with client(gateway, "sk-nobody-knows-this-one") as stranger:
        with pytest.raises(AuthenticationError, match="This API key is not known"):
            await stranger.realtime.client_secrets.create(
                session={"type": "realtime", "model": "gpt-realtime"}
            )
