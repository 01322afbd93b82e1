"""Stands in for a LiteLLM proxy that is asked about keys; answers in the shapes of 1.106.2."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from extauthz.keys import hash_key
from ringback.secrets import Secret

ADMIN_KEY: Final = "sk-litellm-admin-0001"
_NO_KEY: Final[Mapping[str, Any]] = {
    **dict.fromkeys(
        (
            *("soft_budget_cooldown", "expires", "router_settings", "user_id", "team_id"),
            *("agent_id", "project_id", "max_parallel_requests", "tpm_limit", "rpm_limit"),
            *("tpd_limit", "max_budget", "budget_duration", "budget_reset_at", "key_type"),
            *("blocked", "budget_id", "organization_id", "object_permission_id", "created_by"),
            *("budget_limits", "litellm_budget_table", "litellm_organization_table"),
            *("litellm_project_table", "jwt_key_mappings", "object_permission", "last_active"),
            *("updated_by", "settings_updated_at", "budget_fallbacks", "rotation_interval"),
            *("last_rotation_at", "key_rotation_at"),
        )
    ),
    "spend": 0.0,
    "total_spend": 0.0,
    **{name: {} for name in ("aliases", "config", "permissions", "metadata", "model_spend")},
    **{name: [] for name in ("models", "allowed_cache_controls", "allowed_routes", "policies")},
    "access_group_ids": [],
    "model_max_budget": {},
    "created_at": "2026-11-22T07:12:22.275000Z",
    "updated_at": "2026-11-22T07:12:22.275000Z",
    "rotation_count": 0,
    "auto_rotate": False,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came.

    Attributes:
        credential: Behind ``Bearer``.
    """

    path: str
    query: Mapping[str, str]
    credential: str


