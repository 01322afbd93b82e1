from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from extauthz.catalogue import Catalogue
from extauthz.deployments import Deployment, Origin
from ringback.secrets import Secret

OPENAI = Origin("https", "api.openai.com", 443)
AZURE = Origin("https", "r.openai.azure.com", 443)
VOICE = Deployment("d1", "voice", "openai", "gpt-realtime", OPENAI, "", Secret("sk-one"))


@dataclass(frozen=True, slots=True)
class Config:
    """The part of a configuration that a catalogue is made of."""

    deployments: tuple[Deployment, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


CONFIG = Config(
    (
        VOICE,
        replace(VOICE, id="d2", provider="azure", origin=AZURE),
        replace(VOICE, id="d3", model_name="chat", upstream_model="gpt-4o"),
    ),
    {"fast": "voice", "chat": "voice", "gone": "nothing", "faster": "fast"},
)


@pytest.mark.parametrize(
    ("model", "group"),
    [
        ("voice", "voice"),
        ("fast", "voice"),
        ("chat", "voice"),  # an alias hides the group of its name
        ("gone", None),
        ("faster", None),  # an alias of an alias is not followed
        ("unknown", None),
        ("Voice", None),
        ("", None),
    ],
)
def test_a_model_resolves_to_a_group(model: str, group: str | None) -> None:
    """A model name is an alias or a group; anything else is served by nothing."""
    assert Catalogue(CONFIG).resolve(model) == group


def test_a_catalogue_finds_deployments() -> None:
    """Deployments are found by group and by id; what is not there is not found."""
    catalogue = Catalogue(CONFIG)
    assert catalogue.groups == ("voice", "chat")
    assert catalogue.by_id("d3") is CONFIG.deployments[2]
    assert catalogue.by_id("d4") is None
    assert catalogue.origins() == (OPENAI, AZURE)
    assert (group := catalogue.find("voice")) is not None
    assert group.deployments == CONFIG.deployments[:2]
    assert catalogue.find("gone") is None


@pytest.mark.parametrize(
    ("deployments", "group"),
    [
        pytest.param((), None, id="none"),
        pytest.param(CONFIG.deployments, "voice", id="one-group-of-two"),
        pytest.param(CONFIG.deployments[2:], None, id="no-realtime"),
        pytest.param((VOICE, replace(VOICE, id="d4", model_name="other")), None, id="two-groups"),
    ],
)
def test_only_a_single_realtime_group_is_the_default(
    deployments: tuple[Deployment, ...], group: str | None
) -> None:
    """There is a default group if exactly one group is realtime."""
    assert Catalogue(Config(deployments)).only_realtime_group() == group


def deployment(name: str, group: str, model: str = "*", **fields: Any) -> Deployment:
    """Return a deployment of a group."""
    return replace(VOICE, id=name, model_name=group, upstream_model=model, **fields)


WILD = Catalogue(
    Config(
        (
            deployment("any", "*"),
            deployment("openai", "openai/*"),
            deployment("mini", "openai/*-mini", "small-*"),
            deployment("mini2", "openai/*-mini", "gpt-realtime-mini"),
            deployment("suffix", "*-voice", "gpt-*"),
            deployment("exact", "openai/gpt-realtime", "gpt-realtime"),
        ),
        {"fast": "openai/fast", "wild": "openai/*"},
    )
)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        # Realistic
        pytest.param("openai/gpt-realtime", [("exact", "gpt-realtime")], id="exact-first"),
        pytest.param("openai/gpt-4o", [("openai", "gpt-4o")], id="prefix"),
        pytest.param("gpt-realtime", [("any", "gpt-realtime")], id="anything"),
        pytest.param("my-voice", [("suffix", "gpt-my")], id="suffix"),
        pytest.param(
            "openai/a-mini",
            [("mini", "small-a"), ("mini2", "gpt-realtime-mini")],
            id="the-longest-pattern-and-all-of-it",
        ),
        pytest.param("fast", [("openai", "fast")], id="alias"),
        # Synthetic
        pytest.param("openai/org/model", [("openai", "org/model")], id="slash"),
        pytest.param("openai/", [], id="nothing-behind-the-prefix"),
        pytest.param("openai/-mini", [], id="nothing-in-between"),
        # Pathological
        pytest.param("openai/*", [], id="the-pattern-itself"),
        pytest.param("*", [], id="the-star"),
        pytest.param("wild", [], id="alias-of-a-pattern"),
        pytest.param("openai/../admin", [], id="dots"),
        pytest.param("openai//x", [], id="empty-part"),
        pytest.param("openai/a b", [], id="space"),
        pytest.param("openai/a?b=c", [], id="query"),
        pytest.param("openai/\u00e4", [], id="not-ascii"),
        pytest.param("openai/" + "a" * 122, [], id="too-long"),
        pytest.param("", [], id="empty"),
    ],
)
def test_wildcards(model: str, found: list[tuple[str, str]]) -> None:
    """Where no group has the name, the longest pattern serves it, if it can go upstream."""
    group = WILD.find(model)
    deployments = group.deployments if group else ()
    assert [(d.id, d.upstream_model) for d in deployments] == found
    if group:
        assert {d.model_name for d in deployments} == {group.name}
        assert WILD.resolve(model) == group.name


