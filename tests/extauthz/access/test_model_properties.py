from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from extauthz.access import check_model, resolve
from extauthz.access.errors import ModelDeniedError
from extauthz.catalogue import Catalogue
from extauthz.keys import AccessGroup, Scope, VirtualKey
from helpers.authz import OPENAI, Config

A = replace(OPENAI, id="a", access_groups=("grp-a",))
B = replace(OPENAI, id="b", access_groups=("grp-b",))
CHAT = replace(OPENAI, id="c", model_name="chat")
OWN = replace(OPENAI, id="t", model_name="own", team="t")
CATALOGUE = Catalogue(Config((A, B, CHAT, OWN), {"fast": "voice"}))

NAMES = st.sampled_from(["voice", "chat", "own", "fast", "nope", "my", "rt", "a", "*", ""])
ENTRIES = NAMES | st.sampled_from(
    ["vo*", "grp-a", "grp-b", "all-proxy-models", "all-team-models", "no-default-models"]
)
LISTS = st.lists(ENTRIES, max_size=3).map(tuple)
SCOPES = st.none() | LISTS.map(lambda models: Scope("t", models))
ALIASES = st.dictionaries(NAMES, NAMES, max_size=2)
GROUPS = st.lists(
    st.builds(
        AccessGroup,
        st.just("g"),
        LISTS,
        st.sampled_from([(), ("t",)]),
        of_key=st.booleans(),
        of_team=st.booleans(),
    ),
    max_size=2,
).map(tuple)
KEYS = st.builds(
    VirtualKey,
    st.just("ab" * 32),
    models=LISTS,
    team=st.sampled_from([None, "t", "u"]),
    aliases=ALIASES,
    team_scope=SCOPES,
    team_aliases=ALIASES,
    member=SCOPES,
    user_scope=SCOPES,
    project=SCOPES,
    access_groups=GROUPS,
)


def admitted(key: VirtualKey, asked: str) -> frozenset[str] | None:
    """Return the deployments that a key may use, None if it is refused."""
    try:
        deployments = check_model(key, resolve(key, asked, CATALOGUE))
    except ModelDeniedError:
        return None
    return frozenset(deployment.id for deployment in deployments)


@given(KEYS, NAMES)
def test_whoever_is_admitted_has_a_deployment(key: VirtualKey, asked: str) -> None:
    """Who is not refused is served by some of the deployments, none of them of another team."""
    wanted = resolve(key, asked, CATALOGUE)
    found = admitted(key, asked)
    if found is not None:
        assert found <= {deployment.id for deployment in wanted.deployments}
        assert bool(found) is (wanted.group is not None)
        assert key.team == "t" or "t" not in found


@given(KEYS, NAMES, LISTS)
def test_a_further_list_never_widens(key: VirtualKey, asked: str, models: tuple[str, ...]) -> None:
    """A member's, a user's or a project's list takes away or leaves, and adds nothing."""
    bare = replace(key, member=None, user_scope=None, project=None)
    most = admitted(bare, asked)
    scope = Scope("x", models)
    for further in (
        replace(bare, member=scope),
        replace(bare, user_scope=scope),
        replace(bare, project=scope),
    ):
        found = admitted(further, asked)
        assert found is None or (most is not None and found <= most)


@given(KEYS, NAMES, LISTS)
def test_an_alias_of_the_key_never_widens(
    key: VirtualKey, target: str, models: tuple[str, ...]
) -> None:
    """Who asks by an alias gets what its target gives to those who have no alias of a team."""
    key = replace(key, models=models, aliases={})
    plain = replace(key, team_aliases={})
    assert admitted(replace(key, aliases={"mine": target}), "mine") == admitted(plain, target)
