import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from extauthz.limits.fallback import PAUSE_S, FallbackStore
from extauthz.limits.memory import MemoryStore
from extauthz.limits.rules import Counter
from extauthz.limits.stores import Exceeded, RateStore
from extauthz.limits.valkeystore import ValkeyStore
from helpers.authz import Clock
from helpers.valkey import ValkeyProcess
from ringback.valkey import StoreUnavailableError, Valkey

KEY = Counter("key", "key:1", 2)
TEAM = Counter("team", "team:web", 3)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    """One server for all tests of this file, which leave it running."""
    with ValkeyProcess() as process:
        yield process


@pytest_asyncio.fixture
async def valkey(server: ValkeyProcess) -> AsyncIterator[Valkey]:
    """A client of a running, empty server."""
    client = Valkey(server.settings(timeout_s=5))
    await client.client.flushall()
    yield client
    await client.close()


@pytest.fixture(params=["memory", "valkey"])
def store(request: pytest.FixtureRequest, valkey: Valkey) -> RateStore:
    """Each store that counts."""
    return MemoryStore() if request.param == "memory" else ValkeyStore(valkey)


async def test_full(store: RateStore) -> None:
    """As many requests as the limit says pass, and then none; others are not concerned."""
    assert [await store.take([KEY]) for _ in range(2)] == [None, None]
    exceeded = await store.take([KEY])
    assert exceeded is not None
    assert exceeded.counter == KEY
    assert 50 < exceeded.wait_s <= 60
    assert await store.take([TEAM]) is None


async def test_nothing_is_counted_when_refused(store: RateStore) -> None:
    """A request that one counter refuses counts for none."""
    assert [await store.take([KEY, TEAM]) for _ in range(2)] == [None, None]
    for _ in range(5):
        exceeded = await store.take([TEAM, KEY])
        assert exceeded is not None
        assert exceeded.counter == KEY
    # Of the team's three, two are used.
    assert await store.take([TEAM]) is None
    assert await store.take([TEAM]) is not None


async def test_the_longest_wait_is_told(store: RateStore) -> None:
    """Of several full counters the one is told whose window ends last: before, a try is futile."""
    first, second = Counter("key", "key:1", 1), Counter("team", "team:1", 1)
    await store.take([first])
    await asyncio.sleep(0.05)
    await store.take([second])
    for order in ([first, second], [second, first]):
        exceeded = await store.take(order)
        assert exceeded is not None
        assert exceeded.counter == second


@pytest.mark.parametrize("limit", [0, -1])
async def test_no_requests_at_all(store: RateStore, limit: int) -> None:
    """A limit of zero refuses the first request, for a whole window."""
    exceeded = await store.take([Counter("key", "key:none", limit)])
    assert exceeded is not None
    assert exceeded.wait_s == pytest.approx(60)


async def test_many_at_once(store: RateStore) -> None:
    """Of many requests at the same moment as many pass as the limit says."""
    counter = Counter("key", "key:many", 20)
    results = await asyncio.gather(*(store.take([counter, TEAM, KEY]) for _ in range(60)))
    assert results.count(None) == KEY.limit


async def test_lower_limit_takes_effect_at_once(store: RateStore) -> None:
    """A limit that is lowered counts what was sent before."""
    await store.take([KEY])
    assert await store.take([Counter("key", KEY.name, 1)]) is not None


async def test_window_in_memory() -> None:
    """A window is fixed: it ends 60 s after its first request, however many follow."""
    clock = Clock()
    store = MemoryStore(clock)
    await store.take([KEY])
    clock.now += 59.9
    await store.take([KEY])
    exceeded = await store.take([KEY])
    assert exceeded is not None
    assert exceeded.wait_s == pytest.approx(0.1)
    clock.now += 0.1
    assert await store.take([KEY]) is None
    assert await store.take([KEY]) is None
    assert await store.take([KEY]) is not None


