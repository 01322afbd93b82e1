import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import KeyQuery, VirtualKey, hash_key
from extauthz.keys.cache import PROBE_S, CachedSource, KeyNotAskableError
from extauthz.keys.memory import MAX_UNKNOWN, KeyMemory, Lifetimes
from ringback.secrets import Secret

RAW = Secret("sk-web-0001")
KEY = VirtualKey(hash_key(RAW), alias="web")
ASKED = KeyQuery(KEY.hash, RAW)
# As at calls, where a token names the key.
NAMED = KeyQuery(KEY.hash, max_age_s=5)
UNKNOWN = KeyQuery("u" * 64, Secret("sk-unknown"))


@dataclass
class Database:
    """A source with one table of keys, which counts what it is asked.

    Attributes:
        keys: By hash.
        asked: The hash of each question.
        error: Raised in place of an answer.
        gate: An answer waits for it.
    """

    keys: dict[str, VirtualKey] = field(default_factory=lambda: {KEY.hash: KEY})
    asked: list[str] = field(default_factory=list)
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    running: bool = False

    async def start(self) -> None:
        """Note that it runs."""
        self.running = True

    async def stop(self) -> None:
        """Note that it does not."""
        self.running = False

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Answer with what the table held when the question came."""
        self.asked.append(query.hash)
        key, error = self.keys.get(query.hash), self.error
        await self.gate.wait()
        if error is not None:
            raise error
        return key


@dataclass
class House:
    """A cache before a database, and the time of both."""

    database: Database = field(default_factory=Database)
    memory: KeyMemory = field(default_factory=lambda: KeyMemory(1000, 10**7))
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.database.gate.set()
        times = Lifetimes(ttl_s=60, unknown_ttl_s=5, stale_s=300)
        self.cache = CachedSource("test", self.database, self.memory, times, lambda: self.now)

    @property
    def lookups(self) -> int:
        """How often the database was asked."""
        return len(self.database.asked)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Return a cache that has started."""
    house = House()
    await house.cache.start()
    yield house
    await house.cache.stop()
    assert not house.database.running


def down() -> KeySourceUnavailableError:
    """Return what a database that is down raises."""
    return KeySourceUnavailableError()


async def test_a_key_is_looked_up_once_in_its_time(house: House) -> None:
    """Until the time is over the database is not asked again."""
    for _ in range(3):
        assert await house.cache.find(ASKED) == KEY
    house.now += 59.9
    assert await house.cache.find(ASKED) == KEY
    assert house.lookups == 1
    house.now += 0.1
    assert await house.cache.find(ASKED) == KEY
    assert house.lookups == 2


async def test_an_unknown_key_is_looked_up_once_in_its_short_time(house: House) -> None:
    """A key that is created meanwhile is known after the short time."""
    assert await house.cache.find(UNKNOWN) is None
    house.database.keys[UNKNOWN.hash] = KEY
    assert await house.cache.find(UNKNOWN) is None
    assert house.lookups == 1
    house.now += 5
    assert await house.cache.find(UNKNOWN) == KEY


async def test_what_is_no_litellm_key_is_not_looked_up(house: House) -> None:
    """A JWT, or what a token says of one, costs no lookup and no memory."""
    for query in (KeyQuery(KEY.hash, Secret("eyJ.a.b")), KeyQuery("jwt:" + KEY.hash)):
        assert await house.cache.find(query) is None
    assert (house.lookups, house.memory.unknown) == (0, 0)


async def test_a_token_ends_within_the_revocation_time(house: House) -> None:
    """Where a token names the key, a younger answer counts; what it finds serves everyone."""
    await house.cache.find(ASKED)
    house.database.keys[KEY.hash] = blocked = replace(KEY, blocked=True)
    house.now += 4.9
    assert await house.cache.find(NAMED) == KEY
    house.now += 0.1
    assert await house.cache.find(NAMED) == blocked
    assert await house.cache.find(ASKED) == blocked
    assert house.lookups == 2


