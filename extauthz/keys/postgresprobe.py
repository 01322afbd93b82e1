"""What LiteLLM's database holds, as its catalogue says."""

from dataclasses import dataclass
from typing import Final

from extauthz.keys.postgresquery import Query, Schema, build_query, missing_essentials
from extauthz.keys.postgrestables import columns_read
from ringback.postgresconnect import Connection

_NEEDED: Final = columns_read()
# Not information_schema, which hides what a role may not read as if it were not there.
_COLUMNS: Final = """
SELECT t.relname, c.attname, has_column_privilege(t.oid, c.attnum, 'SELECT')
       AND has_schema_privilege(s.oid, 'USAGE')
  FROM pg_catalog.pg_class t
  JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace
  JOIN pg_catalog.pg_attribute c ON c.attrelid = t.oid
 WHERE s.nspname = $1 AND t.relname = ANY ($2::text[]) AND t.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND c.attnum > 0 AND NOT c.attisdropped
"""


class UnusableDatabaseError(Exception):
    """A database that can be reached and not used: every lookup is 503.

    Args:
        problem: What is wrong and what to do, for the log.
        columns: The columns that it is about.
    """

    def __init__(self, problem: str, columns: tuple[str, ...]) -> None:
        self.problem = problem
        self.columns = columns

    def __str__(self) -> str:
        return f"{self.problem}: {', '.join(self.columns)}"


@dataclass(frozen=True, slots=True)
class _Column:
    table: str
    name: str
    is_readable: bool


async def probe(connection: Connection, schema: str) -> Query:
    """Return the query that fits a database; it has run once.

    Args:
        connection: To the database.
        schema: Where LiteLLM's tables should be.

    Raises:
        UnusableDatabaseError: If keys cannot be checked with what is there.
        Exception: Whatever the connection raises.
    """
    rows = await connection.fetch(_COLUMNS, schema, list(_NEEDED))
    columns = [_Column(*row) for row in rows]
    needed = [column for column in columns if column.name in _NEEDED[column.table]]
    unreadable = tuple(f"{c.table}.{c.name}" for c in needed if not c.is_readable)
    if unreadable:
        raise UnusableDatabaseError(
            "the role may not read all that a key's limits are made of; run "
            "deploy/postgres/role.sql again",
            unreadable,
        )
    tables = _tables(columns)
    if missing := missing_essentials(tables):
        raise UnusableDatabaseError(
            f"schema {schema!r} does not hold LiteLLM's keys; correct the URL, its parameter "
            "`schema`, or let LiteLLM create its tables",
            missing,
        )
    query = build_query(tables, schema)
    await connection.fetchrow(query.key, "")
    return query


def _tables(columns: list[_Column]) -> Schema:
    tables: dict[str, set[str]] = {}
    for column in columns:
        tables.setdefault(column.table, set()).add(column.name)
    return tables
