from collections.abc import Mapping
from dataclasses import replace

import pytest

from extauthz.access import ALL_MODELS, Wanted, check_model, resolve
from extauthz.access.errors import ModelDeniedError
from extauthz.catalogue import Catalogue
from extauthz.deployments import Deployment
from extauthz.keys import AccessGroup, Scope, VirtualKey
from helpers.authz import OPENAI, Config

A = replace(OPENAI, id="a", access_groups=("grp-a", "both"))
B = replace(OPENAI, id="b", access_groups=("grp-b", "both"))
CHAT = replace(OPENAI, id="c", model_name="chat")
ANY = replace(OPENAI, id="w", model_name="openai/*", upstream_model="*")
CATALOGUE = Catalogue(Config((A, B, CHAT, ANY), {"fast": "voice"}))
KEY = VirtualKey("ab" * 32)
TEAM = replace(KEY, team="t", team_scope=Scope("t"))


def keyed(*models: str, **fields: object) -> VirtualKey:
    """Return a personal key with a list."""
    return replace(KEY, models=models, **fields)  # type: ignore[arg-type]  # fields of each type


def of_team(models: tuple[str, ...], team: tuple[str, ...] = (), **fields: object) -> VirtualKey:
    """Return a key of a team with a list of its own, and the team's list."""
    scope = Scope("t", models=team)
    return replace(TEAM, models=models, team_scope=scope, **fields)  # type: ignore[arg-type]


def group(*models: str, **fields: object) -> dict[str, tuple[AccessGroup, ...]]:
    """Return the field of a key that names one access group of the table."""
    return {"access_groups": (AccessGroup("g", models, **fields),)}  # type: ignore[arg-type]


def refusal(key: VirtualKey, asked: str) -> str | None:
    """Return whose list refuses, or None."""
    try:
        check_model(key, resolve(key, asked, CATALOGUE))
    except ModelDeniedError as error:
        return error.type.removesuffix("_model_access_denied")
    return None


