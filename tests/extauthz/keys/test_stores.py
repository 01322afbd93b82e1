import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from extauthz.egress import Egress
from extauthz.errors import ConfigError, KeySourceUnavailableError
from extauthz.keys import KeyQuery, KeySources, Scope, VirtualKey, hash_key
from extauthz.keys.cache import CachedSource
from extauthz.keys.memory import KeyMemory, Lifetimes
from extauthz.keys.scopes import OwnersSource, ScopeQueries
from extauthz.keys.sources import MasterKeySource
from extauthz.keys.stores import KeyStores
from extauthz.litellm import LiteLLMConfig, load_config
from helpers.authz import settings, write_config
from helpers.litellmrows import hash_of
from helpers.litellmstandin import ADMIN_KEY, LiteLLMStandIn
from helpers.postgres import Database, PostgresServer
from helpers.postgressource import open_source
from helpers.valkey import ValkeyProcess
from helpers.waiting import until
from ringback.paths import envoy_dir
from ringback.secrets import Secret

ENTRY = {"model_name": "voice", "litellm_params": {"model": "openai/x", "api_key": "sk-up"}}
KEYS = "LiteLLM_VerificationToken"


def config(folder: Path, **general: Any) -> LiteLLMConfig:
    """Return a LiteLLM configuration with these general settings."""
    write_config(folder / "config.yaml", ENTRY, general_settings=general)
    return load_config(folder / "config.yaml", {})


