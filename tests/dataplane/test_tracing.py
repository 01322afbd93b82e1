from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from helpers.collector import Collector, Span
from helpers.gateway import Gateway, until
from helpers.gatewayfiles import (
    KEYS,
    MASTER_KEY,
    OPENAI_KEY,
    TOKEN_SECRET,
    Files,
    openai_entry,
)
from helpers.http11 import Header, Message
from helpers.recording import CLIENT_SECRETS, RecordingUpstream, Reply
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# A caller who would like to be traced, and says so in every way.
THEIRS = "11111111111111111111111111111111"
CALLER: list[Header] = [
    ("traceparent", f"00-{THEIRS}-2222222222222222-01"),
    ("tracestate", "vendor=private"),
    ("baggage", "private=1"),
    ("x-client-trace-id", "private"),
    ("x-envoy-force-trace", "true"),
    ("user-agent", "private-agent"),
    ("x-forwarded-for", "203.0.113.9"),
]
CONTEXT = {"traceparent", "tracestate", "baggage", "b3"}
# Spans of a call and of a mint, as they have to be there before a trace is whole.
CALL = ("ingress_http", "extauthz.check", "extauthz.find_key", "sdpfilter.process")
MINT = ("ingress_http", "extauthz.check", "extauthz.find_key", "extauthz.mint", "egress_http")


@dataclass(frozen=True, slots=True)
class Traced:
    """A gateway whose traces go to a collector."""

    gateway: Gateway
    collector: Collector

    async def trace_of(self, answer: Message, *names: str) -> list[Span]:
        """Return the trace of a request, by the id that its line in the access log has."""
        line = await self.gateway.logged(str(answer.header("x-request-id")))
        return await self.collector.trace(line["trace_id"], *names)


