import re
from pathlib import Path

import pytest

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import Budget, Limits
from extauthz.keys.postgrestables import ESSENTIAL, JOINS, KEY, columns_read
from helpers.postgres import BASELINE, PASSWORD, Database, PostgresServer
from helpers.postgressource import find, open_source
from helpers.waiting import until

DEPLOY = Path(__file__).parents[3] / "deploy" / "postgres"
# After each of these LiteLLM had something new that counts here.
VERSIONS = [
    BASELINE,
    "20250416185146",
    "20251113000001",
    "20260203120000",
    "20260212143306",
    "20260804162853",
    "20260917000000_add_budget_temp_increase",
]
KEY_TABLE = '"LiteLLM_VerificationToken"'
DROPPABLE = sorted(
    (source.table, column)
    for source in (KEY, *JOINS)
    for column in {**source.columns, **source.on}
    if not (source is KEY and column in ESSENTIAL)
)


@pytest.mark.parametrize("version", VERSIONS)
async def test_older_schemas_are_read(postgres: PostgresServer, version: str) -> None:
    """Whatever a LiteLLM of long ago lacks, what it has counts."""
    database = postgres.create_database(version)
    rows = database.rows
    team = rows.team(blocked=True, models=["voice"], aliases={"a": "voice"}, max_budget=3)
    user = rows.user(rpm_limit=9)
    rows.member(user, team, budget_id=rows.budget(max_budget=2))
    raw = rows.key(
        team_id=team,
        user_id=user,
        models=["voice"],
        spend=1,
        max_parallel_requests=4,
        budget_id=rows.budget(max_budget=5, rpm_limit=6),
        organization_id=rows.organization(spend=7),
        metadata={"model_rpm_limit": {"voice": 8}},
    )
    async with open_source(database.url) as source:
        key = await find(source, raw)
        assert await find(source, "sk-unknown") is None
        assert (await source.scopes(team, user)).member == (key and key.member)
    assert key is not None
    assert key.models == ("voice",)
    assert key.budget == Budget(1, 5)
    assert key.limits == Limits(6, 4, {"voice": 8})
    assert key.team_scope is not None
    assert (key.team_scope.blocked, key.team_scope.budget) == (True, Budget(0, 3))
    assert key.team_aliases == {"a": "voice"}
    assert key.member is not None
    assert key.member.budget == Budget(0, 2)
    assert key.user_scope is not None
    assert key.user_scope.limits == Limits(9)
    assert key.organization is not None
    assert key.organization.budget == Budget(7)