def test_a_wildcard_keeps_its_id() -> None:
    """The id of what a wildcard serves finds the wildcard again."""
    assert WILD.by_id("openai") is not None
    assert WILD.only_realtime_group() == "openai/gpt-realtime"


OWNED = Catalogue(
    Config(
        (
            VOICE,
            replace(VOICE, id="theirs", team="t"),
            replace(VOICE, id="secret", model_name="secret-voice", team="t"),
            replace(VOICE, id="paused", blocked=True),
            replace(VOICE, id="off", model_name="off", blocked=True),
            deployment("wild", "w-*", team="t"),
        ),
        {"alias": "voice"},
    )
)


@pytest.mark.parametrize(
    ("model", "team", "group", "ids"),
    [
        # Realistic
        pytest.param("voice", None, "voice", ["d1"], id="everybodys"),
        pytest.param("voice", "t", "voice", ["theirs"], id="a-teams-own-alone"),
        pytest.param("voice", "u", "voice", ["d1"], id="another-team"),
        pytest.param("alias", "t", "voice", ["theirs"], id="by-alias"),
        pytest.param("secret-voice", "t", "secret-voice", ["secret"], id="a-teams-group"),
        pytest.param("secret-voice", None, None, [], id="not-without-the-team"),
        pytest.param("off", None, None, [], id="paused-group"),
        # By id
        pytest.param("d1", None, "voice", ["d1"], id="id"),
        pytest.param("theirs", "t", "voice", ["theirs"], id="id-of-the-team"),
        pytest.param("theirs", "u", None, [], id="id-of-another-team"),
        pytest.param("paused", None, None, [], id="id-of-a-paused-one"),
        pytest.param("wild", "t", None, [], id="id-of-a-wildcard"),
        pytest.param("w-1", "t", "w-1", ["wild"], id="wildcard-of-the-team"),
        pytest.param("w-1", "u", None, [], id="wildcard-of-another-team"),
    ],
)
def test_teams_and_ids(model: str, team: str | None, group: str | None, ids: list[str]) -> None:
    """A team's deployments are its own, paused ones nobody's, and an id names one of a group."""
    found = OWNED.find(model, team)
    assert (found.name if found else None) == group
    assert [d.id for d in found.deployments] == ids if found else ids == []


def test_a_team_has_a_default_of_its_own() -> None:
    """A group that only a team sees does not take the default from the others."""
    assert OWNED.only_realtime_group() == "voice"
    assert OWNED.only_realtime_group("t") is None


def test_a_paused_deployment_is_still_known() -> None:
    """Calls that a deployment has taken before it was paused can still be commanded."""
    paused = OWNED.by_id("paused")
    assert paused is not None
    assert paused.blocked
