import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from callkeeper.model import Charge, Tokens
from callkeeper.sinks.base import SinkRefusedError, SinkUnavailableError
from callkeeper.sinks.litellm import LiteLLMSink
from callkeeper.sinks.writers import SinkUnusableError, open_writers
from helpers.charges import (
    Payers,
    assert_books_balance,
    charge,
    connect,
    insert_payers,
    later,
    owed,
    some_charges,
    spent,
)
from helpers.postgres import BASELINE, PASSWORD, Database, PostgresServer
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.settings.supervision import SupervisionSettings

_DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def payers(database: Database) -> Payers:
    """Who pays, in a fresh database."""
    return insert_payers(database)


@pytest.fixture
async def sink(database: Database) -> AsyncIterator[LiteLLMSink]:
    """A sink that writes there."""
    sink = LiteLLMSink(partial(connect, database))
    yield sink
    await sink.close()


def _batches(charges: list[Charge], size: int = 100) -> list[list[Charge]]:
    return [charges[start : start + size] for start in range(0, len(charges), size)]


def _all(payers: Payers) -> list[Charge]:
    return some_charges((payers.member, payers.alone, payers.nobody))


async def test_spend_equals_the_sum_to_the_microdollar(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """After 200 calls each table says what its owner has spent, however often batches come."""
    charges = _all(payers)
    for batch in _batches(charges):
        await sink.write(batch)
        await sink.write([later(one, 0.2) for one in batch])
    await sink.write(charges)
    assert_books_balance(database, charges)


async def test_two_observers_count_once(database: Database, payers: Payers) -> None:
    """Two writers that bring the same usages at once, in different orders, count each once."""
    charges = _all(payers)
    sinks = [LiteLLMSink(partial(connect, database)) for _ in range(2)]

    async def write(sink: LiteLLMSink, size: int, order: int) -> None:
        for batch in _batches([later(one, size / 1000) for one in charges[::order]], size):
            await sink.write(batch)
        await sink.close()

    await asyncio.gather(write(sinks[0], 31, 1), write(sinks[1], 47, -1))
    assert_books_balance(database, charges)


async def test_row_is_like_litellms_own(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """The log and the daily table name the call, who pays, the model and what was used."""
    tokens = Tokens(10, 20, 30, 1, 2, 3, 4, 5)
    one = charge(payers.member, "resp_1", tokens)
    await sink.write([one])
    assert database.execute(
        "SELECT request_id, call_type, api_key, model, model_id, model_group, custom_llm_provider,"
        ' "user", team_id, organization_id, end_user, prompt_tokens, completion_tokens,'
        " total_tokens, session_id, status, metadata->>'user_api_key_alias'"
        ' FROM "LiteLLM_SpendLogs"'
    ) == [
        (
            *("resp_1", "_arealtime", payers.member.key_hash, "gpt-realtime", "deployment-1"),
            *("voice", "openai", "user", "team", "org", "caller-1", 66, 9, 75, "0" * 32),
            *("success", "voice"),
        )
    ]
    assert database.execute(
        "SELECT user_id, date, api_key, model, model_group, custom_llm_provider, endpoint,"
        " mcp_namespaced_tool_name, prompt_tokens, completion_tokens, cache_read_input_tokens,"
        ' api_requests, successful_requests, failed_requests FROM "LiteLLM_DailyUserSpend"'
    ) == [
        (
            *("user", f"{datetime.now(UTC):%Y-%m-%d}", payers.member.key_hash, "gpt-realtime"),
            *("voice", "openai", "", "", 66, 9, 6, 1, 1, 0),
        )
    ]


@pytest.mark.parametrize("page", ["user", "team"])
async def test_litellms_page_of_usage_shows_the_spend(
    database: Database, payers: Payers, sink: LiteLLMSink, page: str
) -> None:
    """Its own query finds the total, and what each key has spent."""
    charges = _all(payers)
    await sink.write(charges)
    if page == "team":
        charges = [one for one in charges if one.call.payer.team_id]
    query = _DATA / f"litellm/daily_activity_{page}.sql"
    connection = await connect(database)
    rows = await connection.fetch(
        query.read_text(), "2026-01-01", "2099-01-01", "__ptu_flat_cost__", 100
    )
    await connection.close()
    (total,) = [row for row in rows if row["group_level"] == 127]
    assert round(total["spend"] * 1e6) == sum(one.cost_microdollars for one in charges)
    assert (total["api_requests"], total["failed_requests"]) == (len(charges), 0)
    by_key: dict[str, int] = {}
    for row in rows:
        if row["group_level"] == 31:
            by_key[row["api_key"]] = by_key.get(row["api_key"], 0) + round(row["spend"] * 1e6)
    assert by_key == owed(charges, "key_hash")


async def test_an_item_s_id_is_one_of_its_call(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """A client that names the items of two calls alike pays for both transcriptions."""
    charges = [charge(payers.alone, "item_1", Tokens(audio_in=9), digit * 32) for digit in "12"]
    charges = [replace(one, usage=replace(one.usage, kind="transcription")) for one in charges]
    await sink.write(charges)
    await sink.write(charges)
    assert spent(database, "LiteLLM_UserTable", "user_id") == {"user": 2 * 288}


async def test_who_was_removed_from_a_team_does_not_come_back(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """The team pays for its former member, who gets no row again."""
    database.execute("UPDATE \"LiteLLM_TeamTable\" SET members_with_roles = '[]'")
    await sink.write([charge(payers.member, "resp_1", Tokens(text_in=1000))])
    assert spent(database, "LiteLLM_TeamTable", "team_id") == {"team": 4000}
    assert database.execute('SELECT * FROM "LiteLLM_TeamMembership"') == []


async def test_budget_windows_are_raised(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """The window of now counts, once; what was used before it does not; new ones see the log."""
    reset = datetime.now(UTC) + timedelta(hours=1)
    limits = f'[{{"budget_duration": "2h", "max_budget": 1, "reset_at": "{reset.isoformat()}"}}]'
    database.execute('UPDATE "LiteLLM_VerificationToken" SET budget_limits = %s::jsonb', limits)
    database.execute('UPDATE "LiteLLM_TeamTable" SET budget_limits = %s::jsonb', limits)
    old = later(charge(payers.member, "resp_0", Tokens(text_in=1)), -7200)
    one, two = (charge(payers.member, f"resp_{n}", Tokens(text_in=1000 * n)) for n in (1, 2))
    await sink.write([old, one])
    await sink.write([one, two])
    assert database.execute(
        'SELECT entity_type, window_duration, round(spend * 1e6) FROM "LiteLLM_BudgetWindowSpend"'
        " WHERE entity_id IN (%s, 'team') ORDER BY 1",
        payers.member.key_hash,
    ) == [("key", "2h", 12000), ("team", "2h", 12000)]


async def test_odd_texts_are_stored(database: Database, payers: Payers, sink: LiteLLMSink) -> None:
    """What Postgres has no letters for does not keep a usage from being counted."""
    await sink.write([charge(payers.alone, "resp_\0\ud800", Tokens(text_in=1000))])
    assert database.execute('SELECT request_id FROM "LiteLLM_SpendLogs"') == [("resp_?",)]


async def test_data_that_the_database_refuses_is_told_apart(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """A batch that can never be written is refused as a whole; the sink goes on."""
    database.execute(
        "ALTER TABLE \"LiteLLM_SpendLogs\" ADD CONSTRAINT nobody CHECK (request_id <> 'resp_bad')"
    )
    good, bad = (charge(payers.alone, f"resp_{n}", Tokens(text_in=9)) for n in ("good", "bad"))
    with pytest.raises(SinkRefusedError, match="CheckViolationError 23514"):
        await sink.write([good, bad])
    assert database.execute('SELECT * FROM "LiteLLM_SpendLogs"') == []
    await sink.write([good])
    assert spent(database, "LiteLLM_UserTable", "user_id") == {"user": 36}


async def test_partitioned_log_counts_once_too(
    database: Database, payers: Payers, sink: LiteLLMSink
) -> None:
    """LiteLLM's partitions have no unique id; charges wait for one that is missing."""
    database.execute(
        'ALTER TABLE "LiteLLM_SpendLogs" RENAME TO old;'
        'CREATE TABLE "LiteLLM_SpendLogs" (LIKE old INCLUDING DEFAULTS,'
        ' PRIMARY KEY (request_id, "startTime")) PARTITION BY RANGE ("startTime")'
    )
    one = charge(payers.alone, "resp_1", Tokens(text_in=1000))
    with pytest.raises(SinkUnavailableError) as raised:
        await sink.write([one])
    assert not isinstance(raised.value, SinkRefusedError)
    database.execute('CREATE TABLE part PARTITION OF "LiteLLM_SpendLogs" DEFAULT')
    await sink.write([one])
    await sink.write([later(one, 0.5)])
    assert spent(database, "LiteLLM_UserTable", "user_id") == {"user": 4000}


@pytest.mark.parametrize(
    ("until", "tables"),
    [
        pytest.param(BASELINE, ("LiteLLM_UserTable",), id="oldest"),
        # Before the daily tables had an endpoint.
        pytest.param("202507", ("LiteLLM_UserTable", "LiteLLM_DailyUserSpend"), id="2025-07"),
    ],
)
async def test_older_schemas_take_charges(
    postgres: PostgresServer, until: str, tables: tuple[str, ...]
) -> None:
    """Tables and columns that an old LiteLLM does not have are left out."""
    database = postgres.create_database(until)
    sink = LiteLLMSink(partial(connect, database))
    one = charge(insert_payers(database).member, "resp_1", Tokens(text_in=1000))
    await sink.write([one])
    await sink.write([one])
    await sink.close()
    for table in tables:
        assert spent(database, table, "user_id") == {"user": 4000}
    database.drop()


async def test_role_for_spend_is_enough(database: Database, payers: Payers, tmp_path: Path) -> None:
    """The role of spend-role.sql writes all of it, and may neither read nor delete anything."""
    script = Path(__file__).parents[2] / "deploy/postgres/spend-role.sql"
    for _ in range(2):
        database.execute(script.read_text())
    database.execute(f"ALTER ROLE ringback_spend PASSWORD '{PASSWORD}'")
    reset = datetime.now(UTC) + timedelta(hours=1)
    limits = f'[{{"budget_duration": "2h", "reset_at": "{reset.isoformat()}"}}]'
    database.execute('UPDATE "LiteLLM_TeamTable" SET budget_limits = %s::jsonb', limits)
    settings = Settings(
        supervision=SupervisionSettings(
            sinks=("litellm",),
            database_url=Secret(database.url_of("ringback_spend")),
            spool_folder=tmp_path / "spool",
        )
    )
    charges = _all(payers)
    (writer,) = open_writers(settings)
    writer.start()
    for one in charges:
        writer.put(one)
    await writer.stop()
    assert_books_balance(database, charges)
    assert spent(database, "LiteLLM_BudgetWindowSpend", "entity_id") == owed(charges, "team_id")
    connection = await asyncpg.connect(database.url_of("ringback_spend"))
    for forbidden in (
        'DELETE FROM "LiteLLM_SpendLogs"',
        'UPDATE "LiteLLM_SpendLogs" SET spend = 0',
        'SELECT metadata FROM "LiteLLM_SpendLogs"',
        'UPDATE "LiteLLM_VerificationToken" SET max_budget = NULL',
        'SELECT models FROM "LiteLLM_VerificationToken"',
        'SELECT * FROM "LiteLLM_CredentialsTable"',
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forbidden)
    await connection.close()


def test_sink_without_a_database_stops_the_start(tmp_path: Path) -> None:
    """So does a folder that cannot be made."""
    settings = Settings(supervision=SupervisionSettings(sinks=("litellm",)))
    with pytest.raises(SinkUnusableError, match=r"needs supervision\.database_url"):
        open_writers(settings)
    (tmp_path / "file").touch()
    own = SupervisionSettings(
        sinks=("litellm",),
        database_url=Secret("postgresql://somebody@localhost/litellm"),
        spool_folder=tmp_path / "file",
    )
    with pytest.raises(SinkUnusableError, match=r"^supervision\.spool_folder: .*: File exists"):
        open_writers(Settings(supervision=own))


async def test_tables_may_be_in_another_schema(database: Database, payers: Payers) -> None:
    """The schema that the URL names as Prisma's does holds the tables."""
    database.execute('ALTER SCHEMA public RENAME TO "Lite LLM"')
    sink = LiteLLMSink(partial(connect, database), "Lite LLM")
    await sink.write([charge(payers.alone, "resp_1", Tokens(text_in=1000))])
    await sink.close()
    database.execute('ALTER SCHEMA "Lite LLM" RENAME TO public')
    assert spent(database, "LiteLLM_DailyUserSpend", "user_id") == {"user": 4000}


async def test_database_without_the_tables_is_unavailable(database: Database) -> None:
    """Charges wait for a database that is LiteLLM's."""
    database.execute('DROP TABLE "LiteLLM_SpendLogs"')
    sink = LiteLLMSink(partial(connect, database))
    with pytest.raises(SinkUnavailableError, match="has no LiteLLM_SpendLogs"):
        await sink.write([])
    await sink.close()
