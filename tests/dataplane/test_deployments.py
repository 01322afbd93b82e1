import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest
import pytest_asyncio

from helpers import wsclient
from helpers.expect import check_refusal
from helpers.gateway import OFFER, SDP_TYPE, bearer
from helpers.gatewayfiles import KEY, KEYS, MASTER_KEY, TOKEN_SECRET
from helpers.http11 import Message
from helpers.pairs import FAILURES, GOOD_KEY, OTHER_KEY, Pairs, converse, running
from helpers.recording import CALLS, CLIENT_SECRETS, RecordingUpstream, Reply, minted_reply
from helpers.scraping import free_metrics_ports, get
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

RESTRICTED = "sk-key-for-azure-alone"


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_pairs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pairs]:
    """Give the one gateway of this file; use `pairs`, which also cleans up."""
    async with running(tmp_path_factory.mktemp("pairs")) as pairs:
        yield pairs
        for name, text in pairs.gateway.logs().items():
            assert find_secrets(text, *KEYS, MASTER_KEY, TOKEN_SECRET) == set(), name


@pytest.fixture
def pairs(shared_pairs: Pairs) -> Pairs:
    """A gateway whose upstreams have received nothing yet."""
    shared_pairs.reset()
    return shared_pairs


def credentials(upstream: RecordingUpstream) -> Counter[str | None]:
    """Return how often each credential came with calls."""
    return Counter(call.header("authorization") for call in upstream.received_at(CALLS))


def cooled(pairs: Pairs) -> list[str]:
    """Return the deployments that began to cool, as the logs tell."""
    lines = pairs.gateway.stack.logs("extauthz-0").splitlines()
    events = [json.loads(line) for line in lines if line[:1] == "{"]
    return [event["deployment"] for event in events if event["event"] == "deployment_cooled"]


async def test_every_call_reaches_its_minter(pairs: Pairs) -> None:
    """Of 1,000 mints each deployment gets its share, and each call reaches the one that minted."""
    answers = await converse(pairs.gateway.port, "pair", 1000)
    assert Counter(answer.status for answer in answers) == {200: 1000, 201: 1000}
    good, other = (len(u.received_at(CLIENT_SECRETS)) for u in (pairs.good, pairs.other))
    assert good + other == 1000
    assert 400 < good < 600
    assert credentials(pairs.good) == {f"Bearer {GOOD_KEY}": good}
    assert credentials(pairs.other) == {f"Bearer {OTHER_KEY}": other}


@pytest.mark.parametrize("group", FAILURES)
async def test_no_caller_sees_a_failing_deployment(pairs: Pairs, group: str) -> None:
    """While another deployment is healthy it mints, whatever the first one does."""
    answers = await converse(pairs.gateway.port, group, 12, lines=6)
    assert Counter(answer.status for answer in answers) == {200: 12, 201: 12}
    assert credentials(pairs.good) == {f"Bearer {GOOD_KEY}": 12}
    assert len(pairs.good.received_at(CLIENT_SECRETS)) == 12
    assert f"{group}-bad" in cooled(pairs)
    # A request that nothing answers at all is sent twice.
    assert len(pairs.bad[group].received) < 24
    assert pairs.bad[group].received_at(CALLS) == []


async def test_cooldown_and_recovery(pairs: Pairs) -> None:
    """A provider that asks to be left alone until a date is, and is asked again afterwards."""
    limited, loop = pairs.bad["limited"], asyncio.get_running_loop()
    date, later = (formatdate(at, usegmt=True) for at in (1000, 1002))
    limited.script[CLIENT_SECRETS] = Reply(429, (("Date", date), ("Retry-After", later)))
    # It may still cool after another test.
    while not limited.received:
        begin = loop.time()
        assert (await pairs.gateway.mint("limited")).status == 200
        await asyncio.sleep(0.05)
    limited.script[CLIENT_SECRETS] = minted_reply("ek_upstream_recovered")
    async with asyncio.timeout(10):
        while len(limited.received) == 1:
            assert (await pairs.gateway.mint("limited")).status == 200
            await asyncio.sleep(0.05)
    assert loop.time() - begin >= 2
    answers = await converse(pairs.gateway.port, "limited", 4, lines=1)
    assert Counter(answer.status for answer in answers) == {200: 4, 201: 4}
    assert credentials(limited) == {"Bearer ek_upstream_recovered": 4}


