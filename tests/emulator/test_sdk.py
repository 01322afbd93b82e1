"""OpenAI's own Python SDK against the emulator."""

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from emulator.options import Options
from emulator.server import Emulator
from helpers.voiceclient import VoiceClient

pytestmark = pytest.mark.usefixtures("clean_loop")


async def test_the_openai_sdk_mints_calls_and_hangs_up() -> None:
    """client_secrets.create, realtime.calls.create with the ephemeral key, and hangup."""
    async with (
        Emulator(Options(greet=False)) as emulator,
        VoiceClient() as client,
        AsyncOpenAI(api_key="sk-made-up", base_url=emulator.openai_url, max_retries=0) as openai,
    ):
        secret = await openai.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "model": "gpt-realtime", "instructions": "Sing."},
        )
        assert secret.value.startswith("ek_")
        assert secret.session.type == "realtime"
        assert secret.session.instructions == "Sing."
        async with AsyncOpenAI(
            api_key=secret.value, base_url=emulator.openai_url, max_retries=0
        ) as browser:
            answer = await browser.realtime.calls.create(sdp=await client.offer())
        await client.accept(answer.text)
        assert (await client.wait_for("session.created"))["session"]["instructions"] == "Sing."
        assert answer.response.status_code == 201
        call_id = answer.response.headers["Location"].rpartition("/")[2]
        await openai.realtime.calls.hangup(call_id)
        with pytest.raises(NotFoundError) as refused:
            await openai.realtime.calls.hangup(call_id)
        assert refused.value.code == "call_id_not_found"


async def test_the_openai_sdk_uses_the_unified_interface() -> None:
    """calls.create with a session goes with a standard key; the SDK reads our refusals."""
    async with (
        Emulator(Options(greet=False)) as emulator,
        VoiceClient() as client,
        AsyncOpenAI(api_key="sk-made-up", base_url=emulator.openai_url, max_retries=0) as openai,
    ):
        answer = await openai.realtime.calls.create(
            sdp=await client.offer(), session={"type": "realtime", "model": "gpt-realtime-mini"}
        )
        await client.accept(answer.text)
        created = await client.wait_for("session.created")
        assert created["session"]["model"] == "gpt-realtime-mini"
        with pytest.raises(BadRequestError) as refused:
            await openai.realtime.calls.create(
                sdp="v=0", session={"type": "realtime", "model": "gpt-realtime-mini"}
            )
        assert refused.value.code == "invalid_offer"
