import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from extauthz.calls import TokenRefusedError
from extauthz.limits.errors import LimitsUnavailableError
from extauthz.tokenguard import TokenGuard
from extauthz.tokenuses import (
    MemoryUses,
    Uses,
    UsesUnavailableError,
    ValkeyUses,
    make_uses,
)
from helpers.authz import CLAIMS, NOW, Clock, request, sealer
from helpers.valkey import ValkeyProcess
from ringback.settings import TokenSettings
from ringback.valkey import Valkey

LEEWAY_S = 5
# The process began before the token was made.
FRESH = replace(CLAIMS, iat=NOW + 1, exp=NOW + 61)
CALLS = "/v1/realtime/calls"


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    """A Valkey for all tests here; each has tokens of its own."""
    with ValkeyProcess() as running:
        yield running


@pytest_asyncio.fixture
async def valkey(server: ValkeyProcess) -> AsyncIterator[Valkey]:
    """A client of it, with nothing stored."""
    with server.client() as client:
        client.flushall()
    client_of_ours = Valkey(server.settings())
    yield client_of_ours
    await client_of_ours.close()


@pytest.fixture(params=["memory", "valkey"])
def uses(request: pytest.FixtureRequest) -> Uses:
    """Either way of remembering."""
    if request.param == "memory":
        return MemoryUses(Clock(), LEEWAY_S)
    return ValkeyUses(request.getfixturevalue("valkey"), Clock(), LEEWAY_S)


async def test_a_token_is_spent_once(uses: Uses) -> None:
    """Of a hundred requests with one token, exactly one spends it; another token is not touched."""
    taken = await asyncio.gather(*(uses.take(FRESH, f"request-{n}") for n in range(100)))
    assert sum(taken) == 1
    assert await uses.take(replace(FRESH, jti="another"), "request-1")


async def test_a_second_attempt_at_one_request_is_no_second_use(uses: Uses) -> None:
    """Envoy may ask twice about a request, when a worker dies; another request stays refused."""
    assert await uses.take(FRESH, "request-1")
    assert await uses.take(FRESH, "request-1")
    assert not await uses.take(FRESH, "request-2")


async def test_a_token_that_is_given_back_is_good_again(uses: Uses) -> None:
    """Whoever was refused for another reason still has its token."""
    assert await uses.take(FRESH, "request-1")
    await uses.give_back(FRESH)
    assert await uses.take(FRESH, "request-2")
    assert not await uses.take(FRESH, "request-1")


async def test_memory_forgets_with_the_token() -> None:
    """What has expired takes no memory, however it was spent; what has not is still refused."""
    clock = Clock()
    uses = MemoryUses(clock, LEEWAY_S)
    for number in range(50):
        assert await uses.take(replace(FRESH, jti=f"t-{number}", exp=FRESH.exp + number), "r")
    await uses.give_back(replace(FRESH, jti="t-3"))
    assert len(uses) == 49
    clock.now = FRESH.exp + LEEWAY_S + 9
    assert not await uses.take(replace(FRESH, jti="t-10", exp=FRESH.exp + 10), "other")
    assert len(uses) == 40


async def test_what_a_process_before_has_let_in_counts_as_spent() -> None:
    """After a restart without a store, tokens of before are refused: nobody knows their uses."""
    uses = MemoryUses(Clock(), LEEWAY_S)
    assert not await uses.take(replace(FRESH, iat=NOW - 1), "request-1")
    assert not await uses.take(replace(FRESH, iat=NOW), "request-1")
    assert await uses.take(FRESH, "request-1")


async def test_valkey_forgets_after_the_last_clock(valkey: Valkey, server: ValkeyProcess) -> None:
    """An entry outlives the token by the leeway of the clocks and little more."""
    assert await ValkeyUses(valkey, Clock(), LEEWAY_S).take(FRESH, "request-1")
    with server.client() as client:
        (name,) = client.keys()
        assert name == b"ringback:spent:token-1"
        assert 61 + LEEWAY_S < client.pttl(name) / 1000 <= 62 + LEEWAY_S


async def test_nobody_can_tell_while_the_store_is_away() -> None:
    """Without the store a token is neither good nor bad: 503, to be tried again."""
    gone = ValkeyProcess()
    store = Valkey(gone.settings(timeout_s=0.2))
    guard = TokenGuard(sealer(), Clock(), uses=ValkeyUses(store, Clock(), LEEWAY_S))
    with pytest.raises(UsesUnavailableError, match="Try again shortly") as caught:
        async with guard.spend(FRESH, request(CALLS, None)):
            pytest.fail("let in")
    assert (caught.value.http_status, caught.value.headers) == (503, {"retry-after": "1"})
    await store.close()


async def test_a_refusal_for_another_reason_spends_nothing(uses: Uses) -> None:
    """A limit that is reached costs no token; one that has gone on is spent, in the usual words."""
    guard = TokenGuard(sealer(), Clock(), uses=uses)
    first, second = (request(CALLS, None, x_request_id=name) for name in ("a", "b"))
    with pytest.raises(LimitsUnavailableError):
        async with guard.spend(FRESH, first):
            raise LimitsUnavailableError
    async with guard.spend(FRESH, second):
        pass
    with pytest.raises(TokenRefusedError):
        async with guard.spend(FRESH, first):
            pytest.fail("let in")


async def test_requests_without_an_id_are_different_ones(uses: Uses) -> None:
    """Whoever leaves out the id of the request is not taken for its second attempt."""
    guard = TokenGuard(sealer(), Clock(), uses=uses)
    async with guard.spend(FRESH, request(CALLS, None)):
        pass
    with pytest.raises(TokenRefusedError):
        async with guard.spend(FRESH, request(CALLS, None)):
            pytest.fail("let in")


async def test_tokens_may_be_used_again_by_default() -> None:
    """Without the setting nothing is remembered."""
    assert make_uses(None, TokenSettings()) is None
    guard = TokenGuard(sealer(), Clock())
    for _ in range(2):
        async with guard.spend(FRESH, request(CALLS, None)):
            pass


async def test_with_the_setting_uses_are_remembered(valkey: Valkey) -> None:
    """In the store, if there is one."""
    single = TokenSettings(single_use=True)
    assert isinstance(make_uses(None, single), MemoryUses)
    assert isinstance(make_uses(valkey, single), ValkeyUses)