async def test_what_is_missing_is_told_once(
    postgres: PostgresServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the start the log names each table and column that is missing, and what that means."""
    database = postgres.create_database(BASELINE)
    raw = database.rows.key()
    async with open_source(database.url) as source:
        for _ in range(3):
            assert await find(source, raw) is not None
    log = capfd.readouterr().out
    assert log.count("LiteLLM_VerificationToken.allowed_routes") == 1
    assert log.count("keys may call every route") == 1
    assert log.count("LiteLLM_ProjectTable") == 1
    newest = postgres.create_database()
    async with open_source(newest.url):
        pass
    assert "database_lacks" not in capfd.readouterr().out


async def test_every_column_but_the_essential_ones_may_be_missing(
    postgres: PostgresServer,
) -> None:
    """With any one column less, a key is still found."""
    database = postgres.create_database()
    raw = database.rows.key(team_id=database.rows.team(), user_id=database.rows.user())
    for table, column in dict.fromkeys(DROPPABLE):
        kept = f'"{column}" TO "kept"'
        database.execute(f'ALTER TABLE "{table}" RENAME COLUMN {kept}')
        async with open_source(database.url, pool_size=1) as source:
            assert await find(source, raw) is not None, (table, column)
            await source.scopes("t", "u")
        database.execute(f'ALTER TABLE "{table}" RENAME COLUMN "kept" TO "{column}"')


@pytest.mark.parametrize("table", sorted(columns_read().keys() - {KEY.table}))
async def test_every_table_but_that_of_keys_may_be_missing(
    postgres: PostgresServer, table: str
) -> None:
    """With any one table less, a key is still found; its team is then one that nobody knows."""
    database = postgres.create_database()
    raw = database.rows.key(team_id=database.rows.team())
    database.execute(f'DROP TABLE "{table}" CASCADE')
    async with open_source(database.url) as source:
        key = await find(source, raw)
    assert key is not None
    assert key.team_scope is not None
    assert key.team_scope.exists == (table != "LiteLLM_TeamTable")


@pytest.mark.parametrize("column", ESSENTIAL)
async def test_without_an_essential_column_there_are_no_keys(
    database: Database, capfd: pytest.CaptureFixture[str], column: str
) -> None:
    """Without one of these every lookup is 503, and the log says which it is."""
    raw = database.rows.key()
    database.execute(f'ALTER TABLE {KEY_TABLE} RENAME COLUMN "{column}" TO "gone"')
    async with open_source(database.url) as source:
        with pytest.raises(KeySourceUnavailableError):
            await find(source, raw)
    assert f"LiteLLM_VerificationToken.{column}" in capfd.readouterr().out


async def test_a_database_without_litellm_is_told(
    postgres: PostgresServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """An empty database, or a wrong schema in the URL, is 503 and told in the log."""
    database = postgres.create_database()
    for url in (postgres.url("postgres"), f"{database.url}?schema=elsewhere"):
        async with open_source(url) as source:
            with pytest.raises(KeySourceUnavailableError):
                await find(source, "sk-any")
        assert "does not hold LiteLLM's keys" in capfd.readouterr().out


async def test_columns_of_other_types_admit_nobody(database: Database) -> None:
    """A column whose type has changed is refused where it counts, not guessed."""
    raw = database.rows.key(models=["voice"])
    database.execute(f"ALTER TABLE {KEY_TABLE} ALTER models TYPE jsonb USING to_jsonb(models)")
    async with open_source(database.url) as source:
        with pytest.raises(KeySourceUnavailableError):
            await find(source, raw)


async def test_columns_that_are_added_do_not_matter(database: Database) -> None:
    """A LiteLLM of tomorrow may add columns, also while we look."""
    raw = database.rows.key()
    async with open_source(database.url) as source:
        assert await find(source, raw) is not None
        database.execute(f"ALTER TABLE {KEY_TABLE} ADD COLUMN tomorrow jsonb DEFAULT '[]'")
        assert await find(source, raw) is not None


async def test_a_migration_while_running_is_followed(database: Database) -> None:
    """A column that goes away leads to a new look at the database, and keys are found again."""
    raw = database.rows.key(team_id=database.rows.team())
    async with open_source(database.url) as source:
        assert await find(source, raw) is not None
        database.execute('ALTER TABLE "LiteLLM_TeamTable" DROP COLUMN budget_limits')

        async def is_back() -> bool:
            try:
                return await find(source, raw) is not None
            except KeySourceUnavailableError:
                return False

        while not await is_back():
            pass


async def test_another_schema_is_read(database: Database) -> None:
    """The schema that the URL names as Prisma's does holds the tables."""
    raw = database.rows.key()
    database.execute('ALTER SCHEMA public RENAME TO "Lite LLM"')
    async with open_source(f"{database.url}?schema=Lite%20LLM") as source:
        assert await find(source, raw) is not None


def grant(database: Database, version: str = "role.sql") -> str:
    """Make the role of role.sql, and return its URL."""
    database.execute((DEPLOY / version).read_text())
    database.execute(f"ALTER ROLE ringback PASSWORD '{PASSWORD}'")
    return database.url_of("ringback")


async def test_the_role_reads_what_is_needed_and_no_more(database: Database) -> None:
    """The role of role.sql finds keys, may write nothing and may read nothing else."""
    url = grant(database)
    raw = database.rows.key(team_id=database.rows.team())
    async with open_source(url) as source:
        assert await find(source, raw) is not None
    granted = database.execute(
        "SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges"
        " WHERE grantee = 'ringback'"
    )
    assert {privilege for _, _, privilege in granted} == {"SELECT"}
    expected = {(table, name) for table, names in columns_read().items() for name in names}
    assert {(table, column) for table, column, _ in granted} == expected
    assert ("LiteLLM_UserTable", "password") not in expected


@pytest.mark.parametrize("version", [BASELINE, "20260203120000"])
async def test_the_role_fits_older_schemas(postgres: PostgresServer, version: str) -> None:
    """role.sql passes over what an older LiteLLM does not have, and can be run again."""
    database = postgres.create_database(version)
    grant(database)
    url = grant(database)
    raw = database.rows.key()
    async with open_source(url) as source:
        assert await find(source, raw) is not None


async def test_a_role_that_may_not_read_all_admits_nobody(
    database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit that may not be read is no limit that may be passed over: 503 until it may."""
    url = grant(database)
    raw = database.rows.key()
    database.execute('REVOKE SELECT (blocked) ON "LiteLLM_TeamTable" FROM ringback')
    async with open_source(url) as source:
        with pytest.raises(KeySourceUnavailableError):
            await find(source, raw)
        log = capfd.readouterr().out
        assert "LiteLLM_TeamTable.blocked" in log
        assert re.search("run deploy/postgres/role.sql again", log)
        grant(database)
        await until(lambda: source._query is not None)
        assert await find(source, raw) is not None
