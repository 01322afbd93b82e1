"""Cases of which models a key may use."""

from typing import Any, Final

from helpers.litellmrows import Rows, hash_of
from helpers.rulecases import (
    BAD_BODY,
    NO_MODEL,
    NO_NAME,
    Build,
    Case,
    denied,
    key,
    member_key,
    project_key,
    team_key,
    team_user_key,
    user_key,
)

_TRANSCRIBED: Final = {
    "session": {
        "type": "realtime",
        "model": "voice",
        "audio": {"input": {"transcription": {"model": "scribe"}}},
    }
}
_RT: Final = {"aliases": {"team-rt": "voice"}}


def _grouped(*models: str, in_team: bool = False, to: str = "", **columns: Any) -> Build:
    """Return what inserts a key with an access group, assigned to its team or itself."""

    def build(rows: Rows) -> str:
        raw = f"sk-with-an-access-group-{rows.budget()}"
        team = rows.team(models=["chat"]) if in_team else None
        assigned: dict[str, Any] = {}
        if to == "team":
            assigned["assigned_team_ids"] = [team]
        elif to == "key":
            assigned["assigned_key_ids"] = [hash_of(raw)]
        elif to == "others":
            assigned = {"assigned_team_ids": ["t-other"], "assigned_key_ids": [hash_of("sk-other")]}
        group = rows.access_group(*models, **assigned)
        return rows.key(raw, team_id=team, access_group_ids=[group], **columns)

    return build


def _team_group(*models: str, team: list[str], own: list[str]) -> Build:
    """Return what inserts a key of a team with an access group."""

    def build(rows: Rows) -> str:
        group = rows.access_group(*models)
        return rows.key(team_id=rows.team(models=team, access_group_ids=[group]), models=own)

    return build


def _aliased_member(*models: str) -> Build:
    """Return what inserts a key of a member of a team with an alias."""

    def build(rows: Rows) -> str:
        team, user = rows.team(**_RT), rows.user()
        rows.member(user, team, budget_id=rows.budget(allowed_models=list(models)))
        return rows.key(team_id=team, user_id=user)

    return build


LISTS: Final = [
    Case("1.4 an empty list admits everything", key(models=[])),
    Case("1.4 star", key(models=["*"])),
    Case("1.4 all-proxy-models", key(models=["all-proxy-models"])),
    Case("1.4 the name", key(models=["chat", "voice"])),
    Case("1.4 another name", key(models=["chat"]), denied()),
    Case("1.4 letter case counts", key(models=["Voice"]), denied()),
    Case("1.4 no-default-models", key(models=["no-default-models"]), denied()),
    Case(
        "1.4 all-team-models: the team's list",
        team_key({"models": ["voice"]}, models=["all-team-models"]),
    ),
    Case(
        "1.4 all-team-models: not on the team's list",
        team_key({"models": ["chat"]}, models=["all-team-models"]),
        denied(),
    ),
    Case("1.4 all-team-models: the team has no list", team_key({}, models=["all-team-models"])),
    Case("1.4 all-team-models: no team", key(models=["all-team-models"])),
    Case("1.4 wildcard at the end", key(models=["vo*"])),
    Case("1.4 wildcard at the beginning", key(models=["*ice"])),
    Case("1.4 wildcard inside", key(models=["v*e"])),
    Case("1.4 wildcard that does not match", key(models=["vx*"]), denied()),
    Case("1.4 ours: a dot is a dot", key(models=["gpt-4.1-*"]), denied(), asks="gpt-4x1-voice"),
    Case(
        "1.4 a dot matches itself",
        key(models=["gpt-4.1-*"]),
        asks="gpt-4.1-voice",
        serves=("rt-dot",),
    ),
    Case("1.4 ours: nothing else of regular expressions", key(models=["v[o]ice*"]), denied()),
    Case("1.4 provider/* does not admit a bare name", key(models=["openai/*"]), denied()),
    Case(
        "1.4 provider/* admits what a wildcard entry serves",
        key(models=["openai/*"]),
        asks="openai/gpt-x",
        serves=("gpt-x",),
    ),
    Case(
        "1.4 one name of a wildcard entry",
        key(models=["openai/gpt-x"]),
        asks="openai/gpt-x",
        serves=("gpt-x",),
    ),
    Case("1.4 another name of it", key(models=["openai/gpt-x"]), denied(), asks="openai/gpt-y"),
    Case("1.4 not served and not listed", key(models=["voice"]), denied(), asks="nope"),
    Case("1.4 not served, no list", key(), NO_MODEL, asks="nope"),
    Case("1.4 not served, listed", key(models=["nope"]), NO_MODEL, asks="nope"),
    Case(
        "1.3 model and session.model",
        key(models=["voice"]),
        body={"model": "voice", "session": {"type": "realtime", "model": "voice"}},
    ),
    Case(
        "1.3 model alone",
        key(models=["chat"]),
        denied(),
        body={"model": "voice", "session": {"type": "realtime"}},
    ),
    Case(
        "1.3 ours: model and session.model differ",
        key(models=["voice"]),
        BAD_BODY,
        body={"model": "voice", "session": {"type": "realtime", "model": "chat"}},
    ),
]

