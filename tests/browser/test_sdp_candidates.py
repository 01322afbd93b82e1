"""Policies about candidates that need a STUN server, or a provider that is reached over TCP."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
import pytest_asyncio
import yaml
from aiohttp import ClientSession, web
from aioice import stun
from playwright.async_api import Page

from emulator.options import Options
from emulator.server import Emulator
from helpers.descriptions import ANSWERS
from helpers.policypage import app_page, call
from helpers.tcprelay import TcpRelay, tcp_relay
from ringback.cli.plan import StackOptions
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

MASTER_KEY: Final = "sk-master-key-of-the-candidate-tests"
# What the STUN server calls the page's public address (RFC 5737).
REFLEXIVE: Final = "203.0.113.9"
# Three addresses, each with UDP to port 3478 and TCP to port 443.
RECORDED: Final = ANSWERS["answer_openai_2026-08-17_ga_calls"]
OF_UDP: Final = re.compile(rb"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) [^\n]*\n")
POLICIES: Final[dict[str, Any]] = {
    "masked": {"mask_related_addresses": True},
    "kept": {},
    "firewall": "strict_firewall",
    "tcp": {"offer_candidates": "drop_all", "answer_addresses": [f"{TcpRelay.address}/32"]},
    "udp": {"answer_candidates": "udp_only"},
}
# The pair that media flow over, of those that the page has tried.
REMOTE_IN_USE: Final = """
async () => {
  const reports = await pc.getStats();
  const used = [...reports.values()].filter((report) => report.type === "transport")
    .map((report) => reports.get(report.selectedCandidatePairId));
  return used.map((pair) => reports.get(pair.remoteCandidateId))
    .map(({protocol, port}) => `${protocol} ${port}`);
}
"""
HEARS: Final = """
async () => [...(await pc.getStats()).values()].some((report) =>
  report.type === "inbound-rtp" && report.kind === "audio" && report.bytesReceived)
