from typing import Any

import pytest

from ringback.errors import StartError
from ringback.sdppolicy import Policy, PolicySettings
from sdpfilter.policies import NoSuchPolicyError, Policies, PoliciesError
from sdpfilter.policy import PRESETS, PolicyConflictError, strictest

KNOWN = "kiosk, low_bandwidth, mine, privacy, strict_firewall"
SETTINGS = {
    "policies": {"mine": {"direction": "recvonly"}, "theirs": {"direction": "sendonly"}},
    "default": "privacy",
    "models": {"gpt-realtime": "low_bandwidth"},
    "teams": {"t1": "kiosk"},
    "keys": {"lobby": "mine"},
}


def load(settings: dict[str, Any]) -> Policies:
    """Return the policies of settings as YAML has them."""
    return Policies(PolicySettings.model_validate(settings))


def test_privacy_is_the_default() -> None:
    """Without settings private addresses are hidden; a default of none changes nothing."""
    assert load({}).for_call("gpt-realtime", "t1", "lobby") == PRESETS["privacy"]
    assert load({"default": None}).for_call("gpt-realtime", "t1", "lobby") == Policy()


def test_a_call_has_the_strictest_of_what_applies() -> None:
    """The default, the model's, the team's and the key's policy hold together."""
    policies = load(SETTINGS)
    mine = Policy(direction="recvonly")
    narrow = strictest(PRESETS["privacy"], PRESETS["low_bandwidth"])
    assert policies.for_call() == PRESETS["privacy"]
    assert policies.for_call("other", "other", "other") == PRESETS["privacy"]
    assert policies.for_call("gpt-realtime") == narrow
    assert policies.for_call(team="t1") == PRESETS["kiosk"]
    assert policies.for_call(key_alias="lobby") == strictest(PRESETS["privacy"], mine)
    everything = strictest(strictest(narrow, PRESETS["kiosk"]), mine)
    assert policies.for_call("gpt-realtime", "t1", "lobby") == everything


def test_the_default_may_be_written_in_place() -> None:
    """The policy for every call needs no name."""
    policies = load({"default": {"direction": "recvonly"}, "teams": {"t1": "privacy"}})
    assert policies.for_call() == Policy(direction="recvonly")
    assert policies.for_call(team="t1") == strictest(policies.for_call(), PRESETS["privacy"])


def test_metadata_may_name_a_policy() -> None:
    """A policy that a key or a team asks for makes the call's stricter."""
    policies = load(SETTINGS)
    assert policies.for_call(named="kiosk") == PRESETS["kiosk"]
    both = strictest(PRESETS["kiosk"], Policy(direction="recvonly"))
    assert policies.for_call(named="mine,kiosk") == both
    assert policies.for_call(named="kiosk,mine,kiosk") is policies.for_call(named="mine,kiosk")
    with pytest.raises(NoSuchPolicyError):
        policies.for_call(named="kiosk,")
    with pytest.raises(NoSuchPolicyError) as refusal:
        policies.for_call(named="sk-secret")
    known = "kiosk, low_bandwidth, mine, privacy, strict_firewall, theirs"
    assert str(refusal.value) == f"expected the name of an SDP policy: {known}"


def test_a_contradiction_of_metadata_is_told() -> None:
    """What the start cannot know is not passed over."""
    with pytest.raises(PolicyConflictError, match="direction: nothing satisfies both"):
        load(SETTINGS).for_call(key_alias="lobby", named="theirs")


def test_each_combination_is_merged_once() -> None:
    """The same combination of names gives the same policy, whoever calls."""
    policies = load({**SETTINGS, "keys": {"lobby": "mine", "hall": "mine"}})
    assert policies.for_call(key_alias="lobby") is policies.for_call(key_alias="hall")


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        # Realistic
        pytest.param(
            {
                "policies": {"mine": {}},
                "default": "privcy",
                "models": {"gpt-realtime": "mine", "gpt-mini": "his"},
                "teams": {"t1": "hers"},
                "keys": {"lobby": "kiosk", "hall": "kiosks"},
            },
            [
                f"sdp.default: there is no policy of this name, only {KNOWN}",
                f"sdp.models.gpt-mini: there is no policy of this name, only {KNOWN}",
                f"sdp.teams.t1: there is no policy of this name, only {KNOWN}",
                f"sdp.keys.hall: there is no policy of this name, only {KNOWN}",
            ],
            id="unknown-names",
        ),
        pytest.param(
            {"policies": {"kiosk": {}}},
            ["sdp.policies.kiosk: this name is a preset's; choose another one"],
            id="preset",
        ),
        pytest.param(
            {
                "policies": {"in": {"direction": "recvonly"}, "out": {"direction": "sendonly"}},
                "models": {"a": "in", "b": "in", "c": "privacy"},
                "keys": {"lobby": "out", "hall": "out"},
            },
            [
                (
                    "sdp.models.a and sdp.keys.lobby: direction: "
                    "nothing satisfies both recvonly and sendonly"
                )
            ],
            id="contradiction",
        ),
        pytest.param(
            {"default": {"audio_codecs": ["pcmu"]}, "teams": {"t1": "low_bandwidth"}},
            ["sdp.default and sdp.teams.t1: audio_codecs: nothing satisfies both pcmu and opus"],
            id="contradiction-of-the-default",
        ),
        # Synthetic
        pytest.param(
            {
                "policies": {"in": {"direction": "recvonly"}, "out": {"direction": "sendonly"}},
                "models": {"a": "in", "b": "out"},
            },
            [],
            id="two-models-never-meet",
        ),
    ],
)
def test_what_is_wrong_is_told_at_the_start(settings: dict[str, Any], problems: list[str]) -> None:
    """Unknown names and contradictions stop the start, all of them in one text."""
    if not problems:
        load(settings)
        return
    with pytest.raises(PoliciesError) as refusal:
        load(settings)
    assert isinstance(refusal.value, StartError)
    assert refusal.value.problems == problems
    assert str(refusal.value).splitlines() == [
        "These SDP policies cannot be used:",
        *(f"  {problem}" for problem in problems),
    ]
