"""A LiteLLM proxy that is asked for keys by HTTP, for those who do not share its database."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from extauthz.apibase import parse_base_url
from extauthz.egress import Egress, UpstreamAnswer
from extauthz.errors import KeySourceUnavailableError
from extauthz.keys.cache import KeyNotAskableError
from extauthz.keys.litellmanswers import (
    AnswerError,
    Json,
    NotAllowedError,
    group_entry,
    key_row,
    names_of,
    parse_object,
    parse_own_refusal,
    scope_row,
    team_row,
    user_row,
)
from extauthz.keys.model import KeyQuery, VirtualKey
from extauthz.keys.records import parse_key
from extauthz.keys.rowvalues import BadRowError
from ringback.errors import ApiError
from ringback.logs import get_logger
from ringback.secrets import Secret
from ringback.settings.keysources import LiteLLMSettings

# What a team or a user has of keys and members comes along, wanted or not.
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
# A key that names more access groups than these is an accident.
_MAX_GROUPS: Final = 32
# The same trouble is told again after this time.
_REPEAT_S: Final = 5.0


class LiteLLMSource:
    """Finds keys by asking a LiteLLM proxy.

    With an admin key it asks by hash, so that no key leaves; a key in its time of grace after a
    rotation is not found so. With the caller's own key it can ask only while the caller is there.

    Args:
        settings: With the URL.
        egress: Envoy has the cluster of that URL.
        now: The current time, with a time zone.
    """

    def __init__(
        self,
        settings: LiteLLMSettings,
        egress: Egress,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._origin, self._path = parse_base_url(settings.url or "")
        self._admin_key = settings.admin_key
        self._timeout_s = settings.timeout_s
        self._egress = egress
        self._now = now
        self._told_at: dict[str, float] = {}
        self._log = get_logger()

    async def start(self) -> None:
        """Do nothing: connections are Envoy's."""

    async def stop(self) -> None:
        """Do nothing."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key, valid or not, or None if LiteLLM does not know it.

        Raises:
            KeyNotAskableError: If the key itself is needed and not there, or may not ask: 503.
            KeySourceUnavailableError: If LiteLLM does not answer as it should: 503.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._find(query)
        except NotAllowedError as error:
            if self._admin_key is None:
                self._tell("litellm_own_key_refused", status=error.status)
                raise KeyNotAskableError from error
            self._tell("litellm_admin_key_refused", status=error.status)
            raise KeySourceUnavailableError from error
        except BadRowError as error:
            self._tell("litellm_key_unusable", column=error.column, expected=error.expected)
            raise KeySourceUnavailableError from error
        except AnswerError as error:
            self._tell("litellm_answer_unusable", status=error.status)
            raise KeySourceUnavailableError from error
        except (TimeoutError, ApiError) as error:
            if isinstance(error, KeySourceUnavailableError):
                raise
            raise KeySourceUnavailableError from error

    async def _find(self, query: KeyQuery) -> VirtualKey | None:
        asker = self._admin_key or query.secret
        if asker is None:
            raise KeyNotAskableError
        parameters = {"key": query.hash} if self._admin_key else {}
        answer = await self._ask(asker, "/key/info", **parameters)
        if self._admin_key is None and answer.status in {401, 404}:
            return parse_own_refusal(answer.status, answer.body, query.hash)
        content = parse_object(answer.status, answer.body)
        row = None if content is None else key_row(query.hash, content)
        if row is None:
            return None
        return parse_key(row | await self._owners(asker, row), self._now())

    async def _owners(self, asker: Secret, key: Json) -> dict[str, Any]:
        """Return the columns of all that a key belongs to."""
        team, user, project, groups = await asyncio.gather(
            self._team(asker, key),
            self._one(asker, "/user/info", user_id=key["key_user_id"]),
            self._one(asker, "/project/info", project_id=key["key_project_id"]),
            self._groups(asker, names_of(key, "key_access_group_ids")),
        )
        return {
            **team,
            **user_row(user),
            **scope_row("project", project),
            "access_groups": json.dumps([*groups, *team.get("access_groups", ())]),
        }

    async def _team(self, asker: Secret, key: Json) -> dict[str, Any]:
        team_id = key["key_team_id"]
        # Of the keys of the team one is enough; none cannot be asked for.
        content = await self._one(asker, "/team/info", team_id=team_id, key_limit="1")
        row = team_row(content, key["key_user_id"]) if team_id else {}
        organization, groups = await asyncio.gather(
            self._one(
                asker,
                "/organization/info",
                organization_id=key["key_organization_id"] or row.get("team_organization_id"),
            ),
            self._groups(asker, names_of(row, "team_access_group_ids")),
        )
        return {**row, **scope_row("organization", organization), "access_groups": groups}

    async def _groups(self, asker: Secret, names: tuple[str, ...]) -> list[Json]:
        found = await asyncio.gather(*(self._group(asker, name) for name in names[:_MAX_GROUPS]))
        return [group_entry(content) for content in found if content is not None]

    async def _group(self, asker: Secret, name: str) -> Json | None:
        try:
            return await self._one(asker, f"/v1/access_group/{quote(name, '')}")
        except NotAllowedError as error:
            # It only adds models: without it the key may do less.
            self._tell("litellm_access_group_refused", status=error.status)
            return None

    async def _one(self, asker: Secret, path: str, **parameters: str | None) -> Json | None:
        """Ask for one thing; None if its id is, or if LiteLLM does not know it."""
        if not all(parameters.values()):
            return None
        answer = await self._ask(asker, path, **parameters)
        return parse_object(answer.status, answer.body)

    def _ask(
        self, asker: Secret, path: str, **parameters: str | None
    ) -> Coroutine[Any, Any, UpstreamAnswer]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        return self._egress.send(
            "GET",
            self._origin,
            f"{self._path}{path}{query}",
            {
                "accept": Secret("application/json"),
                "authorization": Secret(f"Bearer {asker.reveal()}"),
            },
            timeout_s=self._timeout_s,
            max_bytes=MAX_ANSWER_BYTES,
        )

    def _tell(self, event: str, **facts: object) -> None:
        """Log what the operator should look at, now and then."""
        now = time.monotonic()
        if now - self._told_at.get(event, -_REPEAT_S) >= _REPEAT_S:
            self._told_at[event] = now
            self._log.error(event, **facts)
