import asyncio
from collections.abc import Sequence

import pytest

from extauthz.keys import Limits, Scope, VirtualKey
from extauthz.limits.errors import LimitsUnavailableError, RateLimitedError, TooManyAtOnceError
from extauthz.limits.fallback import FallbackStore
from extauthz.limits.limiter import Limiter, make_limiter
from extauthz.limits.memory import MemoryStore
from extauthz.limits.rules import Counter
from extauthz.limits.stores import Exceeded
from extauthz.limits.valkeystore import ValkeyStore
from helpers.authz import Clock
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings.limits import LimitSettings
from ringback.settings.store import StoreSettings
from ringback.valkey import StoreUnavailableError, Valkey

HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
ONE = VirtualKey(HASH, limits=Limits(rpm=1))
FREE = VirtualKey(HASH)


class Away:
    """A store that cannot be asked."""

    async def take(self, counters: Sequence[Counter]) -> Exceeded | None:
        """Fail."""
        assert counters
        raise StoreUnavailableError


class Slow:
    """A store that takes its time."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self, counters: Sequence[Counter]) -> Exceeded | None:
        """Count one request after a moment."""
        assert counters
        await asyncio.sleep(0.01)
        self.taken += 1
        return None


async def test_refusal_says_when() -> None:
    """The error has LiteLLM's status and type, and the time in whole seconds, rounded up."""
    clock = Clock()
    limiter = Limiter(MemoryStore(clock))
    await limiter.take(ONE, "voice")
    clock.now += 17.5
    with pytest.raises(RateLimitedError) as caught:
        await limiter.take(ONE, "voice")
    error = caught.value
    assert (error.http_status, error.type, error.code) == (429, "throttling_error", "rate_limited")
    assert error.headers == {"retry-after": "43"}
    assert str(error) == (
        "This API key is limited to 1 per minute, counting requests for all models together. "
        "Try again in 43 s, or ask your platform team for a higher limit."
    )


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ("key", "This API key is limited to 5 "),
        ("team", "The team of this API key is limited to 5 "),
        ("member", "The user of this API key, as a member of its team, is limited to 5 "),
        ("user", "The user of this API key is limited to 5 "),
        ("organization", "The organization of this API key is limited to 5 "),
        ("project", "The project of this API key is limited to 5 "),
    ],
)
def test_messages(holder: str, words: str) -> None:
    """The message names whose limit it is and what it is, and never an id."""
    counter = Counter(holder, "some-id", 5)
    errors: list[ApiError] = [RateLimitedError(counter, 0.01), TooManyAtOnceError(counter)]
    for error in errors:
        assert words in str(error)
        assert "some-id" not in str(error)
        assert error.headers["retry-after"] == "1"


def test_message_of_a_negative_limit() -> None:
    """A limit below zero is none at all."""
    assert "limited to 0 per" in str(RateLimitedError(Counter("key", "k", -3), 60))


async def test_calls_count_with_the_same_counters() -> None:
    """A mint by an alias and a call by the group count for the same limit of the model."""
    limiter = Limiter(MemoryStore())
    key = VirtualKey(HASH, limits=Limits(model_rpm={"alias": 1, "voice": 5}))
    await limiter.take(key, "voice", "alias")
    with pytest.raises(RateLimitedError, match="this model"):
        await limiter.take(key, "voice", "alias")
    # By its own name there is more.
    await limiter.take(key, "voice")


async def test_store_away() -> None:
    """While nobody can tell, keys with a limit get 503 and keys without are not concerned."""
    limiter = Limiter(Away())
    await limiter.take(FREE, "voice")
    with pytest.raises(LimitsUnavailableError) as caught:
        await limiter.take(ONE, "voice")
    assert caught.value.http_status == 503
    assert caught.value.headers == {"retry-after": "1"}


async def test_at_once() -> None:
    """While as many requests as may be are answered no other begins, at calls neither."""
    limiter = Limiter(MemoryStore())
    key = VirtualKey(HASH, limits=Limits(parallel=1))
    with limiter.in_flight(key):
        with pytest.raises(TooManyAtOnceError), limiter.in_flight(key):
            pass
        with pytest.raises(TooManyAtOnceError):
            await limiter.take(key, "voice")
        with limiter.in_flight(VirtualKey("other", limits=Limits(parallel=1))):
            pass
    await limiter.take(key, "voice")
    with limiter.in_flight(key):
        pass
    assert limiter._at_once == {}


async def test_at_once_ends_with_errors() -> None:
    """A request that fails does not count any longer."""
    limiter = Limiter(MemoryStore())
    key = VirtualKey(HASH, limits=Limits(parallel=1))
    for _ in range(3):
        with pytest.raises(KeyError), limiter.in_flight(key):
            raise KeyError
    assert limiter._at_once == {}


async def test_at_once_of_a_team() -> None:
    """Keys of one team share the team's limit; a refused one takes nothing from the others."""
    limiter = Limiter(MemoryStore())
    team = Scope("web", limits=Limits(parallel=1))
    first, second = VirtualKey("1", team_scope=team), VirtualKey("2", team_scope=team)
    with (
        limiter.in_flight(first),
        pytest.raises(TooManyAtOnceError, match="team"),
        limiter.in_flight(second),
    ):
        pass
    with limiter.in_flight(second):
        pass


async def test_none_at_once() -> None:
    """A limit of zero refuses always, as in LiteLLM."""
    limiter = Limiter(MemoryStore())
    with pytest.raises(TooManyAtOnceError):
        await limiter.take(VirtualKey(HASH, limits=Limits(parallel=0)), "voice")


async def test_refusal_at_once_counts_for_no_minute() -> None:
    """What is refused for requests at once is not counted for the minute."""
    limiter = Limiter(MemoryStore())
    key = VirtualKey(HASH, limits=Limits(parallel=1, rpm=1))
    with limiter.in_flight(key), pytest.raises(TooManyAtOnceError):
        await limiter.take(key, "voice")
    await limiter.take(key, "voice")


async def test_requests_that_come_together_count_one_by_one() -> None:
    """Those that are too many at once are refused before the store is asked, and not counted."""
    store = Slow()
    limiter = Limiter(store)
    key = VirtualKey(HASH, limits=Limits(parallel=2, rpm=10))

    async def work() -> None:
        await limiter.take(key, "voice")
        with limiter.in_flight(key):
            await asyncio.sleep(0.02)

    ended = await asyncio.gather(*(work() for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in ended if error] == [TooManyAtOnceError] * 3
    assert store.taken == 2
    assert limiter._at_once == {}


async def test_wiring() -> None:
    """The settings say where requests are counted."""
    valkey = Valkey(StoreSettings(url=Secret("redis://127.0.0.1:1")))
    local = LimitSettings(when_store_fails="count_locally")
    assert isinstance(make_limiter(None, local)._store, MemoryStore)
    assert isinstance(make_limiter(valkey, LimitSettings())._store, ValkeyStore)
    assert isinstance(make_limiter(valkey, local)._store, FallbackStore)
    await valkey.close()
