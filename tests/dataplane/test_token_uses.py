"""Tokens of one use and of one page through the real Envoy.

Two workers share a real Valkey.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, KEYS, TOKEN_SECRET, Files, openai_entry
from helpers.handles import sealed
from helpers.http11 import Message
from helpers.load import Load
from helpers.recording import RecordingUpstream, Reply
from helpers.refusaltimes import check_one_time
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
from helpers.wsclient import converse, echoed, shake_hands
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

RACERS: Final = 100
CALLS: Final = "/v1/realtime/calls"
MINT: Final = "/v1/realtime/client_secrets"
MODEL: Final = b'{"model":"voice"}'
OTHER_PAGE: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 3.0


@pytest.fixture(scope="module")
def valkey() -> ValkeyProcess:
    """The store that the workers share; started by `single`."""
    return ValkeyProcess()


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def single(
    valkey: ValkeyProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """A gateway with two workers, whose tokens open one call, for the page that minted them."""
    files = Files(tmp_path_factory.mktemp("single"))
    with valkey:
        async with RecordingUpstream() as openai, RecordingUpstream() as unused:
            files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
            files.write_keys()
            files.write_settings(
                token={"secret": TOKEN_SECRET, "single_use": True, "bind_origin": True},
                store={"url": valkey.url, "timeout_s": TIMEOUT_S},
                overload={"max_checks": RACERS},
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


async def test_a_spent_token_takes_no_other_time(single: Gateway) -> None:
    """To ask the store costs no more than may differ between bad tokens."""
    spent = await single.token()
    assert (await single.call(spent)).status == 201
    now = int(time.time())
    kinds = {
        "spent": spent,
        "no form": "ek_x",
        "expired": single.seal(iat=now - 60, exp=now - 1),
        "of another page": single.seal(bound_origin=OTHER_PAGE),
    }
    await check_one_time(single, kinds)


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
        async with converse(single, target, [bearer(token)], origin=ORIGIN) as connection:
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


@pytest.mark.parametrize("path", ["client_secrets", "transcription_sessions"])
async def test_a_token_is_good_for_the_page_that_minted_it(single: Gateway, path: str) -> None:
    """Another page that the gateway serves cannot use it, nor can a program that says no page."""
    lines = [bearer(KEY), JSON_TYPE]
    minted = await single.post(f"/v1/realtime/{path}", lines, b'{"model":"voice"}')
    token = str(minted.json()["client_secret"]["value"])
    single.reset()
    for origin in (OTHER_PAGE, "null", None):
        answer = await single.post(CALLS, [bearer(token), SDP_TYPE], OFFER, origin=origin)
        assert (answer.status, answer.error["code"]) == (401, "token_invalid")
        shown = [("origin", origin)] if origin else []
        answer = await shake_hands(single, "/v1/realtime", bearer(token), *shown)
        assert answer.status in {401, 403}
    assert single.received == []
    assert (await single.call(token)).status == 201


async def test_a_backend_binds_by_sending_the_origin(single: Gateway) -> None:
    """What mints for a page names it in `Origin`; what mints for a program names nothing."""
    minted = await single.post(MINT, [bearer(KEY), JSON_TYPE], MODEL, origin=OTHER_PAGE)
    token = str(minted.json()["value"])
    check_refusal(await single.call(token), 401, "token_invalid")
    answer = await single.post(CALLS, [bearer(token), SDP_TYPE], OFFER, origin=OTHER_PAGE)
    assert answer.status == 201
    minted = await single.post(MINT, [bearer(KEY), JSON_TYPE], MODEL, origin=None)
    token = str(minted.json()["value"])
    assert (await single.call(token)).status == 201


async def test_a_page_that_cannot_be_named_gets_no_token(single: Gateway) -> None:
    """A page in a sandbox, whose origin is `null`, is told so before anything is minted."""
    answer = await single.post(MINT, [bearer(KEY), JSON_TYPE], MODEL, origin="null")
    assert (answer.status, answer.error["code"]) == (400, "origin_unusable")
    assert single.received == []


async def test_without_the_store_tokens_are_503(single: Gateway, valkey: ValkeyProcess) -> None:
    """While nobody can tell what is spent, no token is let in; keys are, and calls can be ended."""
    token = await single.token()
    spent = await single.token()
    handle = str((await single.call(spent)).header("location")).rpartition("/")[2]
    with valkey.paused():
        single.reset()
        check_refusal(await single.call(token), 503, "token_uses_unavailable")
        answer = await shake_hands(single, "/v1/realtime", bearer(token), ("origin", ORIGIN))
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
