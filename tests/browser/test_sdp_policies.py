"""Every switch of the SDP policy, in a real Chromium against the emulator's real peer."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml
from aiohttp import ClientSession
from playwright.async_api import Page

from emulator.options import Options
from emulator.server import Emulator
from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.policypage import app_page, call
from ringback.cli.plan import StackOptions
from ringback.cli.stack import Stack
from ringback.secrets import Secret

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

MASTER_KEY: Final = "sk-master-key-of-the-policy-tests"
KIOSK_KEY: Final = "sk-key-of-a-kiosk-in-the-policy-tests"
SENT_BITRATE: Final = """
async () => {
  const bytes = async () => [...(await pc.getStats()).values()].find((report) =>
    report.type === "outbound-rtp" && report.kind === "audio").bytesSent;
  const before = await bytes();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return (await bytes() - before) * 4;
}
"""
HEARS: Final = """
async () => [...(await pc.getStats()).values()].some((report) =>
  report.type === "inbound-rtp" && report.kind === "audio" && report.bytesReceived)
"""
STATISTICS: Final = "async () => [...(await pc.getStats()).values()]"


@dataclass(frozen=True)
class Case:
    """A policy, what the page offers under it, and what is seen of the effect.

    Attributes:
        policy: As in ``sdp.policies`` of the settings.
        page: What differs from a page that only talks: ``kinds`` of tracks in their order,
            ``gather`` (wait for candidates), ``sections`` (further ones that listen).
        offered: Patterns that the offer has as the upstream receives it.
        not_offered: Patterns that it lacks.
        answered: Patterns that the answer has as the page receives it.
        not_answered: Patterns that it lacks.
        codec: What the page sends with.
        has_channel: Whether events come.
        hears: Whether audio comes.
        max_bitrate: What the page sends over two seconds, at most, in bit/s without headers.
    """

    policy: dict[str, Any] | str
    page: dict[str, Any] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    not_offered: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    not_answered: tuple[str, ...] = ()
    codec: str = "audio/opus"
    has_channel: bool = True
    hears: bool = True
    max_bitrate: int | None = None


CONNECTS: Final[dict[str, Case]] = {
    "nothing": Case({}, {"gather": True}, offered=(r"a=candidate:.* typ host",)),
    "privacy": Case(
        "privacy", {"gather": True}, not_offered=(r"a=candidate:.* (127\.|10\.|f[cd]|\S+\.local )",)
    ),
    "kiosk": Case(
        "kiosk", {"kinds": ["audio", "video"]}, offered=(r"m=video 0 ",), answered=(r"m=video 0 ",)
    ),
    "low-bandwidth": Case(
        "low_bandwidth",
        offered=(r"maxaveragebitrate=20000", r"b=AS:40", r"usedtx=1"),
        answered=(r"maxaveragebitrate=20000", r"b=AS:40"),
        not_offered=(r"a=rtpmap:\d+ PCMU",),
    ),
    "video-rejected": Case(
        {"media": ["audio", "application"], "forbidden_media": "reject"},
        {"kinds": ["audio", "video"]},
        offered=(r"m=video 0 ",),
        answered=(r"m=video 0 ",),
    ),
    "no-data-channel": Case(
        {"max_data_sections": 0}, offered=(r"m=application 0 ",), has_channel=False
    ),
    "pcmu-only": Case(
        {"audio_codecs": ["pcmu"]}, not_offered=(r"a=rtpmap:\d+ opus",), codec="audio/PCMU"
    ),
    "pcma-only": Case({"audio_codecs": ["pcma"]}, codec="audio/PCMA"),
    "pcmu-first": Case(
        {"audio_codec_order": ["pcmu", "opus"]},
        offered=(r"m=audio 9 \S+ 0 111",),
        codec="audio/PCMU",
    ),
    "no-candidates": Case(
        {"offer_candidates": "drop_all"}, {"gather": True}, not_offered=(r"a=candidate",)
    ),
    "loopback-only": Case(
        {"answer_addresses": ["127.0.0.0/8"]}, answered=(r"a=candidate:.* 127\.0\.0\.1 ",)
    ),
    "opus-to-the-page": Case(
        {"offer_audio": {"max_average_bitrate": 16000, "stereo": True, "use_inband_fec": False}},
        offered=(r"maxaveragebitrate=16000", r"stereo=1", r"useinbandfec=0"),
        not_answered=(r"maxaveragebitrate=16000",),
    ),
    "opus-from-the-page": Case(
        {"answer_audio": {"max_average_bitrate": 16000, "use_dtx": True}},
        not_offered=(r"maxaveragebitrate",),
        answered=(r"maxaveragebitrate=16000", r"usedtx=1"),
        max_bitrate=16000,
    ),
    "bandwidth-of-pcmu": Case(
        {"audio_codecs": ["pcmu"], "answer_audio": {"bandwidth_as_kbps": 40}},
        answered=(r"b=AS:64",),
        codec="audio/PCMU",
    ),
    "bandwidth": Case(
        {"offer_audio": {"bandwidth_as_kbps": 64}, "answer_audio": {"bandwidth_tias_bps": 50000}},
        offered=(r"b=AS:64",),
        answered=(r"b=TIAS:50000",),
    ),
    "sha-256": Case({"min_fingerprint_hash": "sha-256"}, offered=(r"a=fingerprint:sha-256",)),
    "speaks-only": Case({"direction": "sendonly"}, offered=(r"a=sendonly",), hears=False),
    "listens-only": Case({"direction": "recvonly"}, offered=(r"a=recvonly",)),
}

REFUSED: Final[dict[str, tuple[dict[str, Any], dict[str, Any], int, str]]] = {
    "video-refused": (
        {"media": ["audio", "application"], "forbidden_media": "refuse"},
        {"kinds": ["audio", "video"]},
        403,
        "allowed kind",
    ),
    "video-first": ({"media": ["audio"]}, {"kinds": ["video", "audio"]}, 403, "audio track before"),
    "no-codec-left": ({"audio_codecs": ["pcmu"]}, {"only": "audio/opus"}, 403, "codec"),
    "data-refused": (
        {"max_data_sections": 0, "forbidden_media": "refuse"},
        {},
        403,
        "data channel",
    ),
    "line-too-long": ({"max_line_bytes": 256}, {"append": f"a=x:{'x' * 300}\r\n"}, 413, "bytes"),
    "sha-384": ({"min_fingerprint_hash": "sha-384"}, {}, 403, "sha-384"),
    "too-many-sections": ({"max_media_sections": 2}, {"sections": 2}, 413, "media sections"),
    "too-many-candidates": ({"max_candidates": 0}, {"gather": True}, 413, "candidates"),
    "too-many-lines": ({"max_lines": 32}, {}, 413, "lines"),
    "too-large": ({"max_bytes": 1024}, {}, 413, "bytes"),
    "no-tcp-443": ({"answer_candidates": "tcp_443_only"}, {}, 502, "candidate"),
    "elsewhere": ({"answer_addresses": ["203.0.113.0/24"]}, {}, 502, "candidate"),
}


def _settings() -> dict[str, Any]:
    """Give each case a model of its own, and each model its policy."""
    cases = {name: case.policy for name, case in CONNECTS.items()}
    cases |= {name: policy for name, (policy, *_) in REFUSED.items()}
    cases |= {"of-the-model": {"audio_codecs": ["pcmu", "pcma"]}}
    policies = {f"p-{n}": p for n, p in cases.items() if isinstance(p, dict)}
    policies |= {"of-the-team": {"offer_audio": {"bandwidth_as_kbps": 64}}}
    policies |= {"of-the-alias": {"answer_audio": {"bandwidth_as_kbps": 50}}}
    policies |= {"of-the-key": {"audio_codecs": ["pcma", "opus"]}}
    return {
        "sdp": {
            "default": None,
            "policies": policies,
            "models": {n: p if isinstance(p, str) else f"p-{n}" for n, p in cases.items()},
            "teams": {"kiosks": "of-the-team"},
            "keys": {"front-door": "of-the-alias"},
        }
    }


def _config(emulator: Emulator) -> dict[str, Any]:
    return {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": "openai/gpt-realtime",
                    "api_base": emulator.url,
                    "api_key": "sk-of-the-emulator",
                },
            }
            for name in (*CONNECTS, *REFUSED, "of-the-model")
        ],
        "general_settings": {"master_key": MASTER_KEY},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    """The provider, which tells what it was offered."""
    async with Emulator(Options()) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The gateway with a policy for each case."""
    folder = tmp_path_factory.mktemp("policies")
    config, settings = folder / "litellm.yaml", folder / "ringback.yaml"
    key = VirtualKey(
        hash_key(Secret(KIOSK_KEY)), alias="front-door", team="kiosks", sdp_policy="of-the-key"
    )
    save_keys(folder / "keys.yaml", [key])
    config.write_text(yaml.safe_dump(_config(emulator)))
    settings.write_text(yaml.safe_dump(_settings()))
    options = StackOptions(
        config=config,
        settings=settings,
        keys=folder / "keys.yaml",
        port=0,
        egress_port=0,
        admin_port=0,
        workers=1,
        run_dir=folder / "run",
    )
    async with Stack(options) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    """An empty page of somebody's app."""
    async with app_page() as page:
        yield page


