"""Which policy holds for a call, from what the settings say about models, teams and keys."""

from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import combinations
from typing import Final

from ringback.errors import StartError
from ringback.sdppolicy import Policy, PolicySettings
from sdpfilter.policy import PRESETS, PolicyConflictError, strictest

_SECTION: Final = "sdp"


class PoliciesError(StartError):
    """The section ``sdp:`` cannot be used; the start stops with exit code 2.

    Args:
        problems: One line each: the setting's name and what is wrong with it.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def __str__(self) -> str:
        return "These SDP policies cannot be used:\n" + "\n".join(
            f"  {problem}" for problem in self.problems
        )


class NoSuchPolicyError(Exception):
    """The policy that a key or a team asks for by name does not exist; the call must not pass.

    Args:
        known: The names that there are.
    """

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def __str__(self) -> str:
        return f"expected the name of an SDP policy: {', '.join(self.known)}"


class Policies:
    """All policies of the settings, each combination merged once.

    Args:
        settings: The section ``sdp:``.

    Raises:
        PoliciesError: If a name is not defined, is a preset's, or if policies that may meet in one
            call contradict each other; lists all of it.
    """

    __slots__ = ("_by_name", "_default", "_keys", "_merged", "_models", "_teams")

    def __init__(self, settings: PolicySettings) -> None:
        self._by_name: Mapping[str, Policy] = {**settings.policies, **PRESETS}
        problems = list(_name_problems(settings, self._by_name)) or list(
            _conflicts(settings, self._by_name)
        )
        if problems:
            raise PoliciesError(problems)
        default = settings.default
        self._default = self._by_name[default] if isinstance(default, str) else default or Policy()
        self._models, self._teams, self._keys = settings.models, settings.teams, settings.keys
        # At most one entry for each combination of names, and those come from the settings.
        self._merged: dict[tuple[str | None, ...], Policy] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all policies, presets included, sorted."""
        return tuple(sorted(self._by_name))

    def for_call(
        self,
        model: str | None = None,
        team: str | None = None,
        key_alias: str | None = None,
        named: str | None = None,
    ) -> Policy:
        """Return the strictest of the policies that apply to a call.

        Args:
            model: The model group.
            team: The team's id.
            key_alias: The virtual key's alias.
            named: What the metadata of the key and the team ask for; several names are separated
                by commas.

        Raises:
            NoSuchPolicyError: If a name in ``named`` is not defined.
            PolicyConflictError: If what applies contradicts itself, which the start finds out for
                any two of the settings' own, but not for three, nor for ``named``.
        """
        asked = [] if named is None else sorted(set(named.split(",")))
        if not self._by_name.keys() >= set(asked):
            raise NoSuchPolicyError(self.names)
        names = (
            self._models.get(model or ""),
            self._teams.get(team or ""),
            self._keys.get(key_alias or ""),
            *asked,
        )
        merged = self._merged.get(names)
        if merged is None:
            applying = [self._by_name[name] for name in names if name is not None]
            merged = reduce(strictest, applying, self._default)
            self._merged[names] = merged
        return merged


def _named(settings: PolicySettings) -> dict[str, dict[str, str]]:
    """Return, for each level, where the settings name a policy, and which."""
    default = {_SECTION + ".default": settings.default}
    return {
        "default": {place: name for place, name in default.items() if isinstance(name, str)},
        **{
            level: {f"{_SECTION}.{level}.{who}": name for who, name in named.items()}
            for level, named in (
                ("models", settings.models),
                ("teams", settings.teams),
                ("keys", settings.keys),
            )
        },
    }


def _name_problems(settings: PolicySettings, known: Mapping[str, Policy]) -> Iterator[str]:
    for name in settings.policies:
        if name in PRESETS:
            yield f"{_SECTION}.policies.{name}: this name is a preset's; choose another one"
    for named in _named(settings).values():
        for place, name in named.items():
            if name not in known:
                names = ", ".join(sorted(known))
                yield f"{place}: there is no policy of this name, only {names}"


def _conflicts(settings: PolicySettings, known: Mapping[str, Policy]) -> Iterator[str]:
    """Find policies of two levels that contradict each other; each pair is told once."""
    levels = [
        {name: (place, known[name]) for place, name in reversed(named.items())}
        for named in _named(settings).values()
    ]
    if isinstance(settings.default, Policy):
        levels[0] = {"": (_SECTION + ".default", settings.default)}
    for one, other in combinations(levels, 2):
        for place, policy in one.values():
            for other_place, other_policy in other.values():
                try:
                    strictest(policy, other_policy)
                except PolicyConflictError as conflict:
                    yield f"{place} and {other_place}: {conflict}"
