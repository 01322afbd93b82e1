"""How deployments are chosen and given up, as LiteLLM's ``router_settings`` say. Pure.

Where ``router_settings`` are silent, the same name in ``litellm_settings`` holds, as in LiteLLM.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

from extauthz.catalogue import is_wildcard, matches
from extauthz.fields import Field

Strategy = Literal["simple-shuffle", "least-busy", "latency-based-routing"]
# LiteLLM's default.
COOLDOWN_S: Final = 5.0
# In `fallbacks`: for every group that has none of its own.
ANY_GROUP: Final = "*"
_STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
# They go by tokens and dollars, of which a gateway beside the conversation sees none.
_UNSUPPORTED: Final = frozenset(
    {"usage-based-routing", "usage-based-routing-v2", "cost-based-routing"}
)
_NOT_USED: Final = (
    "allowed_fails_policy",
    "model_group_retry_policy",
    "retry_after",
    "retry_policy",
    "routing_strategy_args",
)


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What is used of both sections.

    Attributes:
        aliases: Other names of groups (``model_group_alias``).
        strategy: Which of the healthy deployments comes first (``routing_strategy``).
        fallbacks: By group, those that mint when all its deployments fail, in this order; under
            `ANY_GROUP` those of all other groups (``fallbacks``, ``default_fallbacks``).
        num_retries: How many further deployments of a group are tried after the first one; None
            is all of them.
        timeout_s: For one request to a deployment that has no timeout of its own.
        allowed_fails: Failures in a minute after which a deployment cools; None: more than half
            of at least five requests.
        cooldown_s: How long it then gets no requests (``cooldown_time``).
        cools: Whether deployments cool at all (not ``disable_cooldowns``).
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    strategy: Strategy = "simple-shuffle"
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    num_retries: int | None = None
    timeout_s: float | None = None
    allowed_fails: int | None = None
    cooldown_s: float = COOLDOWN_S
    cools: bool = True

    def fallbacks_of(self, group: str) -> tuple[str, ...]:
        """Return the groups that stand in for one, best first."""
        names = self.fallbacks.get(group, self.fallbacks.get(ANY_GROUP, ()))
        return tuple(name for name in names if name != group)


@dataclass(frozen=True, slots=True)
class Names:
    """What the settings may refer to.

    Attributes:
        served: Every ``model_name`` with a deployment, wildcards among them.
        written: Every ``model_name`` in ``model_list``, served here or not.
    """

    served: Collection[str]
    written: Collection[str]

    def serves(self, name: str) -> bool:
        """Tell whether a deployment serves a name."""
        return name in self.served or any(
            matches(pattern, name) for pattern in filter(is_wildcard, self.served)
        )

    def may_know(self, name: str) -> bool:
        """Tell whether an entry that is not served here might stand for a name."""
        return name in self.written or any(map(is_wildcard, self.written))


DEFAULT_ROUTER: Final = RouterSettings()


def parse_router(
    router_settings: Field, litellm_settings: Field, names: Names
) -> tuple[RouterSettings, list[str]]:
    """Return what both sections say, and notes; mistakes are noted in the fields.

    Args:
        router_settings: The section, absent if there is none.
        litellm_settings: The same.
        names: What ``model_list`` has.
    """
    return _Parser(router_settings, litellm_settings, names).parse()


class _Parser:
    def __init__(self, router_settings: Field, litellm_settings: Field, names: Names) -> None:
        self._router = router_settings
        self._litellm = litellm_settings
        self._names = names
        self._notes: list[str] = []
        self._aliases: dict[str, str] = {}

    def parse(self) -> tuple[RouterSettings, list[str]]:
        self._router.entries()
        strategy = self._strategy()
        self._read_aliases()
        cooldown_s = self._router.child("cooldown_time").amount()
        settings = RouterSettings(
            aliases=MappingProxyType(self._aliases),
            strategy=strategy,
            fallbacks=MappingProxyType(self._fallbacks()),
            num_retries=self._setting("num_retries").count(),
            timeout_s=self._timeout().positive_number(),
            allowed_fails=self._setting("allowed_fails").count(),
            cooldown_s=COOLDOWN_S if cooldown_s is None else cooldown_s,
            cools=not self._router.child("disable_cooldowns").flag(),
        )
        unused = (self._router.child(name) for name in _NOT_USED)
        self._notes += [f"{f.place}: not used by this version" for f in unused if f.value]
        return settings, self._notes

    def _setting(self, name: str) -> Field:
        own = self._router.child(name)
        return own if own.value is not None else self._litellm.child(name)

    def _timeout(self) -> Field:
        own = self._router.child("timeout")
        return own if own.value is not None else self._litellm.child("request_timeout")

    def _strategy(self) -> Strategy:
        place = self._router.child("routing_strategy")
        name = place.text() or _STRATEGIES[0]
        if name in _STRATEGIES:
            return name
        if name in _UNSUPPORTED:
            self._notes.append(
                f"{place.place}: simple-shuffle is used instead; tokens and costs of conversations "
                "are not seen here"
            )
        else:
            place.problem(f"expected one of {', '.join(_STRATEGIES)}")
        return _STRATEGIES[0]

    def _read_aliases(self) -> None:
        for alias, place in self._router.child("model_group_alias").entries().items():
            target = place.child("model") if isinstance(place.value, dict) else place
            group = target.required_text("write the model_name that it stands for")
            if group and self._is_served(group, target, place.place):
                self._aliases[alias] = group
                if alias in self._names.served:
                    self._notes.append(
                        f"{place.place}: hides the model_name of the same name, as in LiteLLM"
                    )

    def _fallbacks(self) -> dict[str, tuple[str, ...]]:
        fallbacks: dict[str, tuple[str, ...]] = {}
        for entry in self._setting("fallbacks").items():
            for group, targets in entry.entries().items():
                if self._stands_for_a_group(group):
                    fallbacks[self._aliases.get(group, group)] = self._groups(targets.items())
        default = self._setting("default_fallbacks")
        if default.value is not None:
            fallbacks[ANY_GROUP] = self._groups(default.items())
        return fallbacks

    def _stands_for_a_group(self, name: str) -> bool:
        """Tell whether fallbacks are for voice: those of other models are none of our business."""
        return name == ANY_GROUP or name in self._aliases or self._names.serves(name)

    def _groups(self, targets: Iterable[Field]) -> tuple[str, ...]:
        names = [(target, target.required_text("write a model_name")) for target in targets]
        return tuple(
            name
            for target, name in names
            if name and (name in self._aliases or self._is_served(name, target, target.place))
        )

    def _is_served(self, name: str, target: Field, place: str) -> bool:
        if self._names.serves(name):
            return True
        if self._names.may_know(name):
            self._notes.append(f"{place}: not used: that model is not served here")
        else:
            target.problem("is the model_name of no entry in model_list; correct it")
        return False
