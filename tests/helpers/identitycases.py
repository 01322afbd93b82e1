"""Cases of where a key is read, whose it is, and which paths it may call."""

from typing import Any, Final

from helpers.gatewayfiles import MASTER_KEY
from helpers.litellmrows import Rows, hash_of
from helpers.rulecases import (
    BAD_BODY,
    BLOCKED,
    CUSTOM_HEADER,
    EXPIRED,
    INACTIVE,
    MALFORMED,
    MINT,
    MISSING,
    NO_ROUTE,
    PROJECT_BLOCKED,
    TEAM_BLOCKED,
    TEAM_GONE,
    UNKNOWN,
    Build,
    Case,
    budget_key,
    header,
    hours,
    key,
    project_key,
    team_key,
    team_user_key,
    user_key,
)

_STRANGER: Final = "sk-that-nobody-has-ever-seen"
_INACTIVE: Final = {"metadata": {"scim_active": False}}


def _rotated(revoke_in_hours: float = 1, **columns: Any) -> Build:
    def build(rows: Rows) -> str:
        active = rows.key(**columns)
        old = f"{active}-before-rotation"
        rows.deprecated(old, active, revoke_at=hours(revoke_in_hours))
        return old

    return build


HEADERS: Final = [
    Case("1.1 Authorization: Bearer", key()),
    Case("1.1 Authorization: bearer", key(), headers=header("authorization", "bearer {}")),
    Case(
        "1.1 Authorization: Basic and the raw key",
        key(),
        headers=header("Authorization", "Basic {}"),
    ),
    Case("1.1 ours: a scheme in any case", key(), headers=header("authorization", "BEARER {}")),
    Case("1.1 no scheme", key(), MALFORMED, headers=header("authorization")),
    Case("1.1 another scheme", key(), MALFORMED, headers=header("authorization", "Digest {}")),
    Case(
        "1.1 ours: no AWS4-HMAC-SHA256",
        key(),
        MALFORMED,
        headers=header("authorization", "AWS4-HMAC-SHA256 Credential=Bearer {}/20270131"),
    ),
    Case("1.1 x-litellm-api-key raw", key(), headers=header("x-litellm-api-key")),
    Case("1.1 x-litellm-api-key Bearer", key(), headers=header("x-litellm-api-key", "Bearer {}")),
    Case("1.1 x-litellm-api-key Basic", key(), headers=header("X-LiteLLM-API-Key", "Basic {}")),
    Case(
        "1.1 Bearer and no key", key(), MALFORMED, headers=lambda _: [("authorization", "Bearer ")]
    ),
    Case("1.1 API-Key", key(), headers=header("API-Key")),
    Case("1.1 x-api-key", key(), headers=header("x-api-key")),
    Case("1.1 x-goog-api-key", key(), headers=header("x-goog-api-key")),
    Case("1.1 Ocp-Apim-Subscription-Key", key(), headers=header("Ocp-Apim-Subscription-Key")),
    Case(
        "1.1 x-litellm-api-key beats Authorization",
        key(),
        headers=lambda raw: [("authorization", f"Bearer {_STRANGER}"), ("x-litellm-api-key", raw)],
    ),
    Case(
        "1.1 x-litellm-api-key beats a good Authorization",
        key(),
        UNKNOWN,
        headers=lambda raw: [("authorization", f"Bearer {raw}"), ("x-litellm-api-key", _STRANGER)],
    ),
    Case(
        "1.1 Authorization beats API-Key",
        key(),
        UNKNOWN,
        headers=lambda raw: [("api-key", raw), ("authorization", f"Bearer {_STRANGER}")],
    ),
    Case(
        "1.1 API-Key beats x-api-key",
        key(),
        UNKNOWN,
        headers=lambda raw: [("x-api-key", raw), ("api-key", _STRANGER)],
    ),
    Case(
        "1.1 x-api-key beats x-goog-api-key",
        key(),
        UNKNOWN,
        headers=lambda raw: [("x-goog-api-key", raw), ("x-api-key", _STRANGER)],
    ),
    Case(
        "1.1 x-goog-api-key beats Ocp-Apim-Subscription-Key",
        key(),
        UNKNOWN,
        headers=lambda raw: [
            ("ocp-apim-subscription-key", raw),
            ("x-goog-api-key", _STRANGER),
        ],
    ),
    Case(
        "1.1 no fall-through from a malformed header",
        key(),
        MALFORMED,
        headers=lambda raw: [("authorization", raw), ("x-api-key", raw)],
    ),
    Case(
        "1.1 an empty Authorization is absent",
        key(),
        headers=lambda raw: [("authorization", ""), ("x-api-key", raw)],
    ),
    Case("1.1 no key", key(), MISSING, headers=lambda _raw: []),
    Case(
        "1.1 nothing but an empty Authorization",
        key(),
        MISSING,
        headers=lambda _: [("authorization", "")],
    ),
    Case(
        "1.1 no key in the query",
        key(),
        MISSING,
        headers=lambda _: [],
        path=f"{MINT}?key={_STRANGER}",
    ),
    Case(
        "1.1 raw headers take no scheme", key(), MALFORMED, headers=header("api-key", "Bearer {}")
    ),
    Case(
        "1.1 a header of one's own",
        key(),
        headers=header("X-Company-Key", "Bearer {}"),
        gateway="other",
    ),
    Case("1.1 it replaces all others", key(), MISSING, gateway="other"),
    Case(
        "1.1 it replaces x-litellm-api-key",
        key(),
        MISSING,
        headers=header("x-litellm-api-key"),
        gateway="other",
    ),
    Case("1.1 it needs Bearer", key(), MALFORMED, headers=header(CUSTOM_HEADER), gateway="other"),
]

