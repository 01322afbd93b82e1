from typing import Any

import pytest

from extauthz.fields import Field
from extauthz.routersettings import DEFAULT_ROUTER, Names, RouterSettings, parse_router

# `claude` is written in model_list and served by a provider that is not spoken here.
NAMES = Names({"voice", "spare", "gpt-*"}, {"voice", "spare", "gpt-*", "claude"})
PLAIN_NAMES = Names({"voice", "spare"}, {"voice", "spare", "claude"})


def parse(
    router: Any, litellm: Any = None, names: Names = NAMES
) -> tuple[RouterSettings, list[str], list[str]]:
    """Return settings, notes and problems of two sections."""
    problems: list[str] = []
    settings, notes = parse_router(
        Field(router, "r", problems, {"RETRIES": "3"}), Field(litellm, "l", problems, {}), names
    )
    return settings, notes, problems


@pytest.mark.parametrize(
    ("router", "litellm", "expected"),
    [
        # Realistic
        pytest.param(None, None, {}, id="absent"),
        pytest.param({"routing_strategy": "simple-shuffle"}, None, {}, id="default-strategy"),
        pytest.param(
            {"routing_strategy": "least-busy"}, None, {"strategy": "least-busy"}, id="least-busy"
        ),
        pytest.param(
            {"routing_strategy": "latency-based-routing"},
            None,
            {"strategy": "latency-based-routing"},
            id="latency",
        ),
        pytest.param(
            {"num_retries": 2, "timeout": 8, "allowed_fails": 3, "cooldown_time": 30},
            None,
            {"num_retries": 2, "timeout_s": 8, "allowed_fails": 3, "cooldown_s": 30},
            id="numbers",
        ),
        pytest.param({"disable_cooldowns": True}, None, {"cools": False}, id="no-cooldowns"),
        pytest.param(
            {"fallbacks": [{"voice": ["spare", "gpt-realtime"]}]},
            None,
            {"fallbacks": {"voice": ("spare", "gpt-realtime")}},
            id="fallbacks",
        ),
        pytest.param(
            {"default_fallbacks": ["spare"]},
            None,
            {"fallbacks": {"*": ("spare",)}},
            id="default-fallbacks",
        ),
        pytest.param(
            {"fallbacks": [{"*": ["spare"]}]}, None, {"fallbacks": {"*": ("spare",)}}, id="star"
        ),
        pytest.param(
            {"fallbacks": [{"voice": ["spare"]}], "default_fallbacks": ["voice"]},
            None,
            {"fallbacks": {"voice": ("spare",), "*": ("voice",)}},
            id="both",
        ),
        pytest.param(
            None,
            {"num_retries": 1, "request_timeout": 9, "allowed_fails": 0, "drop_params": True},
            {"num_retries": 1, "timeout_s": 9, "allowed_fails": 0},
            id="litellm-settings",
        ),
        pytest.param(
            None,
            {"fallbacks": [{"voice": ["spare"]}], "default_fallbacks": ["spare"]},
            {"fallbacks": {"voice": ("spare",), "*": ("spare",)}},
            id="litellm-fallbacks",
        ),
        # Synthetic
        pytest.param(
            {"num_retries": 0, "timeout": 3},
            {"num_retries": 5, "request_timeout": 9},
            {"num_retries": 0, "timeout_s": 3},
            id="router-settings-first",
        ),
        pytest.param(
            {"num_retries": "os.environ/RETRIES"}, None, {"num_retries": 3}, id="variable"
        ),
        pytest.param(
            {"model_group_alias": {"a": "voice"}, "fallbacks": [{"a": ["spare"]}]},
            None,
            {"aliases": {"a": "voice"}, "fallbacks": {"voice": ("spare",)}},
            id="fallbacks-of-an-alias",
        ),
        pytest.param(
            {"model_group_alias": {"a": "spare"}, "fallbacks": [{"voice": ["a"]}]},
            None,
            {"aliases": {"a": "spare"}, "fallbacks": {"voice": ("a",)}},
            id="fallback-to-an-alias",
        ),
        pytest.param(
            {"model_group_alias": {"a": {"model": "gpt-x", "hidden": True}}},
            None,
            {"aliases": {"a": "gpt-x"}},
            id="alias-of-what-a-wildcard-serves",
        ),
        pytest.param({"cooldown_time": 0}, None, {"cooldown_s": 0}, id="zero"),
        pytest.param(
            {"fallbacks": [{"chat": ["unknown"]}]}, None, {}, id="fallbacks-of-other-models"
        ),
    ],
)
def test_settings(router: Any, litellm: Any, expected: dict[str, Any]) -> None:
    """Both sections are read; the router's own word comes first."""
    settings, notes, problems = parse(router, litellm)
    assert (notes, problems) == ([], [])
    for name in RouterSettings.__slots__:
        assert getattr(settings, name) == expected.get(name, getattr(DEFAULT_ROUTER, name)), name