@dataclass
class LiteLLMStandIn:
    """A proxy with a table of each kind, on a port that the kernel chooses.

    Attributes:
        teams: ``team_info`` by id; members of a team are under ``members``.
        forbidden: Paths that nobody may ask for.
        answer: Given to every request in place of what it asks for.
        delay_s: Time before any answer.
        asked: All requests so far.
        port: Kept over a restart.
    """

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    teams: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    organizations: dict[str, dict[str, Any]] = field(default_factory=dict)
    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    answer: web.Response | None = None
    delay_s: float = 0
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    def add(self, raw: str, **fields: Any) -> str:
        """Make a key, and return its hash."""
        key_hash = hash_key(Secret(raw))
        masked = f"sk-...{raw[-4:]}"
        self.keys[key_hash] = {**_NO_KEY, "key_name": masked, "key_alias": None, **fields}
        return key_hash

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def lookups(self) -> int:
        """How often it was asked for a key."""
        return sum(asked.path == "/key/info" for asked in self.asked)

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._runner is not None

    async def start(self) -> None:
        """Listen, from the second time on at the same port."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close all connections and listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _serve(self, request: web.Request) -> web.Response:
        credential = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append(Asked(request.path, dict(request.query), credential))
        await asyncio.sleep(self.delay_s)
        if self.answer is not None:
            copy = web.Response(body=self.answer.body, status=self.answer.status)
            copy.content_type = self.answer.content_type
            return copy
        if request.path in self.forbidden:
            return error(403, "auth_error", "Only proxy admins may ask", None)
        refusal = None if credential == ADMIN_KEY else self._refuse(hash_key(Secret(credential)))
        return refusal or self._answer(request, hash_key(Secret(credential)))

    def _answer(self, request: web.Request, own: str) -> web.Response:
        query, path = request.query, request.path
        if path.startswith(group := "/v1/access_group/"):
            return self._scope(self.groups, "access_group_id", path.removeprefix(group))
        answers: dict[str, Callable[[], web.Response]] = {
            "/key/info": lambda: self._key(query.get("key", own)),
            "/team/info": lambda: self._team(query["team_id"]),
            "/user/info": lambda: self._user(query["user_id"]),
            "/organization/info": lambda: self._organization(query["organization_id"]),
            "/project/info": lambda: self._scope(self.projects, "project_id", query["project_id"]),
        }
        if path not in answers:
            return web.json_response({"detail": "Not Found"}, status=404)
        return answers[path]()

    @staticmethod
    def _scope(rows: Mapping[str, Mapping[str, Any]], place: str, name: str) -> web.Response:
        return _found(name in rows and {place: name, **rows[name]}, f"{place} not found")

    def _user(self, name: str) -> web.Response:
        row = self.users.get(name)
        content = {
            "user_id": name,
            "user_info": {"user_id": name, **(row or {})},
            "keys": [],
            "teams": [],
        }
        return _found(row is not None and content, f"User {name} not found")

    def _organization(self, name: str) -> web.Response:
        row = self.organizations.get(name)
        if row is None:
            return web.json_response({"detail": {"error": "Organization not found"}}, status=404)
        return web.json_response({"organization_id": name, **row})

    def _key(self, key_hash: str) -> web.Response:
        row = self.keys.get(key_hash)
        if row is None:
            return error(404, "not_found_error", "Key not found in database", "key")
        status = "revoked" if row["blocked"] else "expired" if _is_over(row) else "active"
        if key_hash in self.deleted:
            status = "deleted"
        return web.json_response({"key": key_hash, "info": {"status": status, **row}})

    def _team(self, team: str) -> web.Response:
        row = {**self.teams.get(team, {})}
        members = row.pop("members", {})
        memberships = [{"user_id": user, "team_id": team, **row} for user, row in members.items()]
        content = {
            "team_id": team,
            "team_info": {"team_id": team, "litellm_model_table": None, **row},
            "keys": [],
            "team_memberships": memberships,
        }
        return _found(team in self.teams and content, f"Team not found, passed team id: {team}.")

    def _refuse(self, key_hash: str) -> web.Response | None:
        """Return why a key may not ask, in the words of LiteLLM."""
        row = self.keys.get(key_hash)
        if row is None or key_hash in self.deleted:
            return error(
                401,
                "token_not_found_in_db",
                "Authentication Error, Invalid proxy server token passed. Received API Key = "
                f"sk-...0000, Key Hash (Token) ={key_hash}. Unable to find token in cache or "
                "`LiteLLM_VerificationTokenTable`",
                "key",
            )
        team = row["team_id"]
        if row["blocked"]:
            text = "Key is blocked. Update via `/key/unblock` if you're an admin."
        elif _is_over(row):
            time = datetime.fromisoformat(row["expires"])
            text = f" - Expired Key. Key Expiry time {time} and current time {datetime.now(UTC)}"
            return error(401, "expired_key", f"Authentication Error{text}", "sk-...7d43")
        elif team is not None and team not in self.teams:
            text = f"Team doesn't exist in db. Team={team}. Create team via `/team/new` call."
            return error(404, "auth_error", f"{{'error': \"{text}\"}}", "None")
        elif team is not None and self.teams[team].get("blocked"):
            text = f"Team={team} is blocked. Update via `/team/unblock` if you're an admin."
        elif self.users.get(row["user_id"], {}).get("metadata", {}).get("scim_active") is False:
            text = (
                f"User={row['user_id']} has been deactivated via SCIM. Keys owned by this user "
                "cannot be used."
            )
        elif row["allowed_routes"]:
            detail = f"Virtual key is not allowed to call this route. {row['allowed_routes']}"
            return web.json_response({"detail": detail}, status=403)
        else:
            return None
        return error(401, "auth_error", f"Authentication Error, {text}", "None")


def error(status: int, kind: str, message: str, param: str | None) -> web.Response:
    """Return an error as LiteLLM writes it."""
    content = {"message": message, "type": kind, "param": param, "code": str(status)}
    return web.json_response({"error": content}, status=status)


def _found(content: object, otherwise: str) -> web.Response:
    if content:
        return web.json_response(content)
    return error(404, "internal_server_error", otherwise, None)


def _is_over(row: Mapping[str, Any]) -> bool:
    return row["expires"] is not None and datetime.fromisoformat(row["expires"]) < datetime.now(UTC)
