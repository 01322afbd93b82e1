"""Charges of made-up calls, and what LiteLLM's tables say of them."""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import asyncpg

from callkeeper.model import Call, Charge, Payer, Tokens, Usage
from callkeeper.pricelists import open_price_book
from callkeeper.prices import PricedDeployment
from helpers.litellmrows import hash_of
from helpers.postgres import Database

_BOOK = open_price_book()
_DEPLOYMENT = PricedDeployment("openai", "gpt-realtime")


@dataclass(frozen=True)
class Payers:
    """Two keys of one user, one of a team in an organization, and one of nobody."""

    member: Payer
    alone: Payer
    nobody: Payer


def insert_payers(database: Database) -> Payers:
    """Insert the rows of `Payers`; the member has no row in LiteLLM_TeamMembership yet."""
    rows = database.rows
    budget = rows.budget()
    rows.insert(
        "LiteLLM_OrganizationTable",
        organization_id="org",
        organization_alias="org",
        budget_id=budget,
        models=[],
        created_by="admin",
        updated_by="admin",
    )
    roster = [{"user_id": "user", "role": "user"}]
    rows.team(team_id="team", organization_id="org", members_with_roles=roster)
    rows.insert("LiteLLM_UserTable", user_id="user")
    rows.insert("LiteLLM_OrganizationMembership", user_id="user", organization_id="org")
    member, alone, nobody = (
        hash_of(rows.key(**columns))
        for columns in ({"team_id": "team", "user_id": "user"}, {"user_id": "user"}, {})
    )
    return Payers(
        Payer(member, "voice", "team", "user", "org", None, "caller-1"),
        Payer(alone, None, None, "user"),
        Payer(nobody),
    )


def charge(payer: Payer, usage_id: str, tokens: Tokens, call_id: str = "0" * 32) -> Charge:
    """Return the charge of one response of ``gpt-realtime``."""
    now = time.time()
    call = Call(
        *(call_id, "deployment-1", "https://api.openai.com:443", f"rtc_{call_id}", "voice"),
        *(payer, "", f"request-of-{call_id}", now),
    )
    usage = Usage(usage_id, "response", "gpt-realtime", tokens, now)
    return Charge(call, usage, _BOOK.cost(usage, _DEPLOYMENT).microdollars)


def some_charges(payers: Iterable[Payer], calls: int = 200, seed: int = 9) -> list[Charge]:
    """Return the charges of calls with one to five usages each, in the order of their events."""
    rolls = random.Random(seed)
    choices = list(payers)
    return [
        charge(
            choices[number % len(choices)],
            f"resp_{seed}_{number}_{turn}",
            Tokens(*(rolls.choice([0, rolls.randrange(3000)]) for _ in range(8))),
            f"{seed:016x}{number:016x}",
        )
        for number in range(calls)
        for turn in range(rolls.randint(1, 5))
    ]


def later(given: Charge, seconds: float) -> Charge:
    """Return what another observer makes of the same event, a moment later."""
    return replace(given, usage=replace(given.usage, at=given.usage.at + seconds))


def owed(charges: Iterable[Charge], owner: str) -> dict[str, int]:
    """Return what charges sum up to in microdollars for each of `Payer`'s ``owner``."""
    sums: dict[str, int] = {}
    for one in charges:
        name = getattr(one.call.payer, owner)
        if name is not None:
            sums[name] = sums.get(name, 0) + one.cost_microdollars
    return sums


def spent(database: Database, table: str, name: str, column: str = "spend") -> dict[str, int]:
    """Return what a table of LiteLLM says that its rows have spent, in whole microdollars."""
    rows = database.execute(
        f'SELECT {name}, sum({column}) FROM "{table}" GROUP BY 1 HAVING sum({column}) <> 0'  # noqa: S608  of the tests
    )
    return {owner: round(dollars * 1_000_000) for owner, dollars in rows}


def assert_books_balance(database: Database, charges: list[Charge]) -> None:
    """Check every table that LiteLLM keeps spend in, to the microdollar."""
    keys, users, teams, organizations, end_users = (
        owed(charges, owner)
        for owner in ("key_hash", "user_id", "team_id", "organization_id", "end_user")
    )
    ids = [one.usage.id for one in charges]
    logged = database.execute('SELECT request_id FROM "LiteLLM_SpendLogs" ORDER BY 1')
    assert [row[0] for row in logged] == sorted(ids)
    assert spent(database, "LiteLLM_SpendLogs", "api_key") == keys
    assert spent(database, "LiteLLM_VerificationToken", "token") == keys
    assert spent(database, "LiteLLM_VerificationToken", "token", "total_spend") == keys
    assert spent(database, "LiteLLM_UserTable", "user_id") == users
    assert spent(database, "LiteLLM_TeamTable", "team_id") == teams
    assert spent(database, "LiteLLM_OrganizationTable", "organization_id") == organizations
    assert spent(database, "LiteLLM_OrganizationMembership", "organization_id") == organizations
    assert spent(database, "LiteLLM_EndUserTable", "user_id") == end_users
    assert spent(database, "LiteLLM_DailyTeamSpend", "team_id") == teams
    assert spent(database, "LiteLLM_DailyOrganizationSpend", "organization_id") == organizations
    assert spent(database, "LiteLLM_DailyEndUserSpend", "end_user_id") == end_users
    assert spent(database, "LiteLLM_DailyUserSpend", "api_key") == keys
    (member,) = database.execute(
        'SELECT round(spend * 1e6), round(total_spend * 1e6) FROM "LiteLLM_TeamMembership"'
    )
    assert member == (teams["team"], teams["team"])


async def connect(database: Database) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a connection of the database's superuser."""
    return await asyncpg.connect(database.url, timeout=5, command_timeout=10)
