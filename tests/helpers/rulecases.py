"""What the cases of LiteLLM's rules are made of: rows, a request, and what must come of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from helpers.http11 import Header
from helpers.litellmrows import Rows, hash_of
from helpers.postgres import Database

Build = Callable[[Rows], str]
Refusal = tuple[int, str, str]
Change = Callable[[Database, str], None]

MINT: Final = "/v1/realtime/client_secrets"
CUSTOM_HEADER: Final = "x-company-key"
# Upstream models behind the group `voice`.
VOICE: Final = ("rt-a", "rt-b")

MALFORMED: Final = (401, "auth_error", "key_malformed")
MISSING: Final = (401, "auth_error", "key_missing")
UNKNOWN: Final = (401, "token_not_found_in_db", "key_unknown")
BLOCKED: Final = (401, "auth_error", "key_blocked")
EXPIRED: Final = (401, "expired_key", "key_expired")
INACTIVE: Final = (401, "auth_error", "user_inactive")
TEAM_GONE: Final = (404, "auth_error", "team_unknown")
TEAM_BLOCKED: Final = (401, "auth_error", "team_blocked")
PROJECT_BLOCKED: Final = (401, "auth_error", "project_blocked")
NO_ROUTE: Final = (403, "auth_error", "route_denied")
NO_MODEL: Final = (400, "invalid_request_error", "model_unknown")
BUDGET: Final = (422, "budget_exceeded", "budget_exceeded")
BUDGET_429: Final = (429, "budget_exceeded", "budget_exceeded")
BAD_BODY: Final = (400, "invalid_request_error", "invalid_body")
NO_NAME: Final = (400, "invalid_request_error", "model_required")
TOO_OFTEN: Final = (429, "throttling_error", "rate_limited")
TOO_MANY: Final = (429, "throttling_error", "too_many_at_once")
UNREACHABLE: Final = (503, "service_unavailable", "upstream_unreachable")
TOKEN: Final = (401, "invalid_request_error", "token_invalid")


def denied(by: str = "key") -> Refusal:
    """Return what a list of models answers with."""
    return (403, f"{by}_model_access_denied", "model_denied")


def bearer_of(raw: str) -> Iterable[Header]:
    """Return the usual header."""
    return [("authorization", f"Bearer {raw}")]


def header(name: str, form: str = "{}") -> Callable[[str], Iterable[Header]]:
    """Return what sends the key in a header."""
    return lambda raw: [(name, form.format(raw))]


@dataclass(frozen=True, slots=True)
class Case:
    """One rule, one key, one request for a token.

    Attributes:
        rule: What is shown, with the number of the rule.
        build: Inserts the rows and returns the key.
        expected: Status, type and code of the refusal; None if the key is admitted.
        asks: The model of the request; None for a request without.
        serves: Upstream models one of which must serve a key that is admitted.
        headers: What the request shows of the key.
        path: Path and query of the request.
        body: Of the request, instead of one that asks for the model.
        gateway: With the usual settings; with a header and a status of its own and users' budgets
            for keys of teams (``other``); or with a budget for all, which is used up (``strict``).
    """

    rule: str
    build: Build
    expected: Refusal | None = None
    asks: str | None = "voice"
    serves: tuple[str, ...] = VOICE
    headers: Callable[[str], Iterable[Header]] = bearer_of
    path: str = MINT
    body: Mapping[str, Any] | None = None
    gateway: Literal["usual", "other", "strict"] = "usual"


@dataclass(frozen=True, slots=True)
class TokenCase:
    """One rule about a token whose key changes between the two requests.

    Attributes:
        rule: What is shown.
        build: As in `Case`.
        change: What an administrator does after the token was minted.
        expected: Of the call.
        asks: The model of the token.
    """

    rule: str
    build: Build
    change: Change = field(default=lambda _database, _raw: None)
    expected: Refusal | None = TOKEN
    asks: str = "voice"


def key(**columns: Any) -> Build:
    """Return what inserts a key that belongs to nobody."""
    return lambda rows: rows.key(**columns)


def team_key(team: Mapping[str, Any] | None = None, **columns: Any) -> Build:
    """Return what inserts a key of a team."""
    return lambda rows: rows.key(team_id=rows.team(**(team or {})), **columns)


def user_key(user: Mapping[str, Any], **columns: Any) -> Build:
    """Return what inserts a personal key of a user."""
    return lambda rows: rows.key(user_id=rows.user(**user), **columns)


def team_user_key(team: Mapping[str, Any], user: Mapping[str, Any], **columns: Any) -> Build:
    """Return what inserts a key of a team that a user has."""
    return lambda rows: rows.key(team_id=rows.team(**team), user_id=rows.user(**user), **columns)


def member_key(
    budget: Mapping[str, Any] | None = None, spend: float = 0.0, **columns: Any
) -> Build:
    """Return what inserts a key of a member of a team, whose membership has a budget row."""

    def build(rows: Rows) -> str:
        team, user = rows.team(), rows.user()
        budget_id = None if budget is None else rows.budget(**budget)
        rows.member(user, team, spend=spend, budget_id=budget_id)
        return rows.key(team_id=team, user_id=user, **columns)

    return build


def budget_key(budget: Mapping[str, Any], **columns: Any) -> Build:
    """Return what inserts a key with a row of the budget table."""
    return lambda rows: rows.key(budget_id=rows.budget(**budget), **columns)


def organization_key(budget: Mapping[str, Any], spend: float, *, by_team: bool) -> Build:
    """Return what inserts a key of an organization, its own or that of its team."""

    def build(rows: Rows) -> str:
        owner = rows.organization(budget_id=rows.budget(**budget), spend=spend)
        if by_team:
            return rows.key(team_id=rows.team(organization_id=owner))
        return rows.key(organization_id=owner)

    return build


def project_key(budget: Mapping[str, Any] | None = None, **project: Any) -> Build:
    """Return what inserts a key of a project."""

    def build(rows: Rows) -> str:
        columns = dict(project)
        if budget is not None:
            columns["budget_id"] = rows.budget(**budget)
        return rows.key(project_id=rows.project(**columns))

    return build


def hours(number: float) -> datetime:
    """Return the time in so many hours."""
    return datetime.now(UTC) + timedelta(hours=number)


def update_key(**columns: Any) -> Change:
    """Return what changes the key's own row."""
    return lambda database, raw: database.rows.update(
        "LiteLLM_VerificationToken", {"token": hash_of(raw)}, **columns
    )


def update_owner(table: str, owner: str, **columns: Any) -> Change:
    """Return what changes the row of a team, user, organization or project that a key names."""
    found = f'SELECT {owner} FROM "LiteLLM_VerificationToken" WHERE token = %s'  # noqa: S608

    def change(database: Database, raw: str) -> None:
        ((name,),) = database.execute(found, hash_of(raw))
        database.rows.update(table, {owner: name}, **columns)

    return change