async def test_all_fail(pairs: Pairs) -> None:
    """If every deployment fails the caller is told the most useful reason, never a key."""
    answer = await pairs.gateway.mint("dead")
    check_refusal(answer, 502, "upstream_failed")
    entry = await pairs.gateway.logged(str(answer.header("x-request-id")))
    assert entry["deployment"] in {"dead-1", "dead-2"}
    assert pairs.good.received == []
    assert pairs.other.received == []


async def test_all_cool(pairs: Pairs) -> None:
    """While every deployment cools nobody is asked, and the caller is told how long to wait."""
    pairs.bad["failed"].script[CLIENT_SECRETS] = Reply(429, (("Retry-After", "60"),))
    pairs.bad["unauthorized"].script[CLIENT_SECRETS] = Reply(429, (("Retry-After", "60"),))
    async with asyncio.timeout(10):
        # Another test may have cooled either of them, for a second.
        while len(pairs.bad["failed"].received) + len(pairs.bad["unauthorized"].received) < 2:
            await pairs.gateway.mint("dead")
            await asyncio.sleep(0.1)
    received = len(pairs.gateway.received), len(pairs.bad["failed"].received)
    answer = await pairs.gateway.mint("dead")
    check_refusal(answer, 429, "deployments_cooling")
    assert 50 < int(str(answer.header("retry-after"))) <= 60
    assert received == (len(pairs.gateway.received), len(pairs.bad["failed"].received))


async def test_a_fallback_group_helps(pairs: Pairs) -> None:
    """A key that may use only the group gets a token of its fallback, and calls with it there."""
    answer = await pairs.gateway.mint("helped", key=RESTRICTED)
    assert answer.status == 200
    assert (await pairs.gateway.call(answer.json()["value"])).status == 201
    assert len(pairs.good.received_at(CALLS)) + len(pairs.other.received_at(CALLS)) == 1
    check_refusal(await pairs.gateway.mint("pair", key=RESTRICTED), 403, "model_denied")


async def test_a_fallbacks_token_opens_a_websocket(pairs: Pairs) -> None:
    """A WebSocket with a token goes to the deployment that minted it, a fallback's too."""
    token = await pairs.gateway.token("helped")
    async with wsclient.converse(pairs.gateway, "/v1/realtime", [bearer(token)]):
        (minter,) = [u for u in (pairs.good, pairs.other) if u.received_at(CLIENT_SECRETS)]
        assert len(minter.received) == 2
    assert len(pairs.gateway.received) == 2


async def test_a_websocket_passes_by_what_cools(pairs: Pairs) -> None:
    """A WebSocket with a key has one try, and that goes to a deployment which minted lately."""
    bad, target = pairs.bad["forbidden"], "/v1/realtime?model=forbidden"
    bad.script[CLIENT_SECRETS] = Reply(429, (("Retry-After", "30"),))
    async with asyncio.timeout(10):
        # It may still cool after another test.
        while not bad.received:
            assert (await pairs.gateway.mint("forbidden")).status == 200
            await asyncio.sleep(0.05)
    pairs.good.received.clear()
    async with wsclient.converse(pairs.gateway, target, [bearer(KEY)]):
        (request,) = pairs.good.received
    assert request.target == "/v1/realtime?model=gpt-realtime"
    assert len(bad.received) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_callers_mistake_is_its_own(pairs: Pairs, status: int) -> None:
    """What the provider finds wrong with a request is told at once, and cools nothing."""
    pairs.bad["wrong"].script[CLIENT_SECRETS] = Reply(status)
    for _ in range(8):
        answer = await pairs.gateway.mint("wrong")
        assert answer.status == status
    assert len(pairs.bad["wrong"].received) == 8
    assert pairs.good.received == []
    assert "wrong-1" not in cooled(pairs)