async def test_memory_is_bounded() -> None:
    """Counters are forgotten with their window, and the oldest when there are too many."""
    clock = Clock()
    store = MemoryStore(clock, max_counters=100)
    for number in range(1000):
        await store.take([Counter("key", f"key:{number}", 1)])
    assert len(store) == 100
    assert await store.take([Counter("key", "key:999", 1)]) is not None
    clock.now += 60
    await store.take([KEY])
    assert len(store) == 1


async def test_window_in_valkey(valkey: Valkey) -> None:
    """A counter expires with its window, and nothing else is stored."""
    store = ValkeyStore(valkey, window_s=60)
    assert [await store.take([KEY]) for _ in range(2)] == [None, None]
    exceeded = await store.take([KEY])
    assert exceeded is not None
    assert 0 < exceeded.wait_s <= 60
    (counter,) = await valkey.client.keys()
    assert counter == b"ringback:{limits}:key:1"
    # Its end, now: nobody wants to wait for a minute.
    assert 0 < await valkey.client.pttl(counter) <= 60_000
    await valkey.client.pexpire(counter, 0)
    assert await valkey.client.keys() == []
    assert await store.take([KEY]) is None


async def test_counter_without_an_end(valkey: Valkey) -> None:
    """A full counter that someone has set by hand does not shut a key out for ever."""
    store = ValkeyStore(valkey, window_s=0.2)
    await valkey.client.set("ringback:{limits}:key:1", "7")
    assert await store.take([KEY]) == Exceeded(KEY, 0.2)
    await asyncio.sleep(0.25)
    assert await store.take([KEY]) is None


async def test_one_round_trip(valkey: Valkey) -> None:
    """However many counters there are, a request is one command."""
    store = ValkeyStore(valkey)
    await store.take([KEY])
    await valkey.client.config_resetstat()
    await store.take([Counter("key", f"key:{number}", 5) for number in range(10)])
    stats = await valkey.client.info("commandstats")
    from_outside = {name for name in stats if name not in {"cmdstat_get", "cmdstat_pexpire"}}
    assert from_outside <= {"cmdstat_evalsha", "cmdstat_incr", "cmdstat_info"} | {
        "cmdstat_config|resetstat"
    }
    assert stats["cmdstat_evalsha"]["calls"] == 1


async def test_replicas_count_together(server: ValkeyProcess, valkey: Valkey) -> None:
    """Two clients of one server share a limit; one with another prefix does not."""
    other = Valkey(server.settings(timeout_s=5))
    stranger = Valkey(server.settings(timeout_s=5, prefix="elsewhere"))
    stores = [ValkeyStore(valkey), ValkeyStore(other)]
    results = await asyncio.gather(*(stores[n % 2].take([KEY]) for n in range(10)))
    assert results.count(None) == KEY.limit
    assert await ValkeyStore(stranger).take([KEY]) is None
    await other.close()
    await stranger.close()


async def test_away(server: ValkeyProcess, valkey: Valkey) -> None:
    """Without the server nobody tells; back and empty, it counts anew."""
    store = ValkeyStore(valkey)
    await store.take([KEY])
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await store.take([KEY])
    await asyncio.to_thread(server.start)
    assert [await store.take([KEY]) for _ in range(2)] == [None, None]
    assert await store.take([KEY]) is not None


@pytest.mark.usefixtures("valkey")
async def test_fallback(server: ValkeyProcess) -> None:
    """While the server hangs one request a second waits for it, and the process counts alone."""
    clock, hasty = Clock(), Valkey(server.settings(timeout_s=2))
    store = FallbackStore(ValkeyStore(hasty), MemoryStore(clock), clock)
    assert [await store.take([KEY]) for _ in range(2)] == [None, None]
    with server.paused():
        # Counted here from zero on.
        assert await store.take([KEY]) is None
        async with asyncio.timeout(1.5):
            assert await store.take([KEY]) is None
            assert await store.take([KEY]) is not None
    clock.now += PAUSE_S
    exceeded = await store.take([KEY])
    # The server has not forgotten; the late request may have counted there.
    assert exceeded is not None
    assert exceeded.wait_s < 60
    await hasty.close()