IDENTITY: Final = [
    Case("1.2 the master key", lambda _rows: MASTER_KEY),
    Case("1.2 the master key with a letter more", lambda _rows: f"{MASTER_KEY}x", UNKNOWN),
    Case("1.2 an unknown key", lambda _rows: _STRANGER, UNKNOWN),
    Case("1.2 a key without sk- that nobody knows", lambda _rows: "pk-1234567890", UNKNOWN),
    Case("1.2 the hash is no key", lambda rows: hash_of(rows.key()), UNKNOWN),
    Case("1.2 a key in other letter case", lambda rows: rows.key().upper(), UNKNOWN),
    Case("1.2 rotated, in the grace period", _rotated()),
    Case("1.2 rotated, after the grace period", _rotated(-0.01), UNKNOWN),
    Case("1.2 rotated, the active key is blocked", _rotated(blocked=True), BLOCKED),
    Case("1.2 rotated, the active key expired", _rotated(expires=hours(-1)), EXPIRED),
    Case("1.3 blocked", key(blocked=True), BLOCKED),
    Case("1.3 blocked is false", key(blocked=False)),
    Case("1.3 blocked is NULL", key(blocked=None)),
    Case("1.3 expired", key(expires=hours(-1)), EXPIRED),
    Case("1.3 expired a moment ago", key(expires=hours(-0.0003)), EXPIRED),
    Case("1.3 expires in an hour", key(expires=hours(1))),
    Case("1.3 expires is NULL", key(expires=None)),
    Case("1.3 blocked comes before expired", key(blocked=True, expires=hours(-1)), BLOCKED),
    Case(
        "1.3 ours: expired comes before the model",
        key(expires=hours(-1), models=["chat"]),
        EXPIRED,
    ),
    Case(
        "1.3 expired comes before the budget",
        key(expires=hours(-1), spend=2.0, max_budget=1.0),
        EXPIRED,
    ),
    Case(
        "1.3 ours: a bad key comes before a bad body",
        lambda _rows: _STRANGER,
        UNKNOWN,
        body={"session": 5},
    ),
    Case("1.3 a bad body", key(), BAD_BODY, body={"session": 5}),
    Case(
        "1.3 ours: api_base in the body is one member too many",
        key(),
        BAD_BODY,
        body={"model": "voice", "api_base": "https://evil.example"},
    ),
    Case("1.3 user off by SCIM", user_key(_INACTIVE), INACTIVE),
    Case("1.3 user on by SCIM", user_key({"metadata": {"scim_active": True}})),
    Case("1.3 user off by SCIM, key of a team", team_user_key({}, _INACTIVE), INACTIVE),
    Case("1.3 user off comes before expired", user_key(_INACTIVE, expires=hours(-1)), INACTIVE),
    Case("1.3 blocked comes before user off", user_key(_INACTIVE, blocked=True), BLOCKED),
    Case("1.3 user whom nobody knows", key(user_id="u-gone")),
    Case("1.3 team that is gone", key(team_id="t-gone"), TEAM_GONE),
    Case("1.3 team blocked", team_key({"blocked": True}), TEAM_BLOCKED),
    Case("1.3 team not blocked", team_key({"blocked": False})),
    Case("1.3 blocked comes before the team", team_key({"blocked": True}, blocked=True), BLOCKED),
    Case("1.3 project blocked", project_key(blocked=True), PROJECT_BLOCKED),
    Case("1.3 project not blocked", project_key(blocked=False)),
    Case(
        "1.3 the team comes before the project",
        lambda rows: rows.key(
            team_id=rows.team(blocked=True), project_id=rows.project(blocked=True)
        ),
        TEAM_BLOCKED,
    ),
    Case(
        "1.3 ours: a blocked team comes before the key's models",
        team_key({"blocked": True}, models=["chat"]),
        TEAM_BLOCKED,
    ),
    Case(
        "1.3 admins' keys can be blocked",
        user_key({"user_role": "proxy_admin"}, blocked=True),
        BLOCKED,
    ),
    Case("1.5 budget row without limits", budget_key({})),
]

ROUTES: Final = [
    Case("1.7 no list", key(allowed_routes=[])),
    Case("1.7 llm_api_routes", key(allowed_routes=["llm_api_routes"])),
    Case("1.7 openai_routes", key(allowed_routes=["openai_routes"])),
    Case("1.7 info_routes", key(allowed_routes=["info_routes"]), NO_ROUTE),
    Case("1.7 management_routes", key(allowed_routes=["management_routes"]), NO_ROUTE),
    Case("1.7 another path", key(allowed_routes=["/chat/completions"]), NO_ROUTE),
    Case("1.7 the path", key(allowed_routes=[MINT])),
    Case("1.7 above the path", key(allowed_routes=["/v1/realtime"])),
    Case("1.7 part of a name", key(allowed_routes=["/v1/real"]), NO_ROUTE),
    Case("1.7 part of a name and a star", key(allowed_routes=["/v1/real*"])),
    Case("1.7 one of two", key(allowed_routes=["/chat/completions", "/v1/*"])),
    Case(
        "1.7 the same endpoint under another path",
        key(allowed_routes=[MINT]),
        NO_ROUTE,
        path="/realtime/client_secrets",
    ),
    Case(
        "1.7 the short path",
        key(allowed_routes=["/realtime/client_secrets"]),
        path="/realtime/client_secrets",
    ),
    Case("1.7 comes before the team", team_key({"blocked": True}, allowed_routes=["/x"]), NO_ROUTE),
    Case("1.7 comes after expired", key(expires=hours(-1), allowed_routes=["/x"]), EXPIRED),
]

IDENTITY_CASES: Final = [*HEADERS, *IDENTITY, *ROUTES]