async def test_many_requests_of_one_key_cost_one_lookup(house: House) -> None:
    """200 at once wait for the same answer."""
    house.database.gate.clear()
    tasks = [asyncio.create_task(house.cache.find(ASKED)) for _ in range(200)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    house.database.gate.set()
    assert await asyncio.gather(*tasks) == [KEY] * 200
    assert house.lookups == 1


async def test_a_waiter_that_goes_takes_nothing_from_the_others(house: House) -> None:
    """Cancelled requests, the first among them, neither end the lookup nor lose its answer."""
    house.database.gate.clear()
    tasks = [asyncio.create_task(house.cache.find(ASKED)) for _ in range(4)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0)
    house.database.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in found] == [
        True,
        False,
        True,
        False,
    ]
    assert (found[1], house.lookups) == (KEY, 1)


async def test_an_answer_that_nobody_waits_for_is_remembered(house: House) -> None:
    """If all have gone, the next one finds the answer; a failure is nobody's, and no warning."""
    house.database.gate.clear()
    for name, error in (("a" * 64, None), ("b" * 64, down())):
        house.database.error = error
        task = asyncio.create_task(house.cache.find(replace(ASKED, hash=name)))
        await asyncio.sleep(0.01)
        task.cancel()
    house.database.gate.set()
    await asyncio.sleep(0.01)
    assert house.lookups == 2
    assert house.cache._lookups == {}
    assert house.cache._running == set()


async def test_a_failure_is_everybodys_and_not_remembered(house: House) -> None:
    """All that wait for a failed lookup get 503; the next request asks again."""
    house.database.error = down()
    house.database.gate.clear()
    tasks = [asyncio.create_task(house.cache.find(ASKED)) for _ in range(3)]
    await asyncio.sleep(0.01)
    house.database.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [KeySourceUnavailableError] * 3
    house.database.error = None
    assert await house.cache.find(ASKED) == KEY
    assert house.lookups == 2


async def test_an_unplanned_error_is_raised(house: House) -> None:
    """An error that is no outage is nothing to work around: the request cannot be decided."""
    await house.cache.find(ASKED)
    house.now += 60
    house.database.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await house.cache.find(ASKED)


async def test_known_keys_outlast_an_outage_for_a_time(house: House) -> None:
    """While the database is down a known key works, token or not, until the stale time is over."""
    await house.cache.find(ASKED)
    house.database.error = down()
    house.now += 60
    assert await house.cache.find(ASKED) == KEY
    assert await house.cache.find(NAMED) == KEY
    house.now += 299.9
    assert await house.cache.find(ASKED) == KEY
    house.now += 0.1
    with pytest.raises(KeySourceUnavailableError) as refused:
        await house.cache.find(ASKED)
    assert refused.value.http_status == 503


async def test_unknown_keys_are_never_refused_for_an_outage(house: House) -> None:
    """A key that was never seen, and one that was unknown a while ago, get 503 and not 401."""
    assert await house.cache.find(UNKNOWN) is None
    house.database.error = down()
    house.now += 5
    for query in (UNKNOWN, ASKED):
        with pytest.raises(KeySourceUnavailableError):
            await house.cache.find(query)


async def test_nobody_waits_for_a_database_that_is_down(house: House) -> None:
    """One request finds out; the key is then served at once, with a question now and then."""
    await house.cache.find(ASKED)
    house.now += 60
    house.database.error = down()
    assert await house.cache.find(ASKED) == KEY
    house.database.gate.clear()
    for _ in range(5):
        async with asyncio.timeout(5):
            assert await house.cache.find(ASKED) == KEY
    assert house.lookups == 2
    for _ in range(3):
        house.now += PROBE_S
        async with asyncio.timeout(5):
            assert await house.cache.find(ASKED) == KEY
    await asyncio.sleep(0)
    assert house.lookups == 3


