import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from extauthz.egress import Egress
from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import AccessGroup, Budget, BudgetWindow, KeyQuery, Limits, Scope, hash_key
from extauthz.keys.cache import KeyNotAskableError
from extauthz.keys.litellmapi import LiteLLMSource
from extauthz.keys.model import VirtualKey
from helpers.litellmstandin import ADMIN_KEY, Asked, LiteLLMStandIn, error
from ringback.secrets import Secret
from ringback.settings.keysources import LiteLLMSettings

RAW = "sk-web-0001"
PAST = "2020-01-31T00:00:00+00:00"
BUDGET_TABLE = {"max_budget": 9.0, "rpm_limit": 7, "allowed_models": None}


@dataclass
class House:
    """A source of each kind before one proxy."""

    litellm: LiteLLMStandIn
    egress: Egress

    def source(self, **settings: Any) -> LiteLLMSource:
        """Return a source that asks with the admin key, if nothing else is said."""
        how = {"admin_key": ADMIN_KEY} | settings
        return LiteLLMSource(LiteLLMSettings(url=self.litellm.url, **how), self.egress)

    def asking_itself(self) -> LiteLLMSource:
        """Return a source that asks with the caller's own key."""
        return self.source(admin_key=None, own_key=True)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Run a proxy; the client reaches it directly."""
    async with LiteLLMStandIn() as litellm:
        egress = Egress.through(litellm.url)
        yield House(litellm, egress)
        await egress.close()


def query(raw: str = RAW) -> KeyQuery:
    """Return what is asked when a caller shows a key."""
    return KeyQuery(hash_key(Secret(raw)), Secret(raw))


async def find(house: House, **fields: Any) -> VirtualKey:
    """Return the key with these fields, asked for by its hash."""
    house.litellm.add(RAW, **fields)
    key = await house.source().find(query())
    assert key is not None
    return key


async def test_a_key_is_asked_for_by_its_hash(house: House) -> None:
    """With an admin key no caller's key leaves, and a token's key is found, too."""
    key_hash = house.litellm.add(RAW)
    found = await house.source().find(KeyQuery(key_hash))
    assert found == VirtualKey(key_hash, masked="sk-...0001")
    assert house.litellm.asked == [Asked("/key/info", {"key": key_hash}, ADMIN_KEY)]


async def test_a_base_url_may_have_a_path(house: House) -> None:
    """What stands behind the host stays in front of LiteLLM's own paths."""
    source = LiteLLMSource(
        LiteLLMSettings(url=f"{house.litellm.url}/llm/", admin_key=Secret(ADMIN_KEY)), house.egress
    )
    with pytest.raises(KeySourceUnavailableError):
        await source.find(query())
    assert house.litellm.asked[0].path == "/llm/key/info"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # Realistic
        pytest.param(
            {"key_alias": "web", "models": ["voice", "gpt-*"], "aliases": {"v": "voice"}},
            {"alias": "web", "models": ("voice", "gpt-*"), "aliases": {"v": "voice"}},
            id="models",
        ),
        pytest.param({"expires": PAST}, {"expires": datetime(2020, 1, 31, tzinfo=UTC)}, id="over"),
        pytest.param(
            {"expires": "2999-01-31T00:00:00.275000Z"},
            {"expires": datetime(2999, 1, 31, 0, 0, 0, 275000, UTC)},
            id="expires",
        ),
        pytest.param({"blocked": True}, {"blocked": True}, id="blocked"),
        pytest.param({"blocked": False}, {"blocked": False}, id="unblocked"),
        pytest.param(
            {"spend": 2.0, "max_budget": 3.5}, {"budget": Budget(2.0, 3.5)}, id="own-budget"
        ),
        pytest.param(
            {"spend": 2.0, "litellm_budget_table": BUDGET_TABLE},
            {"budget": Budget(2.0, 9.0), "limits": Limits(rpm=7)},
            id="shared-budget",
        ),
        pytest.param(
            {"max_budget": 0.0, "rpm_limit": 0, "litellm_budget_table": BUDGET_TABLE},
            {"budget": Budget(0.0, 0.0), "limits": Limits(rpm=0)},
            id="zero-is-no-absence",
        ),
        pytest.param(
            {
                "budget_limits": [{"budget_duration": "1h", "max_budget": 5.0}],
                "budget_limits_usage": {"1h": {"current_spend": 4.5}},
            },
            {"windows": (BudgetWindow("1h", Budget(4.5, 5.0)),)},
            id="windows",
        ),
        pytest.param(
            {
                "metadata": {
                    "model_rpm_limit": {"voice": 3},
                    "ringback_sdp_policy": "relay",
                    "other": {"x": 1},
                },
                "max_parallel_requests": 2,
            },
            {"limits": Limits(parallel=2, model_rpm={"voice": 3}), "sdp_policy": "relay"},
            id="metadata",
        ),
        pytest.param(
            {"allowed_routes": ["llm_api_routes"]},
            {"allowed_routes": ("llm_api_routes",)},
            id="routes",
        ),
        # Synthetic
        pytest.param({"status": "paused"}, {"blocked": True}, id="unknown-status"),
        pytest.param({"metadata": "{}"}, {"limits": Limits()}, id="json-as-text"),
    ],
)
async def test_a_key_means_what_its_row_says(
    house: House, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Every field of ``/key/info`` that has a rule arrives as the database would tell it."""
    key = await find(house, **fields)
    assert {name: getattr(key, name) for name in expected} == expected


async def test_a_key_belongs_to_a_team(house: House) -> None:
    """The team, its aliases, the membership and the organization come with the key."""
    house.litellm.teams["t"] = {
        "models": ["voice"],
        "blocked": True,
        "spend": 4.0,
        "max_budget": 5.0,
        "rpm_limit": 6,
        "metadata": {"model_rpm_limit": {"voice": 2}},
        "organization_id": "o",
        "litellm_model_table": {"model_aliases": {"team-rt": "voice"}, "created_by": "a"},
        "members": {
            "someone": {"spend": 99.0, "litellm_budget_table": {"max_budget": 1.0}},
            "ada": {
                "spend": 1.0,
                "budget_id": "b",
                "litellm_budget_table": {"max_budget": 2.0, "allowed_models": ["voice"]},
            },
        },
    }
    house.litellm.users["ada"] = {"models": ["x"], "metadata": {"scim_active": False}}
    house.litellm.organizations["o"] = {"spend": 7.0, "litellm_budget_table": {"max_budget": 8.0}}
    key = await find(house, team_id="t", user_id="ada")
    assert (key.team, key.user, key.team_aliases) == ("t", "ada", {"team-rt": "voice"})
    assert key.team_scope == Scope(
        "t", ("voice",), Budget(4.0, 5.0), Limits(6, model_rpm={"voice": 2}), blocked=True
    )
    assert key.member == Scope("ada:t", ("voice",), Budget(1.0, 2.0))
    assert key.user_scope == Scope("ada", ("x",), blocked=True)
    assert key.organization == Scope("o", budget=Budget(7.0, 8.0))
    asked = {asked.path: asked.query for asked in house.litellm.asked}
    assert asked["/team/info"] == {"team_id": "t", "key_limit": "1"}


async def test_a_key_belongs_to_a_project_and_to_access_groups(house: House) -> None:
    """A project, and the access groups of key and team, come with the key."""
    house.litellm.projects["p"] = {"blocked": True, "models": ["voice"], "litellm_budget_table": {}}
    house.litellm.groups |= {
        "g/1": {"access_model_names": ["voice"], "assigned_team_ids": ["t"]},
        "g2": {"access_model_names": ["more"], "assigned_key_ids": []},
    }
    house.litellm.teams["t"] = {"access_group_ids": ["g2"]}
    groups = ["g/1", "unknown"]
    key = await find(house, project_id="p", team_id="t", access_group_ids=groups)
    assert key.project == Scope("p", ("voice",), blocked=True)
    assert key.access_groups == (
        AccessGroup("g/1", ("voice",), teams=("t",), of_key=True),
        AccessGroup("g2", ("more",), of_team=True),
    )


async def test_an_access_group_that_may_not_be_asked_for_adds_nothing(house: House) -> None:
    """Without it the key may use fewer models, which is no reason to refuse the others."""
    house.litellm.groups["g"] = {"access_model_names": ["voice"]}
    house.litellm.forbidden.add("/v1/access_group/g")
    house.litellm.add(RAW, access_group_ids=["g"])
    source = house.source()
    with capture_logs() as logs:
        for _ in range(2):
            key = await source.find(query())
            assert key is not None
            assert key.access_groups == ()
    # Once in a while.
    assert [entry["event"] for entry in logs] == ["litellm_access_group_refused"]


async def test_who_is_gone_is_told_from_who_has_no_row(house: House) -> None:
    """A team that LiteLLM does not know is noted as such; a user without a row is no harm."""
    key = await find(house, team_id="t", user_id="ada", organization_id="o")
    assert key.team_scope == Scope("t", exists=False)
    assert key.user_scope == Scope("ada", exists=False)
    assert key.organization == Scope("o", exists=False)


@pytest.mark.parametrize("own", [False, True], ids=["admin-key", "own-key"])
async def test_an_unknown_key_is_none(house: House, *, own: bool) -> None:
    """A key that LiteLLM does not know, or has deleted, is unknown."""
    source = house.asking_itself() if own else house.source()
    assert await source.find(query()) is None
    house.litellm.deleted.add(house.litellm.add(RAW))
    assert await source.find(query()) is None


async def test_a_key_may_ask_about_itself(house: House) -> None:
    """Without an admin key the caller's own one asks, also about its team and user."""
    house.litellm.teams["t"] = {"models": ["voice"]}
    house.litellm.users["ada"] = {}
    house.litellm.add(RAW, team_id="t", user_id="ada")
    key = await house.asking_itself().find(query())
    assert key is not None
    assert key.hash == hash_key(Secret(RAW))
    assert key.team_scope == Scope("t", ("voice",))
    assert {asked.credential for asked in house.litellm.asked} == {RAW}
    assert house.litellm.asked[0].query == {}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        pytest.param({"blocked": True}, {"blocked": True}, id="blocked"),
        pytest.param({"expires": PAST}, {"expires": datetime(2020, 1, 31, tzinfo=UTC)}, id="over"),
        pytest.param(
            {"team_id": "off"},
            {"team": "off", "team_scope": Scope("off", blocked=True)},
            id="team-blocked",
        ),
        pytest.param(
            {"team_id": "gone"},
            {"team": "gone", "team_scope": Scope("gone", exists=False)},
            id="team-gone",
        ),
        pytest.param(
            {"user_id": "left"},
            {"user": "left", "user_scope": Scope("left", blocked=True)},
            id="user-inactive",
        ),
    ],
)
async def test_a_refusal_of_the_key_itself_says_why(
    house: House, fields: dict[str, Any], refused: dict[str, Any]
) -> None:
    """LiteLLM's 401 and 404 become the key that our own rules refuse for the same reason."""
    house.litellm.teams["off"] = {"blocked": True}
    house.litellm.users["left"] = {"metadata": {"scim_active": False}}
    house.litellm.add(RAW, **fields)
    key = await house.asking_itself().find(query())
    assert key == VirtualKey(hash_key(Secret(RAW)), **refused)


