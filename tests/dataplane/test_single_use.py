"""Tokens with a single use through the real Envoy, by two workers that share a real Valkey."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from helpers.expect import check_refusal
from helpers.gateway import Gateway, bearer
from helpers.gatewayfiles import KEY, KEYS, TOKEN_SECRET, Files, openai_entry
from helpers.handles import sealed
from helpers.http11 import Message
from helpers.load import Load
from helpers.recording import RecordingUpstream, Reply
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
from helpers.wsclient import converse, echoed, shake_hands
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

RACERS: Final = 100
TIMEOUT_S: Final = 3.0


@pytest.fixture(scope="module")
def valkey() -> ValkeyProcess:
    """The store that the workers share; started by `single`."""
    return ValkeyProcess()


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def single(
    valkey: ValkeyProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """A gateway with two workers, whose tokens open one call."""
    files = Files(tmp_path_factory.mktemp("single"))
    with valkey:
        async with RecordingUpstream() as openai, RecordingUpstream() as unused:
            files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
            files.write_keys()
            files.write_settings(
                token={"secret": TOKEN_SECRET, "single_use": True},
                store={"url": valkey.url, "timeout_s": TIMEOUT_S},
            )
            async with Stack(files.options(workers=2)) as stack:
                gateway = Gateway(stack, files, openai, unused)
                yield gateway
                for name, text in gateway.logs().items():
                    assert find_secrets(text, valkey.url, *KEYS) == set(), name


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _fresh(single: Gateway) -> None:
    """Forget what the upstream received."""
    single.reset()
    single.openai.script |= {"hangup": Reply(200)}


async def race(single: Gateway, token: str) -> Counter[int]:
    """Return how many calls of many at once got which status."""
    answers = await asyncio.gather(*(single.call(token) for _ in range(RACERS)))
    for answer in answers:
        if answer.status != 201:
            check_refusal(answer, 401, "token_invalid")
    return Counter(answer.status for answer in answers)


async def test_one_of_a_hundred_wins(single: Gateway) -> None:
    """Of 100 clients that race with one token one opens a call; the upstream receives one offer."""
    token = await single.token()
    single.reset()
    assert await race(single, token) == {201: 1, 401: RACERS - 1}
    assert len(single.received) == 1


async def test_a_spent_token_is_refused_like_a_wrong_one(single: Gateway) -> None:
    """Whoever replays a token learns nothing: the answer is that to any other bad token."""
    token = await single.token()
    assert (await single.call(token)).status == 201
    single.reset()
    again, wrong = await single.call(token), await single.call("ek_x")
    assert (again.status, again.body) == (wrong.status, wrong.body)
    assert again.names == wrong.names
    assert single.received == []


async def test_a_call_and_a_websocket_are_one_use(single: Gateway) -> None:
    """A token opens one conversation, by WebRTC or by WebSocket, and then none of either kind."""
    for first in ("call", "websocket"):
        token = single.seal(jti=f"spent-on-a-{first}")
        if first == "call":
            assert (await single.call(token)).status == 201
        else:
            async with converse(single, "/v1/realtime", [bearer(token)]) as connection:
                assert await echoed(connection, "hello") == "hello"
        single.reset()
        check_refusal(await single.call(token), 401, "token_invalid")
        answer = await shake_hands(single, "/v1/realtime", bearer(token))
        assert answer.status == 401
        assert single.received == []


async def test_a_spent_token_still_owns_its_call(single: Gateway) -> None:
    """The call that it has opened it may join and hang up, as often as it likes."""
    token = await single.token()
    handle = str((await single.call(token)).header("location")).rpartition("/")[2]
    for _ in range(2):
        target = f"/v1/realtime?call_id={handle}"
        async with converse(single, target, [bearer(token)]) as connection:
            assert await echoed(connection, "hello") == "hello"
        ended = await single.post(f"/v1/realtime/calls/{handle}/hangup", [bearer(token)], b"")
        assert ended.status == 200
    other = sealed(token_id="somebody-elses")
    answer = await single.post(f"/v1/realtime/calls/{other}/hangup", [bearer(token)], b"")
    check_refusal(answer, 404, "call_id_not_found")


async def test_what_extauthz_refuses_spends_nothing(single: Gateway) -> None:
    """A bad request costs no token; an offer that sdpfilter refuses does, for it was let in."""
    token = single.seal(jti="refused-at-first", bound_origin="http://localhost:3000")
    refused = await single.post("/v1/realtime/calls", [bearer(token)], b"", origin=None)
    assert (refused.status, refused.error["code"]) == (401, "token_invalid")
    assert (await single.call(token)).status == 201

    token = await single.token()
    single.reset()
    check_refusal(await single.call(token, offer=b"v=0\r\n"), 400)
    check_refusal(await single.call(token), 401, "token_invalid")
    assert single.received == []


async def test_without_the_store_tokens_are_503(single: Gateway, valkey: ValkeyProcess) -> None:
    """While nobody can tell what is spent, no token is let in; keys are, and calls can be ended."""
    token = await single.token()
    spent = await single.token()
    handle = str((await single.call(spent)).header("location")).rpartition("/")[2]
    with valkey.paused():
        single.reset()
        check_refusal(await single.call(token), 503, "token_uses_unavailable")
        answer = await shake_hands(single, "/v1/realtime", bearer(token))
        assert answer.status == 503
        assert single.received == []
        ended = await single.post(f"/v1/realtime/calls/{handle}/hangup", [bearer(spent)], b"")
        assert ended.status == 200
        assert (await single.call(KEY)).status == 201

    async with asyncio.timeout(30):
        while (await single.call(await single.token())).status != 201:
            pass
    # That of before may have arrived there in the end: it is good at most once.
    assert (await race(single, token))[201] <= 1


async def test_worker_that_dies_costs_no_token(single: Gateway) -> None:
    """When a worker is killed under load, Envoy asks the other about the same request: 201."""

    async def send_next() -> Message:
        return await single.call(await single.token())

    async with Load(send_next) as load:
        await load.more()
        single.signal("extauthz-1", signal.SIGKILL)
        await load.more(60)
    assert load.failures == []
    assert load.statuses == {201: len(load.answers)}
    await single.wait_for("extauthz-0", "extauthz-1")