NAMES: Final = [
    Case("1.4 ours: no model among several", key(), NO_NAME, body={}),
    Case("1.4 the id of a deployment", key(), asks="dep-b", serves=("rt-b",)),
    Case(
        "1.4 ours: the id of a deployment of a listed group",
        key(models=["voice"]),
        asks="dep-b",
        serves=("rt-b",),
    ),
    Case(
        "1.4 the id of a deployment of another group", key(models=["chat"]), denied(), asks="dep-b"
    ),
    Case(
        "1.4 the id of a deployment without its access group",
        key(models=["grp-a"]),
        denied(),
        asks="dep-b",
    ),
    Case(
        "1.4 model_info.team_id",
        team_key({"team_id": "t-house"}),
        asks="house",
        serves=("rt-house",),
    ),
    Case("1.4 model_info.team_id of others", team_key({}), NO_MODEL, asks="house"),
    Case("1.4 model_info.team_id, personal key", key(), NO_MODEL, asks="house"),
]

FURTHER: Final = [
    Case("1.3 ours: the transcription model", key(models=["voice"]), denied(), body=_TRANSCRIBED),
    Case(
        "1.3 ours: the transcription model listed",
        key(models=["voice", "scribe"]),
        body=_TRANSCRIBED,
    ),
    Case("1.3 ours: the transcription model, no list", key(), body=_TRANSCRIBED),
    Case(
        "1.3 ours: the transcription model and the team",
        team_key({"models": ["voice"]}),
        denied("team"),
        body=_TRANSCRIBED,
    ),
]

ACCESS_GROUPS: Final = [
    Case("1.4 model_info.access_groups: a", key(models=["grp-a"]), serves=("rt-a",)),
    Case("1.4 model_info.access_groups: b", key(models=["grp-b"]), serves=("rt-b",)),
    Case("1.4 model_info.access_groups: both", key(models=["grp-a", "grp-b"])),
    Case(
        "1.4 model_info.access_groups of another model",
        key(models=["grp-a"]),
        denied(),
        asks="chat",
    ),
    Case(
        "1.4 model_info.access_groups beside the name",
        key(models=["voice", "grp-b"]),
        serves=("rt-b",),
    ),
    Case(
        "1.4 model_info.access_groups of the team",
        team_key({"models": ["grp-b"]}),
        serves=("rt-b",),
    ),
    Case(
        "1.4 model_info.access_groups of key and team without overlap",
        team_key({"models": ["grp-b"]}, models=["grp-a"]),
        denied("team"),
    ),
    Case("1.4 access group of the table", _grouped("voice", models=["chat"])),
    Case("1.4 access group of the table: another model", _grouped("x", models=["chat"]), denied()),
    Case(
        "1.4 access group of the table: unknown id",
        key(models=["chat"], access_group_ids=["g-gone"]),
        denied(),
    ),
    Case(
        "1.4 access group of the table: unknown id does no harm",
        key(models=["voice"], access_group_ids=["g-gone"]),
    ),
    Case("1.4 access group: the team refuses", _grouped("voice", in_team=True), denied("team")),
    Case("1.4 access group assigned to the team", _grouped("voice", in_team=True, to="team")),
    Case("1.4 access group assigned to the key", _grouped("voice", in_team=True, to="key")),
    Case(
        "1.4 access group assigned to others",
        _grouped("voice", in_team=True, to="others"),
        denied("team"),
    ),
    Case("1.4 access group of the team", _team_group("voice", team=["chat"], own=[])),
    Case(
        "1.4 access group of the team is not the key's",
        _team_group("voice", team=["chat"], own=["chat"]),
        denied(),
    ),
]

