"""Real calls with rewritten descriptions: an aiortc client and the emulator, on loopback."""

import asyncio
from typing import Final

import aiohttp
import pytest

from emulator.options import Options
from emulator.server import Emulator
from helpers.appbackend import AppBackend
from helpers.rewriting import policy
from helpers.voiceclient import VoiceClient
from ringback.sdppolicy import Policy
from sdpfilter.draft import Rewritten
from sdpfilter.policy import PRESETS, strictest
from sdpfilter.policyerrors import NoCandidateLeftError
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer

QUIET: Final = Options(greet=False)
OPUS: Final = {
    "max_average_bitrate": 16000,
    "use_inband_fec": True,
    "use_dtx": False,
    "stereo": False,
}
CONNECTING: Final = {
    # Realistic
    "privacy": PRESETS["privacy"],
    "kiosk": PRESETS["kiosk"],
    "low_bandwidth": PRESETS["low_bandwidth"],
    "all-three": strictest(
        strictest(PRESETS["privacy"], PRESETS["kiosk"]), PRESETS["low_bandwidth"]
    ),
    "codecs": policy(audio_codecs=["pcmu"]),
    "codec-order": policy(audio_codec_order=["pcma", "opus"]),
    "drop-private": policy(offer_candidates="drop_private"),
    "drop-all": policy(offer_candidates="drop_all"),
    "masked": policy(mask_related_addresses=True),
    "udp": policy(answer_candidates="udp_only"),
    "ranges": policy(answer_addresses=["0.0.0.0/0"]),
    "offer-audio": policy(
        offer_audio={**OPUS, "bandwidth_as_kbps": 40, "bandwidth_tias_bps": 16000}
    ),
    "answer-audio": policy(
        answer_audio={**OPUS, "bandwidth_as_kbps": 40, "bandwidth_tias_bps": 16000}
    ),
    "fingerprints": policy(min_fingerprint_hash="sha-256"),
    "limits": policy(max_bytes=8192, max_lines=100, max_media_sections=2, max_candidates=64),
}


class FilteredCall:
    """One call through a policy, as sdpfilter would make it.

    Args:
        emulator: The upstream.
        http: For its API.
        wanted: The policy.
    """

    def __init__(self, emulator: Emulator, http: aiohttp.ClientSession, wanted: Policy) -> None:
        self.backend = AppBackend(http, emulator.url)
        self._policy = wanted

    async def connect(self, client: VoiceClient) -> None:
        """Make the call and wait until both sides are connected."""
        _, answer = await self.exchange(client)
        await client.accept(answer.data.decode())
        async with asyncio.timeout(15):
            await client.is_connected.wait()

    async def exchange(self, client: VoiceClient) -> tuple[Rewritten, Rewritten]:
        """Return the client's offer and the upstream's answer, both as they are passed on."""
        offered = (await client.offer()).encode()
        offer = apply_to_offer(check_offer(offered), self._policy)
        headers = {
            "Authorization": f"Bearer {await self.backend.mint()}",
            "Content-Type": "application/sdp",
        }
        async with self.backend.http.post(
            f"{self.backend.root}/calls", data=offer.data, headers=headers
        ) as response:
            assert response.status == 201
            self.call_id = response.headers["Location"].rpartition("/")[2]
            answered = await response.read()
        answer = apply_to_answer(
            check_answer(answered, offer.description), offer.description, self._policy
        )
        return offer, answer

    async def wait_for_audio(self, client: VoiceClient, *, heard: bool, sent: bool) -> None:
        """Wait until audio has flowed the ways that it should."""
        async with asyncio.timeout(15):
            while (heard and client.frames_heard < 10) or (sent and not await self._received()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _received(self) -> int:
        return int((await self.backend.snapshot(self.call_id))["audio_bytes_received"])


@pytest.mark.parametrize("name", CONNECTING)
async def test_calls_connect(name: str) -> None:
    """Under a policy audio flows both ways and the data channel opens."""
    async with (
        Emulator(QUIET) as emulator,
        aiohttp.ClientSession() as http,
        VoiceClient() as client,
    ):
        call = FilteredCall(emulator, http, CONNECTING[name])
        await call.connect(client)
        await client.wait_for("session.created")
        await call.wait_for_audio(client, heard=True, sent=True)


@pytest.mark.parametrize(("direction", "heard", "sent"), [("recvonly", 1, 0), ("sendonly", 0, 1)])
async def test_audio_flows_one_way(direction: str, heard: int, sent: int) -> None:
    """A client that may only listen is not heard, one that may only speak hears nothing."""
    async with (
        Emulator(QUIET) as emulator,
        aiohttp.ClientSession() as http,
        VoiceClient() as client,
    ):
        call = FilteredCall(emulator, http, policy(direction=direction))
        await call.connect(client)
        await client.wait_for("session.created")
        await call.wait_for_audio(client, heard=bool(heard), sent=bool(sent))
        await asyncio.sleep(0.3)
        assert bool(client.frames_heard) == heard
        snapshot = await call.backend.snapshot(call.call_id)
        assert bool(snapshot["audio_bytes_received"]) == sent


@pytest.mark.parametrize(
    ("wanted", "rejected"),
    [
        # Realistic
        pytest.param(PRESETS["kiosk"], [False, True, False], id="video"),
        pytest.param(policy(media=["audio"]), [False, True, True], id="all-but-audio"),
        pytest.param(policy(max_data_sections=0), [False, False, True], id="data"),
    ],
)
async def test_both_sides_reject_what_is_forbidden(wanted: Policy, rejected: list[bool]) -> None:
    """The upstream answers a section that the policy rejects with one that is rejected.

    The client here is not asked whether it likes that: aiortc's wants ICE credentials in rejected
    sections too, which no answerer puts there. Browsers do like it.
    """
    async with (
        Emulator(QUIET) as emulator,
        aiohttp.ClientSession() as http,
        VoiceClient() as client,
    ):
        client._peer.addTransceiver("video")
        offer, answer = await FilteredCall(emulator, http, wanted).exchange(client)
        for description in (offer.description, answer.description):
            assert [section.is_rejected for section in description.media] == rejected
        assert answer.description.bundle_groups == offer.description.bundle_groups


async def test_a_strict_firewall_refuses_an_upstream_without_tcp() -> None:
    """The emulator has no candidate at TCP port 443, so nothing may pass and a reason is told."""
    async with (
        Emulator(QUIET) as emulator,
        aiohttp.ClientSession() as http,
        VoiceClient() as client,
    ):
        call = FilteredCall(emulator, http, PRESETS["strict_firewall"])
        with pytest.raises(NoCandidateLeftError):
            await call.exchange(client)