@pytest.mark.parametrize(
    ("key", "asked", "refuser"),
    [
        # Realistic: forms of a list
        pytest.param(keyed(), "voice", None, id="empty"),
        pytest.param(keyed("*"), "voice", None, id="star"),
        pytest.param(keyed("all-proxy-models"), "voice", None, id="all-proxy-models"),
        pytest.param(keyed("chat", "voice"), "voice", None, id="exact"),
        pytest.param(keyed("chat"), "voice", "key", id="not-listed"),
        pytest.param(keyed("no-default-models"), "voice", "key", id="no-default-models"),
        pytest.param(keyed("vo*"), "voice", None, id="wildcard"),
        pytest.param(keyed("openai/*"), "voice", "key", id="provider-wildcard-of-a-bare-name"),
        pytest.param(keyed("openai/*"), "openai/gpt-x", None, id="provider-wildcard"),
        pytest.param(keyed("openai/gpt-x"), "openai/gpt-x", None, id="name-of-a-wildcard-group"),
        pytest.param(keyed("openai/gpt-x"), "openai/gpt-y", "key", id="other-of-wildcard-group"),
        pytest.param(keyed("fast"), "fast", None, id="router-alias-listed"),
        pytest.param(keyed("voice"), "fast", None, id="target-of-router-alias-listed"),
        pytest.param(keyed("fast"), "voice", "key", id="alias-listed-target-asked"),
        pytest.param(keyed("grp-a"), "voice", None, id="access-group-of-a-deployment"),
        pytest.param(keyed("grp-a"), "chat", "key", id="access-group-of-another-model"),
        pytest.param(keyed("nope"), "nope", None, id="listed-and-not-served"),
        pytest.param(keyed("voice"), "nope", "key", id="neither-listed-nor-served"),
        pytest.param(keyed("voice"), "a", None, id="id-of-a-deployment-of-a-listed-group"),
        pytest.param(keyed("chat"), "a", "key", id="id-of-a-deployment-of-another"),
        # Realistic: aliases of the key
        pytest.param(keyed("voice", aliases={"my": "voice"}), "my", None, id="alias-to-listed"),
        pytest.param(keyed("my", aliases={"my": "voice"}), "my", "key", id="alias-listed"),
        pytest.param(keyed("chat", aliases={"chat": "voice"}), "chat", "key", id="alias-steals"),
        # Realistic: lists of teams and keys in them
        pytest.param(of_team((), ("voice",)), "voice", None, id="team-list"),
        pytest.param(of_team((), ("chat",)), "voice", "team", id="team-refuses"),
        pytest.param(of_team(("chat",), ("voice",)), "voice", "key", id="key-refuses-in-team"),
        pytest.param(of_team(("all-team-models",), ("voice",)), "voice", None, id="of-team"),
        pytest.param(of_team(("all-team-models",), ("chat",)), "voice", "key", id="not-of-team"),
        pytest.param(of_team(("all-team-models",)), "voice", None, id="of-team-without-list"),
        pytest.param(keyed("all-team-models"), "voice", None, id="of-no-team"),
        pytest.param(of_team((), ("all-team-models",)), "voice", None, id="team-of-all"),
        pytest.param(of_team((), ("all-team-models",)), "nope", "team", id="team-of-all-served"),
        pytest.param(of_team((), ("no-default-models",)), "voice", "team", id="team-of-none"),
        pytest.param(
            of_team(("chat",), ("chat",), team_aliases={"rt": "voice"}), "rt", None, id="team-alias"
        ),
        pytest.param(
            of_team(("chat",), ("chat",), team_aliases={"rt": "voice"}),
            "voice",
            "key",
            id="target-of-a-team-alias",
        ),
        # Realistic: members, users, projects
        pytest.param(of_team((), member=Scope("m", ("voice",))), "voice", None, id="member"),
        pytest.param(
            of_team((), member=Scope("m", ("chat",))), "voice", "team", id="member-refuses"
        ),
        pytest.param(of_team((), member=Scope("m")), "voice", None, id="member-without-list"),
        pytest.param(keyed(user_scope=Scope("u", ("voice",))), "voice", None, id="user"),
        pytest.param(keyed(user_scope=Scope("u", ("chat",))), "voice", "user", id="user-refuses"),
        pytest.param(
            of_team((), user_scope=Scope("u", ("chat",))), "voice", None, id="user-of-a-team-key"
        ),
        pytest.param(
            keyed(user_scope=Scope("u", ("no-default-models",))), "voice", "key", id="user-of-none"
        ),
        pytest.param(
            keyed(user_scope=Scope("u", ("voice", "no-default-models"))),
            "voice",
            "key",
            id="user-of-none-beside-others",
        ),
        pytest.param(keyed(project=Scope("p", ("voice",))), "voice", None, id="project"),
        pytest.param(
            keyed(project=Scope("p", ("chat",))), "voice", "project", id="project-refuses"
        ),
        pytest.param(keyed(organization=Scope("o", ("chat",))), "voice", None, id="organization"),
        # Realistic: access groups of the table
        pytest.param(keyed("chat", **group("voice", of_key=True)), "voice", None, id="group"),
        pytest.param(
            keyed("chat", **group("vo*", of_key=True)), "voice", None, id="group-wildcard"
        ),
        pytest.param(
            keyed("chat", **group("other", of_key=True)), "voice", "key", id="group-of-others"
        ),
        pytest.param(keyed("chat", **group(of_key=True)), "voice", "key", id="group-of-nothing"),
        pytest.param(
            of_team((), ("chat",), **group("voice", of_team=True)), "voice", None, id="team-group"
        ),
        pytest.param(
            of_team(("chat",), (), **group("voice", of_team=True)),
            "voice",
            "key",
            id="team-group-is-not-the-keys",
        ),
        pytest.param(
            of_team((), ("chat",), **group("voice", of_key=True)),
            "voice",
            "team",
            id="key-group-is-not-the-teams",
        ),
        pytest.param(
            of_team((), ("chat",), **group("voice", of_key=True, teams=("t",))),
            "voice",
            None,
            id="key-group-assigned-to-the-team",
        ),
        pytest.param(
            of_team((), ("chat",), **group("voice", of_key=True, keys=("ab" * 32,))),
            "voice",
            None,
            id="key-group-assigned-to-the-key",
        ),
        pytest.param(
            of_team((), ("chat",), **group("voice", of_key=True, teams=("u",), keys=("cd" * 32,))),
            "voice",
            "team",
            id="key-group-assigned-to-others",
        ),
        pytest.param(
            keyed(user_scope=Scope("u", ("chat",)), **group("voice", of_key=True)),
            "voice",
            "user",
            id="group-does-not-widen-a-user",
        ),
        # Synthetic
        pytest.param(keyed("chat", is_master=True), "voice", None, id="master"),
        pytest.param(
            replace(keyed("all-team-models"), team="t"), "voice", "key", id="team-not-known"
        ),
        pytest.param(
            of_team(("my",), aliases={"my": "rt"}, team_aliases={"rt": "voice"}),
            "my",
            "key",
            id="alias-of-the-key-to-one-of-the-team",
        ),
        pytest.param(
            of_team(("chat",), aliases={"voice": "chat"}, team_aliases={"rt": "voice"}),
            "rt",
            None,
            id="alias-of-the-key-for-the-target-of-one-of-the-team",
        ),
        pytest.param(
            of_team(("rt", "voice"), aliases={"voice": "chat"}, team_aliases={"rt": "voice"}),
            "rt",
            "key",
            id="its-target-has-to-be-listed",
        ),
        pytest.param(
            of_team((), team_aliases={"rt": "voice"}, member=Scope("m", ("chat",))),
            "rt",
            "team",
            id="team-alias-and-member",
        ),
        pytest.param(
            of_team((), team_aliases={"rt": "voice"}, member=Scope("m", ("voice",))),
            "rt",
            None,
            id="team-alias-whose-target-the-member-has",
        ),
        pytest.param(
            of_team(("grp-a",), ("grp-b",)), "voice", "team", id="access-groups-without-overlap"
        ),
        pytest.param(
            of_team(("grp-a",), ("voice", "grp-b")),
            "voice",
            "team",
            id="access-groups-without-overlap-beside-the-name",
        ),
        pytest.param(
            keyed(user_scope=Scope("u", ("all-team-models",))), "voice", "user", id="user-of-team"
        ),
        # Pathological
        pytest.param(keyed("Voice"), "voice", "key", id="case"),
        pytest.param(keyed(""), "voice", "key", id="empty-entry"),
        pytest.param(keyed(" voice"), "voice", "key", id="space"),
        pytest.param(keyed("voice"), "openai/*", "key", id="asks-for-a-wildcard"),
        pytest.param(keyed("voice"), "*", "key", id="asks-for-everything"),
        pytest.param(keyed("voi.e"), "voice", "key", id="dot"),
        pytest.param(keyed("v.*"), "voice", "key", id="dot-and-star"),
        pytest.param(keyed("chat", aliases={"voice": "voice"}), "voice", "key", id="own-alias"),
        pytest.param(
            keyed("voice", aliases={"a1": "b1", "b1": "voice"}), "a1", "key", id="alias-of-an-alias"
        ),
    ],
)
def test_lists_admit_models(key: VirtualKey, asked: str, refuser: str | None) -> None:
    """All lists that hold for a key have to admit the model; the first that does not is told."""
    assert refusal(key, asked) == refuser


