"""Measures lookups of virtual keys in a Postgres with LiteLLM's schema; prints a table.

Run it on a quiet machine: ``PYTHONPATH=.:tests python bench/keys.py [KEYS]``; 100,000 keys when
absent. Every key has a team with aliases, a membership with a budget, a user, an organization, a
project and access groups.
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from extauthz.keys import KeyQuery, VirtualKey
from extauthz.keys.cache import CachedSource
from extauthz.keys.memory import KeyMemory, Lifetimes
from extauthz.keys.postgres import PostgresSource
from helpers.postgres import PostgresServer
from ringback.postgresconnect import Database
from ringback.secrets import Secret
from ringback.settings.database import DatabaseSettings

LOOKUPS: Final = 5_000
CONNECTIONS: Final = 10
SIZE: Final = {"shared_buffers": "256MB", "max_wal_size": "4GB", "autovacuum": "off"}
HASH: Final = "encode(sha256(('sk-' || n)::bytea), 'hex')"
FILL: Final = f"""
INSERT INTO "LiteLLM_BudgetTable" (budget_id, max_budget, rpm_limit, created_by, updated_by)
SELECT 'b' || n, 100, 600, '', '' FROM generate_series(0, 999) n;
INSERT INTO "LiteLLM_OrganizationTable"
       (organization_id, organization_alias, budget_id, models, created_by, updated_by)
SELECT 'o' || n, 'o', 'b' || n, '{{}}', '', '' FROM generate_series(0, 99) n;
INSERT INTO "LiteLLM_ModelTable" (id, aliases, created_by, updated_by)
SELECT n, '{{"voice": "gpt-realtime"}}', '', '' FROM generate_series(0, 999) n;
INSERT INTO "LiteLLM_AccessGroupTable"
       (access_group_id, access_group_name, access_model_names, updated_at)
SELECT 'g' || n, 'g' || n, '{{a,b,c}}', now() FROM generate_series(0, 99) n;
INSERT INTO "LiteLLM_TeamTable"
       (team_id, organization_id, model_id, models, max_budget, access_group_ids)
SELECT 't' || n, 'o' || n % 100, n, '{{a,b,c,d}}', 1000, ARRAY['g' || n % 100]
  FROM generate_series(0, 999) n;
INSERT INTO "LiteLLM_ProjectTable" (project_id, models, created_by, updated_by)
SELECT 'p' || n, '{{}}', '', '' FROM generate_series(0, 999) n;
INSERT INTO "LiteLLM_UserTable" (user_id, models, max_budget)
SELECT 'u' || n, '{{}}', 10 FROM generate_series(0, %(users)s - 1) n;
INSERT INTO "LiteLLM_TeamMembership" (user_id, team_id, budget_id)
SELECT 'u' || n, 't' || n % 1000, 'b' || n % 1000 FROM generate_series(0, %(users)s - 1) n;
INSERT INTO "LiteLLM_VerificationToken"
       (token, key_name, key_alias, models, user_id, team_id, project_id, access_group_ids,
        max_budget, metadata)
SELECT {HASH}, 'sk-...' || n % 10000, 'key ' || n, '{{a,b,c}}', 'u' || n % %(users)s,
       't' || n % %(users)s % 1000, 'p' || n % 1000, ARRAY['g' || n % 100], 10,
       '{{"model_rpm_limit": {{"a": 60}}}}'
  FROM generate_series(0, %(keys)s - 1) n;
ANALYZE;
"""  # noqa: S608  a literal

Find = Callable[[KeyQuery], Awaitable[VirtualKey | None]]


def fill(url_of: PostgresServer, keys: int) -> tuple[str, list[str]]:
    """Make a database with so many keys; return its URL and hashes of some keys."""
    database = url_of.create_database()
    users = max(1000, keys // 10)
    database.execute(FILL.replace("%(users)s", str(users)).replace("%(keys)s", str(keys)))
    picked = database.execute(
        'SELECT token FROM "LiteLLM_VerificationToken" ORDER BY random() LIMIT %s', LOOKUPS
    )
    database.execute("CHECKPOINT")
    database.close()
    return database.url, [token for (token,) in picked]


async def measure(name: str, find: Find, hashes: list[str], at_once: int = 1) -> None:
    """Look up each key once and print how long each took, and how many fit into a second."""
    times: list[float] = []
    pending = iter(random.sample(hashes, len(hashes)))

    async def look_up() -> None:
        for key_hash in pending:
            started = time.perf_counter()
            await find(KeyQuery(key_hash))
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(look_up() for _ in range(at_once)))
    rate = len(hashes) / (time.perf_counter() - started)
    cuts = [cut * 1000 for cut in statistics.quantiles(times, n=100)]
    print(f"{name:42} {cuts[49]:8.3f} {cuts[98]:8.3f} {rate:10.0f}")


async def run(url: str, hashes: list[str]) -> None:
    """Print the table."""
    source = PostgresSource(Database(DatabaseSettings(pool_size=CONNECTIONS), Secret(url)))
    cached = CachedSource("database", source, KeyMemory(10_000, 2**26), Lifetimes(60, 5, 300))
    await cached.start()
    unknown = [f"{n:064x}" for n in range(LOOKUPS)]
    print(f"{'lookup':42} {'p50 ms':>8} {'p99 ms':>8} {'per s':>10}")
    await measure("(first)", source.find, hashes)
    await measure("in the database, one at a time", source.find, hashes)
    await measure("in the database, unknown keys", source.find, unknown)
    await measure(f"in the database, {CONNECTIONS} at once", source.find, hashes, CONNECTIONS)
    await measure("(cache fills)", cached.find, hashes)
    await measure("cached", cached.find, hashes)
    await measure("(cache fills)", cached.find, unknown)
    await measure("cached, unknown keys", cached.find, unknown)
    await cached.stop()


def main() -> None:
    """Fill a database and measure."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with PostgresServer(**SIZE) as server:
        started = time.monotonic()
        url, hashes = fill(server, keys)
        print(f"{keys:,} keys, inserted in {time.monotonic() - started:.1f} s")
        asyncio.run(run(url, hashes))


if __name__ == "__main__":
    main()