@pytest.mark.parametrize(
    ("status", "kind", "message", "refused"),
    [
        pytest.param(401, "expired_key", "no time", {"blocked": True}, id="expired-somewhen"),
        pytest.param(
            401,
            "expired_key",
            "Key Expiry time 2026-13-45 00:00:00+00:00",
            {"blocked": True},
            id="expired-never",
        ),
        pytest.param(
            401,
            "auth_error",
            "Authentication Error, Project=p_blocked is blocked. Update via `/project/update`",
            {"project": Scope("p_blocked", blocked=True)},
            id="project-blocked",
        ),
    ],
)
async def test_other_refusals_of_the_key_itself(
    house: House, status: int, kind: str, message: str, refused: dict[str, Any]
) -> None:
    """What the stand-in has no table for."""
    house.litellm.answer = error(status, kind, message, None)
    key = await house.asking_itself().find(query())
    assert key == VirtualKey(hash_key(Secret(RAW)), **refused)


async def test_a_key_that_may_not_ask_is_refused(house: House) -> None:
    """A key with allowed routes cannot be asked about itself; nor can any without a caller: 503."""
    house.litellm.add(RAW, allowed_routes=["llm_api_routes"])
    source = house.asking_itself()
    for asked in (query(), KeyQuery(hash_key(Secret(RAW)))):
        with pytest.raises(KeyNotAskableError) as refused:
            await source.find(asked)
        assert refused.value.http_status == 503
    assert house.litellm.lookups == 1