async def test_a_database_that_is_back_is_asked_again(house: House) -> None:
    """The first answer ends the outage: what was blocked meanwhile is blocked."""
    with capture_logs() as logs:
        await house.cache.find(ASKED)
        house.now += 60
        house.database.error = down()
        await house.cache.find(ASKED)
        house.database.error = None
        house.database.keys[KEY.hash] = blocked = replace(KEY, blocked=True)
        house.now += PROBE_S
        assert await house.cache.find(ASKED) == KEY
        await asyncio.sleep(0.01)
        assert await house.cache.find(ASKED) == blocked
    assert [entry["event"] for entry in logs] == ["key_source_down", "key_source_up"]


async def test_an_outage_of_long_ago_does_not_hide_what_was_blocked(house: House) -> None:
    """A failure says nothing of a database that nobody has asked since: who comes next waits."""
    await house.cache.find(ASKED)
    house.now += 60
    house.database.error = down()
    assert await house.cache.find(ASKED) == KEY
    house.database.error = None
    house.database.keys[KEY.hash] = blocked = replace(KEY, blocked=True)
    house.now += 100
    assert await house.cache.find(NAMED) == blocked
    assert await house.cache.find(ASKED) == blocked
    assert house.lookups == 3


async def test_what_fails_for_one_key_is_no_outage_for_another(house: House) -> None:
    """A key whose row cannot be used delays no revocation of others, however often it is tried."""
    await house.cache.find(ASKED)
    blocked = replace(KEY, blocked=True)
    for _ in range(20):
        house.now += 0.5
        house.database.error = down()
        with pytest.raises(KeySourceUnavailableError):
            await house.cache.find(KeyQuery("b" * 64, Secret("sk-bad-row")))
        house.database.error = None
        house.database.keys[KEY.hash] = blocked
    assert await house.cache.find(NAMED) == blocked


async def test_an_outage_is_told_once(house: House) -> None:
    """However many lookups fail, and recover in between, the log has a line now and then."""
    with capture_logs() as logs:
        for number in range(40):
            house.now += 0.1
            house.database.error = down() if number % 2 else None
            with suppress(KeySourceUnavailableError):
                await house.cache.find(KeyQuery(f"{number:064}", Secret("sk-x")))
    assert [entry["event"] for entry in logs] == ["key_source_down", "key_source_up"]


async def test_a_forgotten_key_is_asked_for(house: House) -> None:
    """Who blocks a key and says so is obeyed at once, also while a lookup is under way."""
    await house.cache.find(ASKED)
    house.cache.forget(KEY.hash)
    house.now += 1
    house.database.gate.clear()
    first = asyncio.create_task(house.cache.find(ASKED))
    await asyncio.sleep(0.01)
    house.database.keys[KEY.hash] = blocked = replace(KEY, blocked=True)
    house.cache.forget(KEY.hash)
    house.now += 1
    second = asyncio.create_task(house.cache.find(ASKED))
    await asyncio.sleep(0.01)
    house.database.gate.set()
    assert (await first, await second) == (KEY, blocked)
    house.now += 1
    assert await house.cache.find(ASKED) == blocked
    assert house.lookups == 3


async def test_everything_can_be_forgotten(house: House) -> None:
    """After that every key is asked for, and no answer of before comes back."""
    await house.cache.find(ASKED)
    house.now += 1
    house.database.gate.clear()
    waiting = asyncio.create_task(house.cache.find(UNKNOWN))
    await asyncio.sleep(0.01)
    house.cache.forget_all()
    house.database.gate.set()
    assert await waiting is None
    assert house.memory.unknown == 0
    house.now += 1
    assert await house.cache.find(ASKED) == KEY
    assert house.lookups == 3


async def test_a_question_does_not_wait_for_an_older_one(house: House) -> None:
    """A lookup that began longer ago than the question allows is not waited for."""
    house.database.gate.clear()
    first = asyncio.create_task(house.cache.find(ASKED))
    await asyncio.sleep(0.01)
    house.now += 6
    second = asyncio.create_task(house.cache.find(replace(ASKED, max_age_s=5)))
    await asyncio.sleep(0.01)
    house.database.gate.set()
    assert [await first, await second] == [KEY, KEY]
    assert house.lookups == 2


