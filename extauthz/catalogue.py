"""All deployments of a configuration, and how they are found by what callers name as ``model``."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Final, Protocol

from extauthz.deployments import WILDCARD, Deployment, Origin

# A name that goes upstream in place of a wildcard: what models are called, no path and no URL.
_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9._:@+-]*"
_UPSTREAM_NAME: Final = re.compile(rf"{_WORD}(/{_WORD})*")
_MAX_NAME_CHARS: Final = 128


class Deployments(Protocol):
    """What a catalogue is made of; `extauthz.litellm.LiteLLMConfig` is one."""

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """All deployments, in the order of the file."""
        ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of groups."""
        ...


@dataclass(frozen=True)
class Group:
    """The deployments that serve a model, as one team sees them.

    Attributes:
        name: The ``model_name`` that they share; where a wildcard matched, the name that it
            matched.
        deployments: In the order of the file, at least one, none of them paused. Those that a
            wildcard found carry the model's name in place of theirs.
    """

    name: str
    deployments: tuple[Deployment, ...]

    @cached_property
    def access_groups(self) -> frozenset[str]:
        """Names by which keys are given access to some of the deployments and not to others."""
        return frozenset(chain.from_iterable(each.access_groups for each in self.deployments))


class Catalogue:
    """Finds deployments; immutable, so that a reload replaces the whole of it at once.

    Args:
        config: The deployments and aliases of one configuration.
    """

    def __init__(self, config: Deployments) -> None:
        groups: dict[str, list[Deployment]] = {}
        for deployment in config.deployments:
            groups.setdefault(deployment.model_name, []).append(deployment)
        self._groups = {name: tuple(members) for name, members in groups.items()}
        # Groups whose members serve everybody, as most do, need no look at each of them.
        self._open = {
            name: Group(name, members)
            for name, members in self._groups.items()
            if all(member.team is None and not member.blocked for member in members)
        }
        self._patterns = sorted(filter(is_wildcard, groups), key=_specificity, reverse=True)
        self._aliases = dict(config.aliases)
        self._by_id = {deployment.id: deployment for deployment in config.deployments}
        # Groups that stand in for a model that is not named, by the team that they are open to.
        self._realtime: dict[str | None, set[str]] = {}
        for deployment in self._by_id.values():
            name, team = deployment.model_name, deployment.team
            if deployment.is_realtime and not is_wildcard(name) and _is_open_to(deployment, team):
                self._realtime.setdefault(team, set()).add(name)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of all groups, wildcards among them, in the order of the file."""
        return tuple(self._groups)

    def find(self, model: str, team: str | None = None) -> Group | None:
        """Return what serves a model, or None.

        As in LiteLLM, an alias wins over a group of the same name: that is how a group is
        redirected; an alias of an alias is not followed. Then come groups, ids of deployments,
        and of the wildcards the one that says most about the name.

        Args:
            model: A group, an alias of one, the id of a deployment, or a name that a wildcard
                matches.
            team: The team of the caller's key. Deployments of a team serve nobody else, and where
                a team has its own, only they serve it.
        """
        name = self._aliases.get(model, model)
        if not is_wildcard(name):
            if name in self._open:
                return self._open[name]
            if members := _open_to(self._groups.get(name, ()), team):
                return Group(name, members)
            if name in self._by_id:
                deployment = self._by_id[name]
                members = () if is_wildcard(deployment.model_name) else (deployment,)
                if members := _open_to(members, team):
                    return Group(deployment.model_name, members)
            return self._match(name, team)
        return None

    def resolve(self, model: str, team: str | None = None) -> str | None:
        """Return the name of the group that serves a model, or None; see `find`."""
        group = self.find(model, team)
        return None if group is None else group.name

    def by_id(self, deployment_id: str) -> Deployment | None:
        """Return the deployment with this id, for example the one that a token is pinned to.

        It may be paused; and where a wildcard found it for a caller, the wildcard is in its names.
        """
        return self._by_id.get(deployment_id)

    def only_realtime_group(self, team: str | None = None) -> str | None:
        """Return the group for requests that name no model, or None if that would be a guess."""
        realtime = self._realtime.get(None, set()) | self._realtime.get(team, set())
        return realtime.pop() if len(realtime) == 1 else None

    def origins(self) -> tuple[Origin, ...]:
        """Return each upstream origin once, sorted; Envoy needs a cluster for each."""
        return tuple(sorted({origin for d in self._by_id.values() for origin in d.origins}))

    def _match(self, name: str, team: str | None) -> Group | None:
        for pattern in self._patterns:
            part = _matched_part(pattern, name)
            if part is not None and (members := _open_to(self._groups[pattern], team)):
                served = tuple(_substitute(member, name, part) for member in members)
                return Group(name, served)
        return None


def is_wildcard(name: str) -> bool:
    """Tell whether a ``model_name`` stands for every name of a form."""
    return WILDCARD in name


def matches(pattern: str, name: str) -> bool:
    """Tell whether a ``model_name`` with a wildcard serves a name."""
    return _matched_part(pattern, name) is not None


def _matched_part(pattern: str, name: str) -> str | None:
    """Return what the wildcard of a pattern stands for in a name that can go upstream."""
    prefix, _, suffix = pattern.partition(WILDCARD)
    long_enough = len(prefix) + len(suffix) < len(name) <= _MAX_NAME_CHARS
    if not (long_enough and name.startswith(prefix) and name.endswith(suffix)):
        return None
    part = name[len(prefix) : len(name) - len(suffix)]
    return part if _UPSTREAM_NAME.fullmatch(part) else None


def _specificity(pattern: str) -> int:
    return len(pattern)


def _substitute(deployment: Deployment, name: str, part: str) -> Deployment:
    upstream_model = deployment.upstream_model.replace(WILDCARD, part)
    return replace(deployment, model_name=name, upstream_model=upstream_model)


def _open_to(deployments: Iterable[Deployment], team: str | None) -> tuple[Deployment, ...]:
    found = tuple(deployment for deployment in deployments if _is_open_to(deployment, team))
    own = tuple(deployment for deployment in found if deployment.team is not None)
    return own or found


def _is_open_to(deployment: Deployment, team: str | None) -> bool:
    return not deployment.blocked and deployment.team in {None, team}