@pytest.mark.parametrize(
    ("key", "asked", "ids"),
    [
        # Realistic
        pytest.param(keyed(), "voice", "ab", id="no-list"),
        pytest.param(keyed("voice"), "voice", "ab", id="by-name"),
        pytest.param(keyed("grp-a"), "voice", "a", id="by-access-group"),
        pytest.param(keyed("grp-a", "grp-b"), "voice", "ab", id="by-two"),
        pytest.param(keyed("both"), "voice", "ab", id="by-one-of-both"),
        pytest.param(of_team(("both",), ("grp-b",)), "voice", "b", id="key-and-team"),
        # Synthetic
        pytest.param(keyed("voice", "grp-a"), "voice", "a", id="name-and-access-group"),
        pytest.param(of_team(("all-team-models",), ("grp-b",)), "voice", "b", id="of-team"),
        pytest.param(keyed("grp-a"), "fast", "a", id="alias"),
        pytest.param(keyed("chat", "grp-a"), "chat", "c", id="of-another-model"),
        pytest.param(keyed("both"), "b", "b", id="id-of-a-deployment"),
        pytest.param(keyed("grp-a", is_master=True), "voice", "ab", id="master"),
    ],
)
def test_access_groups_restrict_deployments(key: VirtualKey, asked: str, ids: str) -> None:
    """Where a list names an access group of some deployments, only those serve its key."""
    deployments = check_model(key, resolve(key, asked, CATALOGUE))
    assert [deployment.id for deployment in deployments] == list(ids)


