"""Spend where LiteLLM keeps it: one transaction for each batch, with nothing counted twice."""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from callkeeper.model import Charge
from callkeeper.sinks import litellmsql as sql
from callkeeper.sinks.base import SinkRefusedError, SinkUnavailableError
from callkeeper.sinks.ledger import (
    Sums,
    daily_rows,
    dollars,
    log_row,
    request_id,
    sum_up,
    to_json,
)
from callkeeper.sinks.windows import Window, parse_windows

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

# Classes of SQLSTATE: data that the database refuses would be refused again.
_DATA, _CONSTRAINT = "22", "23"


class LiteLLMSink:
    """Writes what LiteLLM itself writes for its own requests, into its own tables.

    The row of a usage in LiteLLM_SpendLogs, the spend of everybody who pays it, and the daily
    tables are one transaction, and only rows that were not there before raise anything. So a batch
    that is written again, by us or by another replica, changes nothing.

    Args:
        connect: Opens a connection that may write.
        schema: Where the tables are.
    """

    name = "litellm"

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], schema: str = "public"
    ) -> None:
        self._connect, self._schema = connect, schema
        self._connection: Connection | None = None
        self._columns: sql.Columns = {}

    async def write(self, charges: Sequence[Charge]) -> None:
        """See `Sink`."""
        try:
            connection = await self._open()
            async with connection.transaction():
                await self._write(connection, charges)
        except asyncpg.PostgresError as error:
            if _is_refusal(error):
                raise SinkRefusedError(_describe(error)) from error
            await self.close()
            raise SinkUnavailableError(_describe(error)) from error
        except (
            OSError,
            TimeoutError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            await self.close()
            raise SinkUnavailableError(_describe(error)) from error

    async def close(self) -> None:
        """Drop the connection; the server rolls back what it had not committed."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            rows = await self._connection.fetch(sql.COLUMNS, self._schema, list(sql.TABLES))
            self._columns = {row["table_name"]: frozenset(row["columns"]) for row in rows}
            if missing := [name for name in sql.NEEDED if name not in self._columns]:
                # Looked at again with the next connection.
                await self.close()
                raise SinkUnavailableError(f"the database has no {', '.join(missing)}")
        return self._connection

    async def _write(self, connection: Connection, charges: Sequence[Charge]) -> None:
        # One writer after another: so two that bring the same usage cannot both find it missing,
        # even where LiteLLM_SpendLogs is partitioned and has no unique id, and cannot deadlock.
        await connection.execute(sql.PREPARE, self._schema)
        await connection.execute(sql.TAKE_TURNS, sql.TURN)
        once = {request_id(charge): charge for charge in reversed(charges)}
        rows = [log_row(once[name]) for name in sorted(once)]
        inserted = await connection.fetch(sql.insert_logs(self._columns), to_json(rows))
        new = [once[row["request_id"]] for row in inserted]
        if not new:
            return
        sums = sum_up(new)
        await self._write_members(connection, sums)
        for statement, spent in _spent(sums, self._columns):
            await connection.executemany(statement, spent)
        for table, owner in sql.DAILY.items():
            if table in self._columns:
                await self._write_daily(connection, table, daily_rows(new, owner))
        if sql.WINDOWS in self._columns:
            await self._write_windows(connection, new, sums)

    async def _write_members(self, connection: Connection, sums: Sums) -> None:
        """Raise the spend of team members; who has no row gets one while he is on the team."""
        if not sums.members:
            return
        members = sorted(sums.members)
        known = await connection.fetch(
            sql.KNOWN_MEMBERS, [team for team, _ in members], [user for _, user in members]
        )
        lacking = set(members) - {(row["team_id"], row["user_id"]) for row in known}
        for team in sorted({team for team, _ in lacking}):
            # The lock under which LiteLLM changes a team, or else who is just being removed would
            # be back.
            await connection.execute(sql.LOCK_TEAM, team)
        statement = sql.raise_member(self._columns)
        await connection.executemany(
            statement, [(*member, dollars(sums.members[member])) for member in members]
        )

    async def _write_daily(
        self, connection: Connection, table: str, rows: Iterable[Mapping[str, Any]]
    ) -> None:
        statement = sql.raise_daily(table, self._columns[table])
        values = [
            (
                str(uuid.uuid4()),
                row["owner"],
                row["date"],
                row["api_key"],
                row["model"],
                row["custom_llm_provider"],
                row["model_group"],
                row["prompt_tokens"],
                row["completion_tokens"],
                row["cache_read_input_tokens"],
                row["api_requests"],
                row["successful_requests"],
                dollars(row["microdollars"]),
            )
            for row in rows
        ]
        await connection.executemany(statement, values)

    async def _write_windows(
        self, connection: Connection, charges: Sequence[Charge], sums: Sums
    ) -> None:
        now = datetime.now(UTC)
        for kind, spent in (("key", sums.keys), ("team", sums.teams)):
            if "budget_limits" not in self._columns[sql.OWNERS[kind]]:
                continue
            for row in await connection.fetch(sql.LIMITS[kind], sorted(spent)):
                for window in parse_windows(row["budget_limits"], now):
                    cost = sum(
                        charge.cost_microdollars
                        for charge in charges
                        if _owner(charge, kind) == row["id"]
                        and charge.usage.at >= window.begin.timestamp()
                    )
                    if cost:
                        await _raise_window(connection, kind, row["id"], window, cost)


async def _raise_window(
    connection: Connection, kind: str, owner: str, window: Window, cost: int
) -> None:
    begin = window.begin.replace(tzinfo=None)
    raised = await connection.fetchval(
        sql.RAISE_WINDOW, kind, owner, window.duration, begin - window.slack, dollars(cost)
    )
    if raised is None:
        await connection.execute(
            sql.OPEN_WINDOW[kind], kind, owner, window.duration, begin, dollars(cost), window.slack
        )


def _owner(charge: Charge, kind: str) -> str | None:
    return charge.call.payer.key_hash if kind == "key" else charge.call.payer.team_id


def _spent(sums: Sums, columns: sql.Columns) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    """Yield statements with their values, in the order of rows in which LiteLLM locks them."""
    one: tuple[tuple[str, Mapping[str, int]], ...] = (
        ("LiteLLM_UserTable", sums.users),
        ("LiteLLM_EndUserTable", sums.end_users),
        ("LiteLLM_VerificationToken", sums.keys),
        ("LiteLLM_TeamTable", sums.teams),
        ("LiteLLM_OrganizationTable", sums.organizations),
        ("LiteLLM_ProjectTable", sums.projects),
    )
    for table, spent in one:
        if spent and table in columns:
            yield (
                sql.raise_spend(table, columns[table]),
                [(name, dollars(spent[name])) for name in sorted(spent)],
            )
    if sums.organization_members and sql.ORGANIZATION_MEMBERS in columns:
        yield (
            sql.RAISE_ORGANIZATION_MEMBER,
            [(*key, dollars(cost)) for key, cost in sorted(sums.organization_members.items())],
        )


def _is_refusal(error: asyncpg.PostgresError) -> bool:
    """Tell whether the data is to blame; for a partition that is missing nobody's data is."""
    sqlstate = str(error.sqlstate)
    if sqlstate.startswith(_CONSTRAINT):
        return getattr(error, "constraint_name", None) is not None
    return sqlstate.startswith(_DATA)


def _describe(error: BaseException) -> str:
    """Return the kind of an error; its text may quote a row."""
    sqlstate = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {sqlstate}" if sqlstate else type(error).__name__
