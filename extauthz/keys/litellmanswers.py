"""What LiteLLM's management endpoints answer about keys, and those they belong to. Pure.

The shapes are those of LiteLLM 1.106: ``/key/info``, ``/team/info``, ``/user/info``,
``/organization/info``, ``/project/info`` and ``/v1/access_group/ID``. What is made of them are the
columns of LiteLLM's own tables, as `extauthz.keys.records` reads them from the database.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from extauthz.keys.model import Scope, VirtualKey
from extauthz.keys.postgrestables import JOINS, KEY

Json = Mapping[str, Any]
_EMPTY: Final[Json] = {}
_EXPIRED: Final = re.compile(r"Key Expiry time (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)\+00:00")
# Columns that hold JSON, as text.
_JSON: Final = frozenset(
    {"aliases", "budget_limits", "metadata", "model_max_budget", "model_rpm_limit"}
)
_TIMES: Final = ("key_expires", "member_budget_temp_budget_expiry")
# Whatever else LiteLLM calls a key, it does not work: "expired" shows by its time.
_WORKING: Final = frozenset({None, "active", "expired"})


class AnswerError(Exception):
    """An answer that tells nothing of a key.

    Args:
        status: The status that LiteLLM answered with.
    """

    def __init__(self, status: int) -> None:
        self.status = status

    def __str__(self) -> str:
        return f"LiteLLM answered with status {self.status} and nothing that can be used"


class NotAllowedError(AnswerError):
    """LiteLLM does not let the asker know: 403, or 401 where it is not about the key itself."""


def parse_object(status: int, body: bytes) -> Json | None:
    """Return what LiteLLM knows of something, or None if there is no such thing.

    A 404 counts only in LiteLLM's own words: a wrong base URL must not make every key unknown.

    Raises:
        AnswerError: If it says neither.
    """
    content = _parse(body)
    if status == 200 and content:
        return content
    if status in {401, 403}:
        raise NotAllowedError(status)
    if status == 404 and any(isinstance(content.get(name), dict) for name in ("error", "detail")):
        return None
    raise AnswerError(status)


def parse_own_refusal(status: int, body: bytes, key_hash: str) -> VirtualKey | None:
    """Return why LiteLLM refuses a key that asks about itself: as the key that it would be.

    Args:
        status: 401 or 404.
        body: With LiteLLM's error.
        key_hash: The key's.

    Returns:
        A key that is blocked, expired or belongs to somebody who is; None if it is not known.

    Raises:
        NotAllowedError: If the refusal has another reason.
    """
    error = _object(_parse(body).get("error"))
    message = str(error.get("message"))
    key = VirtualKey(key_hash)
    match error.get("type"):
        case "token_not_found_in_db":
            return None
        case "expired_key":
            if found := _EXPIRED.search(message):
                with suppress(ValueError):
                    expires = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
                    return replace(key, expires=expires)
            return replace(key, blocked=True)
    if "Key is blocked" in message:
        return replace(key, blocked=True)
    return _of_refused_owner(key, status, message)


def _of_refused_owner(key: VirtualKey, status: int, message: str) -> VirtualKey:
    if (team := _named("Team", message)) is not None:
        scope = Scope(team, blocked=status != 404, exists=status != 404)
        return replace(key, team=team, team_scope=scope)
    if (project := _named("Project", message)) is not None:
        return replace(key, project=Scope(project, blocked=True))
    if (user := _named("User", message)) is not None:
        return replace(key, user=user, user_scope=Scope(user, blocked=True))
    raise NotAllowedError(status)


def key_row(key_hash: str, answer: Json) -> dict[str, Any] | None:
    """Return the columns of a key and of its shared budget; None if it is deleted.

    Raises:
        AnswerError: If the answer has no key.
    """
    info = _object(answer.get("info"))
    if "models" not in info or "expires" not in info:
        raise AnswerError(200)
    if info.get("status") == "deleted":
        return None
    row = _columns("key", {**info, "token": key_hash})
    row |= _columns("key_budget", _object(info.get("litellm_budget_table")))
    if info.get("status") not in _WORKING:
        row["key_blocked"] = True
    usage = _object(info.get("budget_limits_usage"))
    row["window_spend"] = json.dumps(
        [
            {
                "type": "key",
                "duration": duration,
                "start": None,
                "spend": spent.get("current_spend"),
            }
            for duration, spent in usage.items()
            if isinstance(spent, dict)
        ]
    )
    return row


def team_row(answer: Json | None, user: str | None) -> dict[str, Any]:
    """Return the columns of a team, its aliases, and a user's membership in it.

    Raises:
        AnswerError: If the answer has no team.
    """
    if answer is None:
        return {"team_team_id": None}
    team = _object(answer.get("team_info"))
    if "team_id" not in team:
        raise AnswerError(200)
    row = _columns("team", team)
    row["team_models_aliases"] = _json_text(
        _object(team.get("litellm_model_table")).get("model_aliases")
    )
    row["default_budget_max_budget"] = _object(team.get("team_member_budget_table")).get(
        "max_budget"
    )
    for membership in map(_object, _list(answer.get("team_memberships"))):
        if user is not None and membership.get("user_id") == user:
            row |= _columns("member", membership)
            row |= _columns("member_budget", _object(membership.get("litellm_budget_table")))
    return row


def user_row(answer: Json | None) -> dict[str, Any]:
    """Return the columns of a user; none if LiteLLM has no row, which it does not mind."""
    user = _object((answer or _EMPTY).get("user_info"))
    return _columns("user", user) if user.get("user_id") else {}


def scope_row(alias: str, answer: Json | None) -> dict[str, Any]:
    """Return the columns of an organization or a project, and of its budget.

    Raises:
        AnswerError: If the answer has none.
    """
    if answer is None:
        return {}
    if f"{alias}_id" not in answer:
        raise AnswerError(200)
    budget = _object(answer.get("litellm_budget_table"))
    return _columns(alias, answer) | _columns(f"{alias}_budget", budget)


def group_entry(answer: Json) -> dict[str, Any]:
    """Return an access group as the database query does."""
    return {
        "id": answer.get("access_group_id"),
        "models": _list(answer.get("access_model_names")),
        "teams": _list(answer.get("assigned_team_ids")),
        "keys": _list(answer.get("assigned_key_ids")),
    }


def names_of(row: Json, column: str) -> tuple[str, ...]:
    """Return a column of names; whatever else it holds is none."""
    return tuple(name for name in _list(row.get(column)) if isinstance(name, str))


def _columns(alias: str, content: Json) -> dict[str, Any]:
    source = next(source for source in (KEY, *JOINS) if source.alias == alias)
    row = {f"{alias}_{name}": content.get(name) for name in source.columns}
    for name in _JSON & source.columns.keys():
        row[f"{alias}_{name}"] = _json_text(content.get(name))
    for name in _TIMES:
        if isinstance(text := row.get(name), str):
            row[name] = _time(text)
    return row


def _json_text(value: Any) -> str | None:
    """Return JSON as the database does; where LiteLLM keeps it as text it stays as it is."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise AnswerError(200) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _named(kind: str, message: str) -> str | None:
    """Return the id behind ``Kind=`` in an error message."""
    found = re.search(rf"\b{kind}=(\S+?)\.?(?:\s|$)", message)
    return found[1] if found else None


def _parse(body: bytes) -> Json:
    with suppress(ValueError, RecursionError):
        return _object(json.loads(body))
    return _EMPTY


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else _EMPTY


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