async def last_call(emulator: Emulator) -> dict[str, Any]:
    """Return the newest call as the provider saw it."""
    async with ClientSession() as http, http.get(f"{emulator.url}/emulator/calls") as response:
        calls: list[dict[str, Any]] = (await response.json())["calls"]
    return max(calls, key=lambda known: known["started_at"])


def check_patterns(text: str, present: tuple[str, ...], absent: tuple[str, ...]) -> None:
    """Check what a description has and lacks."""
    for pattern in present:
        assert re.search(pattern, text), pattern
    for pattern in absent:
        assert not re.search(pattern, text), pattern


@pytest.mark.parametrize("name", CONNECTS)
async def test_a_call_connects_under_the_policy(
    page: Page, stack: Stack, emulator: Emulator, name: str
) -> None:
    """The call connects, audio comes, and the effect is there: on the wire and in use."""
    case = CONNECTS[name]
    result = await call(page, stack.url, MASTER_KEY, name, case.page)

    assert result["status"] == 201, result["answer"]
    await page.wait_for_function("pc.connectionState === 'connected'")
    seen = await last_call(emulator)
    check_patterns(seen["offer"], case.offered, case.not_offered)
    check_patterns(result["answer"], case.answered, case.not_answered)
    if case.hears:
        await page.wait_for_function(HEARS)
    reports: list[dict[str, Any]] = await page.evaluate(STATISTICS)
    sent = [r for r in reports if r["type"] == "outbound-rtp" and r["kind"] == "audio"]
    codecs = {r["id"]: r["mimeType"] for r in reports if r["type"] == "codec"}
    if name == "listens-only":
        assert not any(report.get("bytesSent") for report in sent)
    else:
        assert {codecs[report["codecId"]] for report in sent} == {case.codec}
    assert not [r for r in reports if r["type"] == "outbound-rtp" and r["kind"] == "video"] or (
        "video" not in case.page.get("kinds", ())
    )
    if case.max_bitrate is not None:
        assert await page.evaluate(SENT_BITRATE) <= case.max_bitrate
    if case.has_channel:
        await page.wait_for_function("received.includes('session.created')")
    await page.evaluate("pc.close()")


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_can_be_read_in_the_page(
    page: Page, stack: Stack, emulator: Emulator, name: str
) -> None:
    """The page shows words that name the rule; nothing of a refused offer goes upstream."""
    _, offers, status, word = REFUSED[name]
    before = (await last_call(emulator))["call_id"] if status < 500 else ""

    result = await call(page, stack.url, MASTER_KEY, name, offers)

    assert result["status"] == status, result["answer"]
    assert word in await page.inner_text("body")
    if status < 500:
        assert (await last_call(emulator))["call_id"] == before
    await page.evaluate("pc.close()")


async def test_the_strictest_of_all_policies_holds(
    page: Page, stack: Stack, emulator: Emulator
) -> None:
    """One codec is allowed by model and key alike; team and alias add a limit each."""
    result = await call(page, stack.url, KIOSK_KEY, "of-the-model", {})

    assert result["status"] == 201, result["answer"]
    offer = (await last_call(emulator))["offer"]
    assert set(re.findall(r"a=rtpmap:\d+ (\w+)", offer)) == {"PCMA"}
    assert "b=AS:64" in offer
    assert "b=AS:64" in result["answer"], "PCMA cannot do with the 50 that the alias allows"
    await page.wait_for_function(HEARS)
    await page.evaluate("pc.close()")