SHUFFLED = "simple-shuffle is used instead; tokens and costs of conversations are not seen here"
NOT_SERVED = "not used: that model is not served here"


@pytest.mark.parametrize(
    ("router", "notes"),
    [
        # Realistic
        pytest.param(
            {"routing_strategy": "usage-based-routing-v2"},
            [f"r.routing_strategy: {SHUFFLED}"],
            id="usage",
        ),
        pytest.param(
            {"routing_strategy": "cost-based-routing"},
            [f"r.routing_strategy: {SHUFFLED}"],
            id="cost",
        ),
        pytest.param(
            {"fallbacks": [{"voice": ["claude", "spare"]}]},
            [f"r.fallbacks[0].voice[0]: {NOT_SERVED}"],
            id="fallback-to-another-provider",
        ),
        pytest.param(
            {"retry_policy": {"x": 1}, "retry_after": 2},
            ["r.retry_after: not used by this version", "r.retry_policy: not used by this version"],
            id="policies",
        ),
        pytest.param(
            {"model_group_alias": {"voice": "spare"}},
            [("r.model_group_alias.voice: hides the model_name of the same name, as in LiteLLM")],
            id="hiding-alias",
        ),
    ],
)
def test_what_is_not_used_is_noted(router: Any, notes: list[str]) -> None:
    """What an operator might count on in vain is noted; the rest counts."""
    _, found, problems = parse(router, names=PLAIN_NAMES)
    assert (found, problems) == (notes, [])


UNKNOWN = "is the model_name of no entry in model_list; correct it"
LINES = "expected `name: value` lines"


@pytest.mark.parametrize(
    ("router", "problems"),
    [
        # Realistic
        pytest.param(
            {"routing_strategy": "fastest"},
            [
                (
                    "r.routing_strategy: expected one of simple-shuffle, least-busy, "
                    "latency-based-routing"
                )
            ],
            id="strategy",
        ),
        pytest.param(
            {"fallbacks": [{"voice": ["typo"]}], "default_fallbacks": ["typo"]},
            [f"r.fallbacks[0].voice[0]: {UNKNOWN}", f"r.default_fallbacks[0]: {UNKNOWN}"],
            id="unknown-groups",
        ),
        pytest.param(
            {"num_retries": -1, "allowed_fails": 1.5, "timeout": 0, "cooldown_time": "x"},
            [
                "r.cooldown_time: expected a number from 0 on",
                "r.num_retries: expected a whole number from 0 on",
                "r.timeout: expected a number above 0",
                "r.allowed_fails: expected a whole number from 0 on",
            ],
            id="numbers",
        ),
        # Synthetic
        pytest.param(
            {"disable_cooldowns": "yes"}, ["r.disable_cooldowns: expected true or false"], id="flag"
        ),
        pytest.param(
            {"fallbacks": {"voice": ["spare"]}},
            ["r.fallbacks: expected a list, one `- ` per entry"],
            id="fallbacks-as-a-mapping",
        ),
        pytest.param(
            {"fallbacks": ["voice", {"voice": "spare"}, {"voice": [None]}]},
            [
                f"r.fallbacks[0]: {LINES}",
                "r.fallbacks[1].voice: expected a list, one `- ` per entry",
                "r.fallbacks[2].voice[0]: is missing; write a model_name",
            ],
            id="fallbacks-of-other-forms",
        ),
        # Pathological
        pytest.param([1], [f"r: {LINES}"], id="a-list"),
        pytest.param("x", [f"r: {LINES}"], id="a-word"),
    ],
)
def test_mistakes(router: Any, problems: list[str]) -> None:
    """Every mistake is named by its place."""
    _, _, found = parse(router, names=PLAIN_NAMES)
    assert found == problems
