"""The one query for a virtual key and all that it belongs to, made of what a database has. Pure.

Every version of LiteLLM adds tables and columns. What a database lacks is left out of the query,
and `Lack` says what that means; without the essential columns there is no query.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from extauthz.keys.postgrestables import (
    DEPRECATED,
    DEPRECATED_COLUMNS,
    ESSENTIAL,
    GROUP_COLUMNS,
    GROUPS,
    JOINS,
    KEY,
    KEYS,
    PICKED,
    PROXY_BUDGET_USER,
    USERS,
    WINDOW_COLUMNS,
    WINDOWS,
    Source,
)

# The names of columns, by the names of the tables that there are.
Schema = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that a database does not have.

    Attributes:
        name: Table, or table and column.
        meaning: What does not work without it.
    """

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    Attributes:
        key: For a key: ``$1`` is its hash.
        owners: The same columns for somebody without a key: ``$1`` is a team, ``$2`` a user.
        lacks: What the database does not have.
    """

    key: str
    owners: str
    lacks: tuple[Lack, ...]


def missing_essentials(tables: Schema) -> tuple[str, ...]:
    """Return the columns without which no key can be checked, and which a database lacks."""
    return tuple(f"{KEYS}.{name}" for name in ESSENTIAL if name not in tables.get(KEYS, ()))


def build_query(tables: Schema, schema: str) -> Query:
    """Make the query for a database.

    Args:
        tables: What it has; `missing_essentials` of it is empty.
        schema: Where LiteLLM's tables are.
    """
    return _Builder(tables, schema).build()


class _Builder:
    def __init__(self, tables: Schema, schema: str) -> None:
        self._tables = tables
        self._schema = schema
        self._lacks: dict[str, str] = {}
        self._has: dict[str, list[str]] = {}
        """The columns of the sources that are in the query."""

    def build(self) -> Query:
        self._add(KEY)
        joins = "".join(f"\n  {self._join(source)}" for source in JOINS if self._add(source))
        extras = [
            *self._table(GROUPS, GROUP_COLUMNS, "access groups add no models", self._groups),
            *self._table(WINDOWS, WINDOW_COLUMNS, "budget windows never fill", self._windows),
            *self._table(
                USERS, ("user_id", "spend"), "the proxy's budget never fills", self._proxy
            ),
        ]
        columns = ",\n  ".join([*self._columns(), *extras])
        body = f"SELECT\n  {columns}\nFROM key{joins}"
        return Query(
            key=f"WITH key AS (\n{self._key()}\n)\n{body}",
            owners=f"WITH key AS (\n{self._nobody()}\n)\n{body}",
            lacks=tuple(Lack(name, meaning) for name, meaning in self._lacks.items()),
        )

    def _add(self, source: Source) -> bool:
        """Note which columns there are; tell whether the source can be in the query."""
        has = self._tables.get(source.table, ())
        if source.table not in self._tables:
            self._lacks[source.table] = "; ".join(dict.fromkeys(source.columns.values()))
            return False
        for name, meaning in source.columns.items():
            if name not in has:
                self._lacks.setdefault(f"{source.table}.{name}", meaning)
        if not all(column in has and self._given(refs) for column, refs in source.on.items()):
            return False
        self._has[source.alias] = [name for name in source.columns if name in has]
        return True

    def _given(self, references: Iterable[str]) -> list[str]:
        """Return those columns of earlier sources that there are, as expressions."""
        split = (reference.split(".") for reference in references)
        return [
            # An empty id is none, for LiteLLM too.
            f"NULLIF({_quote(alias)}.metadata ->> 'team_member_budget_id', '')"
            if name == "metadata"
            else self._expression(alias, name)
            for alias, name in split
            if name in self._has.get(alias, ())
        ]

    @staticmethod
    def _expression(alias: str, name: str) -> str:
        column = f"{_quote(alias)}.{_quote(name)}"
        return column if name == "model_id" else f"NULLIF({column}, '')"

    def _join(self, source: Source) -> str:
        conditions = []
        for column, references in source.on.items():
            given = self._given(references)
            value = given[0] if len(given) == 1 else f"COALESCE({', '.join(given)})"
            conditions.append(f"{_quote(source.alias)}.{_quote(column)} = {value}")
        table = self._name(source.table)
        return f"LEFT JOIN {table} AS {_quote(source.alias)} ON {' AND '.join(conditions)}"

    def _columns(self) -> list[str]:
        return [
            f"{_value(alias, name)} AS {_quote(f'{alias}_{name}')}"
            for alias, names in self._has.items()
            for name in names
        ]

    def _key(self) -> str:
        """Return the rows of a key: its own, else, while it rotates, that of its successor."""
        names = ", ".join(f"v.{_quote(name)}" for name in self._has["key"])
        keys = self._name(KEYS)
        own = f"  SELECT {names} FROM {keys} v WHERE v.token = $1"
        successor = (
            f"  UNION ALL\n  SELECT {names} FROM {self._name(DEPRECATED)} d"
            f" JOIN {keys} v ON v.token = d.active_token_id\n"
            "  WHERE d.token = $1 AND d.revoke_at > (now() AT TIME ZONE 'utc')\n"
            f"    AND NOT EXISTS (SELECT 1 FROM {keys} x WHERE x.token = $1)\n  LIMIT 1"
        )
        meaning = "a key that is rotated ends at once, without a time of grace"
        return "\n".join(
            [own, *self._table(DEPRECATED, DEPRECATED_COLUMNS, meaning, lambda: successor)]
        )

    def _nobody(self) -> str:
        """Return one row with a team and a user, and nothing else that a key has."""
        given = {"team_id": "$1::text", "user_id": "$2::text"}
        names = self._has["key"]
        quoted = ", ".join(_quote(name) for name in names)
        nothing = f"(SELECT {quoted} FROM {self._name(KEYS)} WHERE false)"
        columns = ", ".join(f"{given.get(n, f'n.{_quote(n)}')} AS {_quote(n)}" for n in names)
        return f"  SELECT {columns} FROM (SELECT 1) AS one LEFT JOIN {nothing} AS n ON true"

    def _table(
        self, table: str, columns: Iterable[str], meaning: str, make: Callable[[], str]
    ) -> list[str]:
        """Return a part of the query if all columns that it needs are there."""
        has = self._tables.get(table, ())
        missing = [name for name in columns if name not in has]
        if table not in self._tables:
            self._lacks[table] = meaning
        for name in missing if has else ():
            self._lacks.setdefault(f"{table}.{name}", meaning)
        return [] if missing else [make()]

    def _groups(self) -> str:
        named = [
            f"{_quote(alias)}.access_group_ids"
            for alias in ("key", "team")
            if "access_group_ids" in self._has.get(alias, ())
        ]
        names = " || ".join(f"COALESCE({name}, '{{}}')" for name in named) or "'{}'::text[]"
        return (
            "(SELECT jsonb_agg(jsonb_build_object('id', g.access_group_id, 'models',"
            " g.access_model_names, 'teams', g.assigned_team_ids, 'keys', g.assigned_key_ids)"
            f" ORDER BY g.access_group_id) FROM {self._name(GROUPS)} g"
            f" WHERE g.access_group_id = ANY ({names})) AS access_groups"
        )

    def _windows(self) -> str:
        return (
            "(SELECT jsonb_agg(jsonb_build_object('type', w.entity_type, 'duration',"
            " w.window_duration, 'start', w.window_start, 'spend', w.spend))"
            f" FROM {self._name(WINDOWS)} w"
            " WHERE (w.entity_type, w.entity_id) IN (('key', key.token), ('team', key.team_id)))"
            " AS window_spend"
        )

    def _proxy(self) -> str:
        return (
            f"(SELECT p.spend FROM {self._name(USERS)} p"
            f" WHERE p.user_id = '{PROXY_BUDGET_USER}') AS proxy_spend"
        )

    def _name(self, table: str) -> str:
        return f"{_quote(self._schema)}.{_quote(table)}"


def _value(alias: str, name: str) -> str:
    column = f"{_quote(alias)}.{_quote(name)}"
    if name != "metadata":
        return column
    picked = ", ".join(f"'{field}', {column} -> '{field}'" for field in PICKED[alias])
    is_object = f"jsonb_typeof({column}) = 'object'"
    return f"CASE WHEN {is_object} THEN jsonb_build_object({picked}) ELSE {column} END"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
