"""Rows as LiteLLM writes them, by keyword, with defaults that admit everything."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from psycopg.types.json import Jsonb

from extauthz.keys import hash_key
from ringback.secrets import Secret

Execute = Callable[..., list[tuple[Any, ...]]]

# Of columns that may not be NULL and have no default.
_AUTHOR: Final = "admin"
_DEFAULTS: Final[Mapping[str, Any]] = {
    "created_by": _AUTHOR,
    "updated_by": _AUTHOR,
    "updated_at": datetime(2026, 1, 1),  # noqa: DTZ001  timestamps of LiteLLM are UTC without zone
}
_COLUMNS: Final = """
    SELECT column_name, udt_name, is_nullable = 'NO' AND column_default IS NULL
      FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"""


class Rows:
    """Inserts rows. Ids are chosen where none is given, and returned.

    Columns carry the names of the database. Values of jsonb columns are Python objects; times are
    aware, or naive in UTC.

    Args:
        execute: Runs a statement with values and returns the rows of its result.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._numbers = count(1)

    def key(self, raw: str | None = None, **columns: Any) -> str:
        """Insert a virtual key and return it as callers send it.

        ``user_id``, ``team_id``, ``project_id`` and ``budget_id`` may name rows that do not exist,
        as in LiteLLM where the database itself does not forbid it.
        """
        raw = raw or f"sk-of-the-tests-{self._number():020d}"
        named = {"token": hash_of(raw), "key_name": f"sk-...{raw[-4:]}", **columns}
        self.insert("LiteLLM_VerificationToken", **named)
        return raw

    def deprecated(self, old: str, active: str, **columns: Any) -> None:
        """Let an old key stand for an active one, by default for another hour (``revoke_at``)."""
        named = {
            "id": self._name("deprecated"),
            "token": hash_of(old),
            "active_token_id": hash_of(active),
            "revoke_at": datetime.now(UTC) + timedelta(hours=1),
        }
        self.insert("LiteLLM_DeprecatedVerificationToken", **{**named, **columns})

    def budget(self, **columns: Any) -> str:
        """Insert a budget row and return its ``budget_id``."""
        return self._insert("LiteLLM_BudgetTable", "budget_id", columns)

    def team(self, *, aliases: Mapping[str, str] | None = None, **columns: Any) -> str:
        """Insert a team and return its ``team_id``.

        Args:
            aliases: The team's names for models; a row of LiteLLM_ModelTable.
            columns: Of the team.
        """
        if aliases is not None:
            columns["model_id"] = self.model_aliases(aliases)
        return self._insert("LiteLLM_TeamTable", "team_id", columns)

    def model_aliases(self, aliases: Any) -> int:
        """Insert a row of LiteLLM_ModelTable and return its ``id``, a team's ``model_id``."""
        number = self._number()
        self.insert("LiteLLM_ModelTable", id=number, aliases=aliases)
        return number

    def member(self, user_id: str, team_id: str, **columns: Any) -> None:
        """Insert a user's membership in a team; ``budget_id`` names its limits."""
        self.insert("LiteLLM_TeamMembership", user_id=user_id, team_id=team_id, **columns)

    def user(self, **columns: Any) -> str:
        """Insert a user and return its ``user_id``."""
        return self._insert("LiteLLM_UserTable", "user_id", columns)

    def organization(self, **columns: Any) -> str:
        """Insert an organization and return its id; an empty budget is made for it if need be."""
        if "budget_id" not in columns:
            columns["budget_id"] = self.budget()
        columns.setdefault("organization_alias", "an organization")
        return self._insert("LiteLLM_OrganizationTable", "organization_id", columns)

    def project(self, **columns: Any) -> str:
        """Insert a project and return its ``project_id``."""
        return self._insert("LiteLLM_ProjectTable", "project_id", columns)

    def access_group(self, *models: str, **columns: Any) -> str:
        """Insert an access group that adds models, and return its ``access_group_id``."""
        columns.setdefault("access_model_names", list(models))
        columns.setdefault("access_group_name", self._name("group name"))
        return self._insert("LiteLLM_AccessGroupTable", "access_group_id", columns)

    def window_spend(self, entity_id: str, duration: str, spend: float, **columns: Any) -> None:
        """Insert what was spent in a key's budget window that began just now."""
        named = {
            "entity_type": "key",
            "entity_id": entity_id,
            "window_duration": duration,
            "window_start": datetime.now(UTC),
            "spend": spend,
        }
        self.insert("LiteLLM_BudgetWindowSpend", **{**named, **columns})

    def insert(self, table: str, **columns: Any) -> None:
        """Insert a row; the defaults of the database hold for what is not given."""
        known = self._execute(_COLUMNS, table)
        kinds = {name: kind for name, kind, _ in known}
        needed = {
            name: _DEFAULTS[name] for name, _, needed in known if needed and name in _DEFAULTS
        }
        given = {**needed, **columns}
        values = [_adapt(value, kinds[name]) for name, value in given.items()]
        names = ", ".join(f'"{name}"' for name in given)
        places = ", ".join(["%s"] * len(values))
        self._execute(f'INSERT INTO "{table}" ({names}) VALUES ({places})', *values)  # noqa: S608

    def update(self, table: str, where: Mapping[str, Any], **columns: Any) -> None:
        """Change the rows in which all columns of `where` have these values."""
        known = {name: kind for name, kind, _ in self._execute(_COLUMNS, table)}
        changes = ", ".join(f'"{name}" = %s' for name in columns)
        conditions = " AND ".join(f'"{name}" = %s' for name in where)
        values = [_adapt(value, known[name]) for name, value in (*columns.items(), *where.items())]
        self._execute(f'UPDATE "{table}" SET {changes} WHERE {conditions}', *values)  # noqa: S608

    def _insert(self, table: str, id_column: str, columns: Mapping[str, Any]) -> str:
        name: str = columns.get(id_column) or self._name(id_column.removesuffix("_id"))
        self.insert(table, **{**columns, id_column: name})
        return name

    def _name(self, kind: str) -> str:
        return f"{kind}-{self._number()}"

    def _number(self) -> int:
        return next(self._numbers)


def hash_of(raw: str) -> str:
    """Return the token column of a key."""
    return hash_key(Secret(raw))


def _adapt(value: Any, kind: str) -> Any:
    if kind == "jsonb" and value is not None:
        return Jsonb(value)
    if kind == "timestamp" and isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value