@pytest.mark.parametrize(
    ("aliases", "team_aliases", "asked", "target"),
    [
        # Realistic
        pytest.param({}, {}, "voice", "voice", id="group"),
        pytest.param({}, {}, "fast", "voice", id="router"),
        pytest.param({"my": "chat"}, {}, "my", "chat", id="key"),
        pytest.param({"my": "fast"}, {}, "my", "voice", id="key-then-router"),
        pytest.param({}, {"rt": "fast"}, "rt", "voice", id="team-then-router"),
        pytest.param({"voice": "chat"}, {"rt": "voice"}, "rt", "chat", id="team-then-key"),
        pytest.param({"my": "rt"}, {"rt": "chat"}, "my", None, id="not-key-then-team"),
        # Synthetic
        pytest.param({"voice": "chat"}, {}, "voice", "chat", id="hides-a-group"),
        pytest.param({"my": "voice"}, {"my": "chat"}, "my", "chat", id="team-beats-key"),
        pytest.param({}, {}, "nope", None, id="not-served"),
        pytest.param({}, {"voice": "model_name_t_1"}, "voice", "voice", id="left-by-a-deployment"),
        pytest.param({}, {"voice": "model_name_u_1"}, "voice", None, id="of-another-team"),
        pytest.param({"my": "nope"}, {}, "my", None, id="alias-of-nothing"),
        pytest.param({"a1": "b1", "b1": "voice"}, {}, "a1", None, id="alias-of-an-alias"),
        pytest.param({"a1": "a1"}, {}, "a1", None, id="alias-of-itself"),
    ],
)
def test_aliases_say_what_is_routed(
    aliases: Mapping[str, str], team_aliases: Mapping[str, str], asked: str, target: str | None
) -> None:
    """Aliases are followed once each: the team's, the key's, the router's."""
    key = replace(TEAM, aliases=aliases, team_aliases=team_aliases)
    wanted = resolve(key, asked, CATALOGUE)
    assert (wanted.asked, wanted.group) == (asked, target)


def test_deployments_of_a_team_serve_that_team_alone() -> None:
    """A key without the team does not find them, whatever its list says."""
    own: Deployment = replace(OPENAI, id="t", model_name="own", team="t")
    catalogue = Catalogue(Config((own,)))
    assert resolve(TEAM, "own", catalogue).deployments == (own,)
    assert resolve(KEY, "own", catalogue) == Wanted("own", None, frozenset({"own"}))


def test_words_for_all_models() -> None:
    """Others read this set, too."""
    assert frozenset({"*", "all-proxy-models"}) == ALL_MODELS