async def test_a_flood_of_bad_tokens_cools_nothing(pairs: Pairs) -> None:
    """Neither tokens that are refused here nor those that the provider refuses touch a mint."""
    tokens = [await pairs.gateway.token("pair") for _ in range(4)]
    before = cooled(pairs)
    for upstream in (pairs.good, pairs.other):
        upstream.script[CALLS] = Reply(401)
    bad = [f"ek_{index:0200d}" for index in range(100)] + tokens * 10
    turns = asyncio.Semaphore(16)

    async def call(token: str) -> Message:
        async with turns:
            return await pairs.gateway.call(token)

    answers = await asyncio.gather(*map(call, bad))
    assert {answer.status for answer in answers} == {401}
    assert cooled(pairs) == before
    answers = await converse(pairs.gateway.port, "pair", 20, lines=2)
    assert Counter(answer.status for answer in answers)[200] == 20


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(500), id="500"),
        pytest.param(Reply(429), id="429"),
        pytest.param(Reply(503), id="503"),
        pytest.param(Reply(hangs_up=True), id="hang-up"),
    ],
)
async def test_a_call_is_sent_once(pairs: Pairs, reply: Reply) -> None:
    """A call that fails is not sent again, neither to its deployment nor to another."""
    token = await pairs.gateway.token("pair")
    for upstream in (pairs.good, pairs.other):
        upstream.script[CALLS] = reply
    assert (await pairs.gateway.call(token)).status >= 400
    assert len(pairs.good.received_at(CALLS)) + len(pairs.other.received_at(CALLS)) == 1


async def test_wildcard(pairs: Pairs) -> None:
    """What a wildcard stands for goes upstream as the model; names that cannot are unknown."""
    token = await pairs.gateway.token("any/gpt-realtime-mini")
    assert (await pairs.gateway.call(token)).status == 201
    (minted,) = pairs.other.received_at(CLIENT_SECRETS)
    assert minted.json()["session"]["model"] == "gpt-realtime-mini"
    check_refusal(await pairs.gateway.mint("any/../x"), 400, "model_unknown")
    assert len(pairs.other.received) == 2


async def test_an_id_names_a_deployment(pairs: Pairs) -> None:
    """A request may name a deployment instead of its group; no other mints for it."""
    for _ in range(6):
        await pairs.gateway.token("pair-other")
    assert len(pairs.other.received) == 6
    assert pairs.good.received == []


async def test_a_call_with_a_key_fails_over(pairs: Pairs) -> None:
    """A call that mints for itself goes to the deployment that did."""
    headers = [bearer(next(iter(KEYS))), SDP_TYPE]
    answer = await pairs.gateway.post("/v1/realtime/calls?model=failed", headers, OFFER)
    assert answer.status == 201
    assert credentials(pairs.good) == {f"Bearer {GOOD_KEY}": 1}


async def knows(port: int, deployment: str) -> bool:
    """Tell whether the metrics of a worker say that a deployment cools."""
    metrics = await get(port, "/metrics")
    return f'ringback_deployment_cooled{{deployment="{deployment}"}} 1.0'.encode() in metrics.body


async def test_workers_share_cooldowns(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What one worker finds out keeps the others from asking, too."""
    folder, ports = tmp_path_factory.mktemp("shared"), free_metrics_ports(workers=2)
    settings = {"metrics_address": ports.address}
    with ValkeyProcess() as valkey:
        async with running(folder, workers=2, store={"url": valkey.url}, **settings) as pairs:
            pairs.reset()
            limited = pairs.bad["limited"]
            limited.script[CLIENT_SECRETS] = Reply(429, (("Retry-After", "60"),))
            assert (await pairs.gateway.mint("limited")).status == 200
            assert len(limited.received) == 1
            async with asyncio.timeout(10):
                for own in (ports.extauthz(0), ports.extauthz(1)):
                    while not await knows(own, "limited-bad"):  # noqa: ASYNC110  nothing tells
                        await asyncio.sleep(0.05)
            answers = await converse(pairs.gateway.port, "limited", 16, lines=8)
            assert Counter(answer.status for answer in answers) == {200: 16, 201: 16}
            assert len(limited.received) == 1