ALIASES: Final = [
    Case("1.4 router alias listed", key(models=["fast"]), asks="fast"),
    Case("1.4 target of the router alias listed", key(models=["voice"]), asks="fast"),
    Case("1.4 neither listed", key(models=["chat"]), denied(), asks="fast"),
    Case("1.4 router alias listed, target asked", key(models=["fast"]), denied()),
    Case("1.4 key alias: target listed", key(models=["voice"], aliases={"my": "voice"}), asks="my"),
    Case(
        "1.4 key alias: alias listed",
        key(models=["my"], aliases={"my": "voice"}),
        denied(),
        asks="my",
    ),
    Case(
        "1.4 key alias widens nothing",
        key(models=["chat"], aliases={"chat": "voice"}),
        denied(),
        asks="chat",
    ),
    Case(
        "1.4 key alias is routed",
        key(aliases={"voice": "chat"}),
        serves=("rt-chat",),
    ),
    Case(
        "1.4 key alias to a router alias", key(models=["fast"], aliases={"my": "fast"}), asks="my"
    ),
    Case(
        "1.4 team alias always allowed",
        team_key({**_RT, "models": ["chat"]}, models=["chat"]),
        asks="team-rt",
    ),
    Case(
        "1.4 team alias of a deployment that LiteLLM had made for the team",
        team_key({"team_id": "t-moved", "aliases": {"voice": "model_name_t-moved_7"}}),
    ),
    Case(
        "1.4 ours: such an alias widens nothing",
        team_key(
            {"team_id": "t-gone-by", "aliases": {"voice": "model_name_t-gone-by_7"}},
            models=["chat"],
        ),
        denied(),
    ),
    Case("1.4 team alias: not its target", team_key(_RT, models=["chat"]), denied()),
    Case(
        "1.4 team alias of another team",
        team_key({"models": ["chat"]}),
        denied("team"),
        asks="team-rt",
    ),
    Case(
        "1.4 team alias beats key alias",
        team_key({"aliases": {"both": "voice"}}, aliases={"both": "chat"}),
        asks="both",
    ),
    Case(
        "1.4 key alias for the target of a team alias",
        team_key(_RT, models=["chat"], aliases={"voice": "chat"}),
        asks="team-rt",
        serves=("rt-chat",),
    ),
    Case(
        "1.4 key alias for the target of a team alias, not listed",
        team_key(_RT, models=["voice"], aliases={"voice": "chat"}),
        denied(),
        asks="team-rt",
    ),
    Case(
        "1.4 key alias to a team alias leads nowhere",
        team_key(_RT, aliases={"my": "team-rt"}),
        NO_MODEL,
        asks="my",
    ),
]

OWNERS: Final = [
    Case("1.4 team list", team_key({"models": ["voice"]})),
    Case("1.4 team list refuses", team_key({"models": ["chat"]}), denied("team")),
    Case("1.4 key and team list", team_key({"models": ["voice"]}, models=["chat"]), denied()),
    Case("1.4 all-team-models on a team", team_key({"models": ["all-team-models"]})),
    Case(
        "1.4 all-team-models on a team: not served",
        team_key({"models": ["all-team-models"]}),
        denied("team"),
        asks="nope",
    ),
    Case(
        "1.4 no-default-models on a team",
        team_key({"models": ["no-default-models"]}),
        denied("team"),
    ),
    Case("1.4 star on a team", team_key({"models": ["*"]})),
    Case("1.4 member's models", member_key({"allowed_models": ["voice"]})),
    Case("1.4 member's models refuse", member_key({"allowed_models": ["chat"]}), denied("team")),
    Case("1.4 member without models", member_key({"allowed_models": []})),
    Case("1.4 member without a budget row", member_key()),
    Case(
        "1.4 team alias and the member's models",
        _aliased_member("chat"),
        denied("team"),
        asks="team-rt",
    ),
    Case(
        "1.4 team alias that the member's models name",
        _aliased_member("team-rt"),
        asks="team-rt",
    ),
    Case("1.4 user list, personal key", user_key({"models": ["voice"]})),
    Case("1.4 user list refuses, personal key", user_key({"models": ["chat"]}), denied("user")),
    Case("1.4 user list, team key", team_user_key({}, {"models": ["chat"]})),
    Case("1.4 no-default-models on a user", user_key({"models": ["no-default-models"]}), denied()),
    Case(
        "1.4 no-default-models on a user, team key",
        team_user_key({}, {"models": ["no-default-models"]}),
    ),
    Case("1.4 project list", project_key(models=["voice"])),
    Case("1.4 project list refuses", project_key(models=["chat"]), denied("project")),
    Case(
        "1.4 organization list is not enforced",
        lambda rows: rows.key(organization_id=rows.organization(models=["chat"])),
    ),
    Case(
        "1.4 organization list of the team neither",
        lambda rows: rows.key(
            team_id=rows.team(organization_id=rows.organization(models=["chat"]))
        ),
    ),
    Case(
        "1.4 admins' keys have lists, too",
        user_key({"user_role": "proxy_admin"}, models=["chat"]),
        denied(),
    ),
]

MODEL_CASES: Final = [*LISTS, *NAMES, *FURTHER, *ACCESS_GROUPS, *ALIASES, *OWNERS]