def page(status: int) -> web.Response:
    """Return what a proxy in front of LiteLLM answers."""
    return web.Response(text="<html>", status=status, content_type="text/html")


@pytest.mark.parametrize(
    "answer",
    [
        # Realistic
        pytest.param(error(500, "internal_server_error", "Database not connected", None), id="500"),
        pytest.param(error(503, "no_db_connection", "Service Unavailable", "None"), id="503"),
        pytest.param(error(400, "no_db_connection", "No connected db.", None), id="no-db"),
        pytest.param(error(429, "throttling_error", "Rate limit exceeded", None), id="429"),
        pytest.param(page(404), id="404-page"),
        pytest.param(web.json_response({"detail": "Not Found"}, status=404), id="wrong-path"),
        pytest.param(web.json_response({"message": "no route"}, status=404), id="404-of-a-proxy"),
        pytest.param(page(200), id="login-page"),
        pytest.param(web.Response(status=302, headers={"location": "/sso"}), id="redirect"),
        # Synthetic
        pytest.param(web.json_response([]), id="list"),
        pytest.param(web.json_response({"key": "h", "info": None}), id="no-info"),
        pytest.param(web.json_response({"info": {"models": []}}), id="no-expiry"),
        pytest.param(web.json_response({"info": {"models": 5, "expires": None}}), id="bad-models"),
        pytest.param(web.json_response({"info": {"models": [], "expires": "?"}}), id="bad-time"),
        pytest.param(web.Response(body=b"[" * 100_000), id="deep"),
    ],
)
@pytest.mark.parametrize("own", [False, True], ids=["admin-key", "own-key"])
async def test_what_says_nothing_of_a_key_is_an_outage(
    house: House, answer: web.Response, *, own: bool
) -> None:
    """Whatever is not LiteLLM's word about the key is 503, never an unknown key."""
    house.litellm.answer = answer
    source = house.asking_itself() if own else house.source()
    with pytest.raises(KeySourceUnavailableError) as refused:
        await source.find(query())
    assert refused.value.http_status == 503


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_admin_key_is_the_operators(house: House, status: int) -> None:
    """Then nobody can tell: 503 for callers, and a line for the operator that shows no key."""
    house.litellm.answer = error(status, "token_not_found_in_db", "Invalid proxy token", "key")
    with capture_logs() as logs, pytest.raises(KeySourceUnavailableError):
        await house.source().find(query())
    assert logs == [{"event": "litellm_admin_key_refused", "status": status, "log_level": "error"}]


async def test_a_part_that_cannot_be_had_is_an_outage(house: House) -> None:
    """A key is not admitted without the limits of its team."""
    house.litellm.add(RAW, team_id="t")
    house.litellm.teams["t"] = {"models": "voice"}
    with pytest.raises(KeySourceUnavailableError):
        await house.source().find(query())


async def test_time_is_limited(house: House) -> None:
    """All requests of a lookup share one deadline."""
    house.litellm.add(RAW, team_id="t")
    house.litellm.delay_s = 0.6
    started = time.monotonic()
    with pytest.raises(KeySourceUnavailableError):
        await house.source(timeout_s=1).find(query())
    assert 0.9 < time.monotonic() - started < 5
    assert [asked.path for asked in house.litellm.asked] == ["/key/info", "/team/info"]


async def test_a_proxy_that_is_down_is_an_outage(house: House) -> None:
    """Nothing listens: 503; when it is back, keys are found again."""
    house.litellm.add(RAW)
    await house.litellm.stop()
    source = house.source()
    with pytest.raises(KeySourceUnavailableError):
        await source.find(query())
    await house.litellm.start()
    await asyncio.sleep(0)
    assert await source.find(query()) is not None