class OneKeySource:
    """Stands for the key file."""

    def __init__(self, raw: str, alias: str) -> None:
        self._key = VirtualKey(hash_key(Secret(raw)), alias=alias)

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return its key if it is asked for."""
        return self._key if query.hash == self._key.hash else None


def query(raw: str) -> KeyQuery:
    """Return what is asked when a caller shows a key."""
    return KeyQuery(hash_key(Secret(raw)), Secret(raw))


@asynccontextmanager
async def opened(
    folder: Path, egress_url: str = "http://127.0.0.1:1", **given: Any
) -> AsyncIterator[tuple[KeyStores, KeySources]]:
    """Run the sources of some settings between the ends of a block."""
    egress = Egress.through(egress_url)
    stores = KeyStores(settings(**given), egress)
    sources = stores.sources(config(folder), None)
    await stores.start()
    try:
        yield stores, sources
    finally:
        await stores.stop()
        await egress.close()


async def outcome(sources: KeySources, raw: str, max_age_s: float | None = None) -> str:
    """Return what a lookup comes to."""
    try:
        key = await sources.find(KeyQuery(hash_of(raw), max_age_s=max_age_s))
    except KeySourceUnavailableError:
        return "unavailable"
    if key is None:
        return "unknown"
    is_team_blocked = key.team_scope is not None and key.team_scope.blocked
    return "blocked" if key.blocked or is_team_blocked else "found"


async def becomes(sources: KeySources, raw: str, expected: str) -> None:
    """Wait until a lookup comes to this; a blocked team counts as blocked."""
    async with asyncio.timeout(15):
        # Only another lookup tells.
        while await outcome(sources, raw) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("order", "alias"),
    [
        pytest.param(("file", "litellm"), "in-file", id="file-first"),
        pytest.param(("litellm", "file"), "at-litellm", id="litellm-first"),
        pytest.param(("litellm",), "at-litellm", id="litellm-alone"),
        pytest.param(("file",), "in-file", id="file-alone"),
    ],
)
async def test_the_settings_say_which_source_decides(
    tmp_path: Path, order: tuple[str, ...], alias: str
) -> None:
    """The first source of the order that knows a key decides; what is not in it is not asked."""
    async with LiteLLMStandIn() as litellm:
        litellm.add("sk-both", key_alias="at-litellm")
        egress = Egress.through(litellm.url)
        proxy = {"url": litellm.url, "admin_key": ADMIN_KEY}
        stores = KeyStores(settings(litellm=proxy, key_sources=order), egress)
        sources = stores.sources(config(tmp_path), OneKeySource("sk-both", "in-file"))
        key = await sources.find(query("sk-both"))
        await egress.close()
    assert key is not None
    assert key.alias == alias
    assert litellm.lookups == (alias == "at-litellm")


async def test_a_reload_keeps_what_is_remembered(tmp_path: Path) -> None:
    """A new configuration brings its master key and its time; keys are not asked for again."""
    async with LiteLLMStandIn() as litellm:
        litellm.add("sk-web")
        egress = Egress.through(litellm.url)
        proxy = {"url": litellm.url, "admin_key": ADMIN_KEY}
        stores = KeyStores(settings(litellm=proxy), egress)
        before = stores.sources(config(tmp_path), None)
        assert await before.find(query("sk-web")) is not None
        after = stores.sources(config(tmp_path, master_key="sk-master-0123456789"), None)
        assert await after.find(query("sk-web")) is not None
        assert litellm.lookups == 1
        assert isinstance(after.sources[0], MasterKeySource)
        none = stores.sources(config(tmp_path, user_api_key_cache_ttl=0), None)
        assert await none.find(query("sk-web")) is not None
        assert litellm.lookups == 2
        await egress.close()


@pytest.mark.parametrize(
    ("first", "second", "is_told"),
    [
        pytest.param("postgresql://u:p@127.0.0.1/db", "postgresql://u:q@127.0.0.1/db", True),
        pytest.param(None, "postgresql://u:p@127.0.0.1/db", True),
        pytest.param("postgresql://u:p@127.0.0.1/db", None, True),
        pytest.param("postgresql://u:p@127.0.0.1/db", "postgresql://u:p@127.0.0.1/db", False),
    ],
    ids=["other-password", "added", "removed", "same"],
)
async def test_another_database_needs_a_new_start(
    tmp_path: Path, first: str | None, second: str | None, *, is_told: bool
) -> None:
    """A reload that names another database is told to have no effect on it, without the URL."""
    with capture_logs() as logs:
        egress = Egress.through("http://127.0.0.1:1")
        stores = KeyStores(settings(), egress)
        before = stores.sources(config(tmp_path, database_url=first), None)
        assert logs == []
        after = stores.sources(config(tmp_path, database_url=second), None)
        await egress.close()
    assert len(after.sources) == len(before.sources)
    assert [entry["event"] for entry in logs] == ["database_url_not_taken_up"] * is_told


@pytest.mark.parametrize(
    ("given", "general", "ttl_s"),
    [
        pytest.param({}, {}, 60, id="default"),
        pytest.param({}, {"user_api_key_cache_ttl": 7}, 7, id="litellm"),
        pytest.param({"ttl_s": 9}, {"user_api_key_cache_ttl": 7}, 9, id="ours"),
    ],
)
def test_litellms_lifetime_holds_unless_ours_is_set(
    tmp_path: Path, given: dict[str, Any], general: dict[str, Any], ttl_s: float
) -> None:
    """``user_api_key_cache_ttl`` counts where ``key_cache.ttl_s`` is absent."""
    proxy = {"url": "http://127.0.0.1:1", "admin_key": ADMIN_KEY}
    stores = KeyStores(
        settings(litellm=proxy, key_cache=given), Egress.through("http://127.0.0.1:1")
    )
    stores.sources(config(tmp_path, **general), None)
    assert [cache.lifetimes.ttl_s for cache in stores._caches] == [ttl_s]


def test_a_key_of_ones_own_needs_one_worker(tmp_path: Path) -> None:
    """Two workers that ask with callers' own keys would refuse every other call: exit code 2."""
    proxy = {"url": "http://127.0.0.1:1", "own_key": True}
    egress = Egress.through("http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"litellm\.own_key: needs workers: 1"):
        KeyStores(settings(litellm=proxy), egress).sources(config(tmp_path), None)
    KeyStores(settings(litellm=proxy, workers=1), egress).sources(config(tmp_path), None)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own."""
    with PostgresServer() as server:
        yield server


async def test_an_outage_of_the_database(tmp_path: Path, server: PostgresServer) -> None:
    """Known keys outlast it for the stale time, others get 503; then all is as before."""
    database = server.create_database()
    database.rows.key("sk-known")
    database.rows.key("sk-late")
    cache = {"ttl_s": 0.2, "stale_s": 8, "unknown_ttl_s": 0.2}
    async with opened(tmp_path, database={"url": database.url}, key_cache=cache) as (_, sources):
        assert await outcome(sources, "sk-known") == "found"
        assert await outcome(sources, "sk-none") == "unknown"
        database.close()
        server.kill()
        await asyncio.sleep(0.3)
        async with asyncio.timeout(7):
            for age_s in (None, 0.1, None):
                assert await outcome(sources, "sk-known", age_s) == "found"
            assert await outcome(sources, "sk-late") == "unavailable"
            assert await outcome(sources, "sk-none") == "unavailable"
        await becomes(sources, "sk-known", "unavailable")
        server.start()
        await becomes(sources, "sk-late", "found")
        assert await outcome(sources, "sk-known") == "found"
        assert await outcome(sources, "sk-none") == "unknown"


async def test_many_requests_of_one_key_are_one_query(tmp_path: Path, database: Database) -> None:
    """200 at once, of a key that is not remembered, are one lookup in the database."""

    def lookups() -> float:
        labels = {"source": "database", "outcome": "found"}
        return REGISTRY.get_sample_value("ringback_key_lookups_total", labels) or 0

    database.rows.key("sk-crowd")
    async with opened(tmp_path, database={"url": database.url, "pool_size": 1}) as (_, sources):
        before = lookups()
        found = await asyncio.gather(*(outcome(sources, "sk-crowd") for _ in range(200)))
        assert set(found) == {"found"}
        assert lookups() - before == 1


async def test_a_change_in_the_database_holds_at_once(tmp_path: Path, database: Database) -> None:
    """With the triggers of notify.sql a blocked key and a blocked team end without any delay."""
    folder = envoy_dir().parent / "deploy/postgres"
    database.execute((folder / "notify.sql").read_text())
    team = database.rows.team()
    database.rows.key("sk-own")
    database.rows.key("sk-team", team_id=team)
    where = {"url": database.url, "notify": True}
    async with opened(tmp_path, database=where) as (_, sources):
        assert await outcome(sources, "sk-own") == "found"
        assert await outcome(sources, "sk-team") == "found"
        database.rows.update(KEYS, {"token": hash_of("sk-own")}, blocked=True)
        await becomes(sources, "sk-own", "blocked")
        database.rows.update("LiteLLM_TeamTable", {"team_id": team}, blocked=True)
        await becomes(sources, "sk-team", "blocked")


async def test_valkey_tells_what_to_forget(tmp_path: Path) -> None:
    """A hash on the channel makes that key asked for again, anything else all keys."""
    with ValkeyProcess() as process:
        store = {"url": process.url, "connections": 1}
        client = process.client()
        async with LiteLLMStandIn() as litellm:
            blocked = litellm.add("sk-one")
            litellm.add("sk-two")
            proxy = {"url": litellm.url, "admin_key": ADMIN_KEY}
            async with opened(tmp_path, litellm.url, litellm=proxy, store=store) as (_, sources):
                await until(lambda: client.pubsub_numsub("ringback:keys:forget")[0][1] == 1)
                await asyncio.sleep(0.1)
                for raw in ("sk-one", "sk-two", "sk-one", "sk-two"):
                    assert await outcome(sources, raw) == "found"
                assert litellm.lookups == 2
                litellm.keys[blocked]["blocked"] = True
                client.publish("ringback:keys:forget", blocked)
                await becomes(sources, "sk-one", "blocked")
                assert await outcome(sources, "sk-two") == "found"
                assert litellm.lookups == 3
                client.publish("ringback:keys:forget", "*")
                async with asyncio.timeout(15):
                    while litellm.lookups < 4:
                        assert await outcome(sources, "sk-two") == "found"
                        await asyncio.sleep(0.02)
        client.close()


async def test_a_valkey_that_is_back_is_heard_again(tmp_path: Path) -> None:
    """What was said while it was away may be missed, so that all keys are asked for again."""
    with ValkeyProcess() as process:
        store = {"url": process.url, "connections": 1}
        async with LiteLLMStandIn() as litellm:
            key_hash = litellm.add("sk-one")
            proxy = {"url": litellm.url, "admin_key": ADMIN_KEY}
            async with opened(tmp_path, litellm.url, litellm=proxy, store=store) as (_, sources):
                client = process.client()
                await until(lambda: client.pubsub_numsub("ringback:keys:forget")[0][1] == 1)
                client.close()
                # All is forgotten once that is known here, too.
                await asyncio.sleep(0.2)
                assert await outcome(sources, "sk-one") == "found"
                process.kill()
                litellm.keys[key_hash]["blocked"] = True
                assert await outcome(sources, "sk-one") == "found"
                await asyncio.to_thread(process.start)
                await becomes(sources, "sk-one", "blocked")


async def test_teams_and_users_of_others_than_keys(database: Database) -> None:
    """What a JWT's team and user may do is asked once for both, whoever bears it."""
    database.rows.team(team_id="open", models=["voice"])
    database.rows.team(team_id="closed", blocked=True)
    lifetimes = Lifetimes(ttl_s=60, unknown_ttl_s=60, stale_s=0)
    async with open_source(database.url) as source:
        memory = KeyMemory(10, 10**6)
        queries = ScopeQueries(CachedSource("owners-test", OwnersSource(source), memory, lifetimes))
        for bearer in ("a", "b"):
            key = await queries.find(KeyQuery(f"jwt:{bearer}", team="open", user="ada"))
            assert key is not None
            assert key.team_scope == Scope("open", ("voice",))
        assert len(memory) == 1
        key = await queries.find(KeyQuery("jwt:a", team="closed", user="ada"))
        assert key is not None
        assert key.team_scope == Scope("closed", blocked=True)
        assert len(memory) == 2