"""


@dataclass
class Provider:
    """The emulator, as a provider that can be reached over TCP as well: as OpenAI can.

    Attributes:
        emulator: Who answers.
        relay: How it is reached over TCP.
        url: Where to mint and to call.
        answer: What to say in the place of the emulator's answers.
        offers: All that came.
    """

    emulator: Emulator
    relay: TcpRelay
    url: str = ""
    answer: bytes | None = None
    offers: list[str] = field(default_factory=list)

    async def forward(self, request: web.Request) -> web.Response:
        """Let the emulator answer, and name the relay beside its own candidates."""
        data = await request.read()
        headers = {name: request.headers[name] for name in ("authorization", "content-type")}
        url = self.emulator.url + request.path
        async with ClientSession() as http, http.post(url, data=data, headers=headers) as answer:
            body = await answer.read()
        if answer.content_type == "application/sdp":
            self.offers.append(data.decode())
            of_udp = OF_UDP.search(body)
            assert of_udp
            self.relay.udp_port = int(of_udp[1])
            with_tcp = body.replace(of_udp[0], of_udp[0] + self.relay.candidate.encode())
            body = self.answer or with_tcp
        kept = {name: value for name in ("location",) if (value := answer.headers.get(name))}
        return web.Response(
            status=answer.status, body=body, content_type=answer.content_type, headers=kept
        )


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """Serve it on loopback."""
    async with Emulator(Options()) as emulator, tcp_relay() as relay:
        provider = Provider(emulator, relay)
        app = web.Application()
        app.router.add_post("/v1/realtime/{operation}", provider.forward)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield provider
        finally:
            await runner.cleanup()


class StunServer(asyncio.DatagramProtocol):
    """Tells everybody that they come from `REFLEXIVE` (RFC 8489, section 3)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Answer a binding request."""
        request = stun.parse_message(data)
        answer = stun.Message(
            message_method=request.message_method,
            message_class=stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        answer.attributes["XOR-MAPPED-ADDRESS"] = (REFLEXIVE, addr[1])
        self.transport.sendto(bytes(answer), addr)


@asynccontextmanager
async def running_stun() -> AsyncIterator[str]:
    """Serve STUN on every address, and give its URL."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(StunServer, local_addr=("0.0.0.0", 0))
    try:
        yield f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Provider]:
    """The provider."""
    async with running_provider() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The gateway in front of it, with a model for each policy."""
    folder = tmp_path_factory.mktemp("candidates")
    config, settings = folder / "litellm.yaml", folder / "ringback.yaml"
    upstream = {"model": "openai/gpt-realtime", "api_base": provider.url, "api_key": "sk-upstream"}
    models = [{"model_name": name, "litellm_params": upstream} for name in POLICIES]
    config.write_text(
        yaml.safe_dump({"model_list": models, "general_settings": {"master_key": MASTER_KEY}})
    )
    own = {f"p-{name}": policy for name, policy in POLICIES.items() if isinstance(policy, dict)}
    named = {n: p if isinstance(p, str) else f"p-{n}" for n, p in POLICIES.items()}
    settings.write_text(
        yaml.safe_dump({"sdp": {"default": None, "policies": own, "models": named}})
    )
    options = StackOptions(
        config=config, settings=settings, port=0, egress_port=0, admin_port=0, workers=1
    )
    async with Stack(options) as running:
        yield running


async def check_connected(page: Page) -> list[str]:
    """Check that the call connects and audio comes; return what the page sends to."""
    await page.wait_for_function("pc.connectionState === 'connected'")
    await page.wait_for_function(HEARS)
    remote: list[str] = await page.evaluate(REMOTE_IN_USE)
    await page.evaluate("pc.close()")
    return remote


async def test_related_addresses_are_masked(stack: Stack, provider: Provider) -> None:
    """A reflexive candidate no longer tells the address behind it, and the call connects."""
    async with running_stun() as server, app_page() as page:
        for model, related in (("kept", r"raddr \d"), ("masked", r"raddr 0\.0\.0\.0 rport 9\b")):
            result = await call(
                page, stack.url, MASTER_KEY, model, {"gather": True, "stun": server}
            )
            assert result["status"] == 201
            reflexive = re.findall(r"a=candidate:.* typ srflx.*", provider.offers[-1])
            assert reflexive
            assert all(REFLEXIVE in line for line in reflexive)
            assert all(re.search(related, line) for line in reflexive)
            masked = all("raddr 0.0.0.0 rport 9" in line for line in reflexive)
            assert masked is (model == "masked")
            await check_connected(page)


async def test_only_tcp_443_is_left_behind_a_strict_firewall(
    stack: Stack, provider: Provider
) -> None:
    """The page accepts OpenAI's answer, knows no way but TCP to port 443, and told no address."""
    provider.answer = RECORDED
    async with app_page() as page:
        result = await call(page, stack.url, MASTER_KEY, "firewall", {"gather": True})
        provider.answer = None

        assert result["status"] == 201
        assert "a=candidate" not in provider.offers[-1]
        candidates = re.findall(r"a=candidate:(.*)", result["answer"])
        assert len(candidates) == RECORDED.count(b" tcptype passive")
        assert all(re.search(r" tcp .* 443 typ host tcptype passive", c) for c in candidates)
        reports: list[dict[str, Any]] = await page.evaluate(
            "async () => [...(await pc.getStats()).values()]"
        )
        remote = [r for r in reports if r["type"] == "remote-candidate"]
        assert {(r["protocol"], r["port"]) for r in remote} <= {("tcp", 443)}
        assert await page.evaluate("pc.signalingState") == "stable"


async def test_a_call_connects_over_tcp_alone(stack: Stack, provider: Provider) -> None:
    """Without an address of the page, and with one of TCP in the answer, the page hears."""
    async with app_page() as page:
        result = await call(page, stack.url, MASTER_KEY, "tcp", {"gather": True})

        assert result["status"] == 201
        assert "a=candidate" not in provider.offers[-1]
        candidates = re.findall(r"a=candidate:.*\r\n", result["answer"])
        assert set(candidates) == {provider.relay.candidate}
        assert await check_connected(page) == [f"tcp {provider.relay.port}"]


async def test_candidates_of_tcp_are_dropped(stack: Stack) -> None:
    """With `udp_only` the page is told no other way, and hears over UDP."""
    async with app_page() as page:
        result = await call(page, stack.url, MASTER_KEY, "udp", {})

        assert result["status"] == 201
        assert " tcp " not in result["answer"]
        (remote,) = await check_connected(page)
        assert remote.startswith("udp ")