@asynccontextmanager
async def traced(folder: Path, **tracing: object) -> AsyncIterator[Traced]:
    """Run a gateway with settings of traces."""
    files = Files(folder)
    async with Collector() as collector, RecordingUpstream() as openai:
        files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
        files.write_keys()
        files.write_settings(tracing={"endpoint": collector.url, **tracing})
        async with Stack(files.options()) as stack:
            yield Traced(Gateway(stack, files, openai, openai), collector)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared_all(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """Give a gateway that traces every request; use `all_traced`."""
    async with traced(tmp_path_factory.mktemp("traced"), sample_ratio=1) as running:
        yield running


@pytest.fixture
def all_traced(shared_all: Traced) -> Traced:
    """A gateway that traces every request, and whose upstream has received nothing yet."""
    shared_all.gateway.reset()
    return shared_all


def upwards(spans: list[Span], name: str) -> list[str]:
    """Return the names from a span up to the root."""
    by_id = {span.span_id: span for span in spans}
    (span,) = [span for span in spans if span.name == name]
    names = [span.name]
    while span.parent_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names


async def test_a_mint_is_one_trace(all_traced: Traced) -> None:
    """From Envoy through extauthz and its key lookup to the request of the provider."""
    minted = await all_traced.gateway.mint(headers=CALLER)
    upstream = f"router upstream_http_127_0_0_1_{all_traced.gateway.openai.port} egress"
    spans = await all_traced.trace_of(minted, *MINT, upstream)
    check = "async envoy.service.auth.v3.Authorization.Check egress"
    above = ["extauthz.check", check, "ingress_http"]
    assert upwards(spans, "extauthz.find_key") == ["extauthz.find_key", *above]
    assert upwards(spans, upstream) == [upstream, "egress_http", "extauthz.mint", *above]
    (mint,) = [span for span in spans if span.name == "extauthz.mint"]
    assert (mint.service, mint.attributes) == ("extauthz", {"deployment": "voice-1"})
    assert {span.service for span in spans} == {"envoy", "extauthz"}
    (root,) = [span for span in spans if not span.parent_id]
    assert root.attributes["guid:x-request-id"] == minted.header("x-request-id")


async def test_a_call_is_one_trace(all_traced: Traced) -> None:
    """From Envoy through both services to the provider."""
    called = await all_traced.gateway.call(await all_traced.gateway.token(), headers=CALLER)
    upstream = f"router upstream_http_127_0_0_1_{all_traced.gateway.openai.port} egress"
    spans = await all_traced.trace_of(called, *CALL, upstream)
    assert {span.service for span in spans} == {"envoy", "extauthz", "sdpfilter"}
    assert upwards(spans, upstream) == [upstream, "ingress_http"]
    assert upwards(spans, "sdpfilter.process")[::2] == ["sdpfilter.process", "ingress_http"]


async def test_failures_are_told_by_their_codes(all_traced: Traced) -> None:
    """A span that an error leaves has the code of the error and nothing of its text."""
    all_traced.gateway.openai.script[CLIENT_SECRETS] = Reply(500)
    spans = await all_traced.trace_of(await all_traced.gateway.mint(), "extauthz.mint")
    (mint,) = [span for span in spans if span.name == "extauthz.mint"]
    assert mint.is_error
    assert mint.attributes["error.type"] == "upstream_failed"


async def test_nobody_joins_a_trace(all_traced: Traced) -> None:
    """What a caller says of traces is ignored, and providers learn nothing of ours."""
    called = await all_traced.gateway.call(await all_traced.gateway.token(), headers=CALLER)
    await all_traced.trace_of(called, *CALL)
    assert THEIRS not in {span.trace_id for span in all_traced.collector.spans()}
    assert len(all_traced.gateway.openai.received) == 2
    for request in all_traced.gateway.openai.received:
        assert {name.lower() for name, _ in request.headers} & CONTEXT == set()


async def test_traces_tell_no_secret(all_traced: Traced) -> None:
    """No span holds a credential, a line of SDP, an address, a path, or what a caller wrote."""
    gateway = all_traced.gateway
    token = await gateway.token()
    called = await gateway.call(token, headers=CALLER)
    refused = await gateway.call(token, headers=CALLER, offer=b"v=1\r\n")
    unknown = await gateway.mint(key="sk-unknown", headers=CALLER)
    query = await gateway.post("/v1/realtime/calls?private=1", CALLER, b"")
    path = await gateway.post("/v1/realtime/calls/rtc_private/hangup", [*CALLER], b"")
    for answer in (called, refused, unknown, query, path):
        await all_traced.trace_of(answer, "ingress_http", "extauthz.check")
    text = all_traced.collector.text()
    secrets = (*KEYS, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET, token, "private")
    assert find_secrets(text, *secrets) == set()


async def test_trust_and_telling_are_for_settings_to_say(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With trust a caller's trace goes on through all parts to the provider, if it is to be told.

    With a ratio of 0 nothing else is traced. A collector that is away costs callers nothing, and
    the log says that traces are lost.
    """
    folder = tmp_path_factory.mktemp("trusting")
    async with traced(folder, sample_ratio=0, trust_caller=True, to_upstream=True) as running:
        gateway, collector = running.gateway, running.collector
        token = await gateway.token()
        await gateway.call(token)
        assert all(context.endswith("-00") for context in contexts(gateway))
        gateway.reset()
        await running.trace_of(await gateway.call(token, headers=CALLER), *CALL)
        await running.trace_of(await gateway.mint(headers=CALLER), *MINT)
        assert {span.trace_id for span in collector.spans()} == {THEIRS}
        seen = [context.split("-") for context in contexts(gateway)]
        assert [(trace_id, flags) for _, trace_id, _, flags in seen] == [(THEIRS, "01")] * 2
        parents = {parent for _, _, parent, _ in seen}
        await until(lambda: parents <= {span.span_id for span in collector.spans()})
        await collector.stop()
        for _ in range(3):
            assert (await gateway.call(token, headers=CALLER)).status == 201
        await until(lambda: "traces_lost" in gateway.stack.logs("extauthz-0"))
        # Lines of ours: gRPC's core writes about its sockets, see ringback/logs.py.
        ours = [line for line in gateway.stack.logs("extauthz-0").splitlines() if line[0] == "{"]
        assert find_secrets("\n".join(ours), *KEYS, TOKEN_SECRET, token) == set()


def contexts(gateway: Gateway) -> list[str]:
    """Return every ``traceparent`` that a provider received."""
    return [
        value
        for request in gateway.openai.received
        for name, value in request.headers
        if name.lower() == "traceparent"
    ]