async def test_a_source_that_needs_the_key_itself_does_not_count_as_down(house: House) -> None:
    """A token's key that cannot be asked for lives on what is remembered of it, else it is 503."""
    house.database.error = KeyNotAskableError()
    with pytest.raises(KeyNotAskableError) as refused:
        await house.cache.find(NAMED)
    assert (refused.value.http_status, refused.value.code) == (503, "key_not_askable")
    house.database.error = None
    await house.cache.find(ASKED)
    house.now += 6
    house.database.error = KeyNotAskableError()
    assert await house.cache.find(NAMED) == KEY
    house.database.error = None
    house.now += 60
    assert await house.cache.find(ASKED) == KEY
    assert house.database.asked == [KEY.hash] * 4


async def test_a_source_that_does_not_tell_is_not_waited_out(house: House) -> None:
    """LiteLLM is up and lets the key not ask: what is remembered counts for its time, no longer."""
    await house.cache.find(ASKED)
    house.database.error = KeyNotAskableError()
    house.now += 59
    assert await house.cache.find(NAMED) == KEY
    house.now += 1
    for query in (NAMED, ASKED):
        with pytest.raises(KeyNotAskableError):
            await house.cache.find(query)


async def test_a_stop_ends_lookups() -> None:
    """Nothing runs on after the end."""
    house = House()
    await house.cache.start()
    house.database.gate.clear()
    task = asyncio.create_task(house.cache.find(ASKED))
    await asyncio.sleep(0.01)
    await house.cache.stop()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.cache._running == set()


async def test_a_flood_of_random_keys_costs_one_lookup_each_and_no_memory(house: House) -> None:
    """100,000 keys that nobody knows, some tried twice: one lookup each, memory flat."""
    await house.cache.find(ASKED)
    secret = Secret("sk-random")
    house.database.asked.clear()

    async def flood(start: int) -> int:
        for number in range(start, start + MAX_UNKNOWN):
            query = KeyQuery(f"{number:064x}", secret)
            await house.cache.find(query)
            if number % 10 == 0:
                await house.cache.find(query)
        assert house.lookups == MAX_UNKNOWN
        house.database.asked.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = await flood(0)
        # Dictionaries that are used for long grow a little once.
        assert await flood(MAX_UNKNOWN) - full < full / 4
    finally:
        tracemalloc.stop()
    for number in range(20_000, 100_000):
        await house.cache.find(KeyQuery(f"{number:064x}", secret))
    assert (house.lookups, house.memory.unknown) == (80_000, MAX_UNKNOWN)
    assert await house.cache.find(ASKED) == KEY
    assert house.lookups == 80_000


async def test_a_cache_is_measured(house: House) -> None:
    """Prometheus tells hits, misses, lookups and what is remembered."""

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"ringback_key_{name}", {"source": "test", **labels}) or 0

    outcomes = ("hit", "miss", "hit_unknown", "stale", "unavailable")
    before = {name: value("cache_requests_total", outcome=name) for name in outcomes}
    await house.cache.find(ASKED)
    await house.cache.find(ASKED)
    await house.cache.find(UNKNOWN)
    await house.cache.find(UNKNOWN)
    house.now += 60
    house.database.error = down()
    await house.cache.find(ASKED)
    with pytest.raises(KeySourceUnavailableError):
        await house.cache.find(UNKNOWN)
    after = {name: value("cache_requests_total", outcome=name) for name in outcomes}
    grown = [after[name] - before[name] for name in outcomes]
    assert grown == [1, 2, 1, 1, 1]
    assert value("cache_entries", kind="known") == 1
    assert value("cache_entries", kind="unknown") == 1
    assert value("cache_bytes") == house.memory.size_bytes > 0
