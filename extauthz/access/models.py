"""Which models a key may use, and at which deployments.

A key, its team, its membership in the team, its user and its project may each have a list of
models; all of them have to admit the requested one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from extauthz.access.errors import ModelDeniedError, Refuser
from extauthz.access.wildcards import matches
from extauthz.catalogue import Catalogue
from extauthz.deployments import Deployment
from extauthz.keys.model import AccessGroup, VirtualKey

# Entries of a list that stand for every model.
ALL_MODELS: Final = frozenset({"*", "all-proxy-models"})
# In a key's list: the team's list takes its place. In a team's: every model that is served.
_ALL_TEAM_MODELS: Final = "all-team-models"
# The name of no model. In a user's list: nothing for personal keys, whatever else it names.
_NO_MODELS: Final = "no-default-models"
# Entries that are no names.
WORDS: Final = ALL_MODELS | {_ALL_TEAM_MODELS, _NO_MODELS}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that a caller asks for, and what it stands for.

    Attributes:
        asked: The name in the request.
        group: The model group that serves it, or None.
        names: Those by which lists may admit it: the one in the request, unless it leads to an
            alias of the key, what the aliases of team and key stand for, and the group.
        deployments: Those of the group that serve the key's team, in the order of the
            configuration; none if there is no group.
        is_team_alias: Whether the team has this name for a model, which the lists of its keys and
            its own need not name.
        access_groups: Names by which lists admit to some of the deployments and not to others.
    """

    asked: str
    group: str | None
    names: frozenset[str]
    deployments: tuple[Deployment, ...] = ()
    is_team_alias: bool = False
    access_groups: frozenset[str] = frozenset()


def resolve(key: VirtualKey, asked: str, catalogue: Catalogue) -> Wanted:
    """Return what a name stands for when a key asks for it.

    Aliases are followed once each: the team's, then the key's, then the router's. Lists see the
    target of a key's alias only, so that an alias of a key widens nothing.

    Args:
        key: The caller's.
        asked: The name in the request.
        catalogue: Knows the router's aliases, groups and deployments.
    """
    team_target = _target_of_team(key, asked, catalogue)
    name = asked if team_target is None else team_target
    target = key.aliases.get(name, name)
    is_of_key = name in key.aliases
    is_team_alias = team_target is not None and not is_of_key
    names = {target} if is_of_key else {asked, target}
    found = catalogue.find(target, key.team)
    if found is None:
        return Wanted(asked, None, frozenset(names), (), is_team_alias)
    return Wanted(
        asked,
        found.name,
        frozenset({*names, found.name}),
        found.deployments,
        is_team_alias,
        found.access_groups,
    )


def _target_of_team(key: VirtualKey, asked: str, catalogue: Catalogue) -> str | None:
    """Return what an alias of the team stands for; None if the name is none."""
    target = key.team_aliases.get(asked)
    # LiteLLM's own name for a deployment of a team; the alias stays when the deployment has gone.
    is_internal = target is not None and target.startswith(f"model_name_{key.team}_")
    return None if is_internal and catalogue.find(target or "", key.team) is None else target


def check_model(key: VirtualKey, wanted: Wanted) -> tuple[Deployment, ...]:
    """Check that a key may use a model, and return the deployments that may serve it.

    A model that no deployment serves is checked too, so that only keys that might use it learn
    that it does not exist. Where a list names an access group of some of the deployments
    (``model_info.access_groups``), only those may serve it.

    Args:
        key: A key that has passed `check_key`.
        wanted: From `resolve`.

    Raises:
        ModelDeniedError: If one of the lists refuses: 403.
    """
    if key.is_master:
        return wanted.deployments
    remaining = wanted.deployments
    for refuser, models in _lists(key):
        if refuser == "user" and _NO_MODELS in models:
            raise ModelDeniedError("key")
        is_exempt = wanted.is_team_alias and refuser in {"key", "team"}
        if not is_exempt and not _admits(refuser, models, key, wanted):
            raise ModelDeniedError(refuser)
        open_to = _open_to(models, wanted)
        if open_to is not wanted.deployments:
            ids = {deployment.id for deployment in open_to}
            remaining = tuple(deployment for deployment in remaining if deployment.id in ids)
        if wanted.deployments and not remaining:
            raise ModelDeniedError(refuser)
    return remaining


def _lists(key: VirtualKey) -> Iterator[tuple[Refuser, tuple[str, ...]]]:
    """Give all lists that hold for a key, in LiteLLM's order."""
    yield "key", _list_of_key(key)
    if key.team_scope is not None:
        yield "team", key.team_scope.models
    if key.member is not None:
        yield "member", key.member.models
    if key.user_scope is not None and key.team is None:
        yield "user", key.user_scope.models
    if key.project is not None:
        yield "project", key.project.models


def _list_of_key(key: VirtualKey) -> tuple[str, ...]:
    if _ALL_TEAM_MODELS not in key.models:
        return key.models
    if key.team_scope is not None:
        return key.team_scope.models
    # A source that does not know the team cannot say what the team may use.
    return () if key.team is None else (_NO_MODELS,)


def _admits(
    refuser: Refuser,
    models: tuple[str, ...],
    key: VirtualKey,
    wanted: Wanted,
) -> bool:
    if not models or _names(models, wanted):
        return True
    if refuser in {"key", "team"} and _ALL_TEAM_MODELS in models and wanted.group is not None:
        return True
    if not wanted.access_groups.isdisjoint(models):
        return True
    return any(_names(group.models, wanted) for group in _groups(refuser, key))


def _names(models: Iterable[str], wanted: Wanted) -> bool:
    return any(
        model in ALL_MODELS or any(matches(model, name) for name in wanted.names)
        for model in models
    )


def _groups(refuser: Refuser, key: VirtualKey) -> Iterator[AccessGroup]:
    """Give the groups of the access group table that add to a list."""
    for group in key.access_groups:
        is_assigned = key.team in group.teams or key.hash in group.keys
        if (refuser == "key" and group.of_key) or (
            refuser == "team" and (group.of_team or (group.of_key and is_assigned))
        ):
            yield group


def _open_to(models: tuple[str, ...], wanted: Wanted) -> tuple[Deployment, ...]:
    """Return those that a list leaves: if it names an access group of some, only these."""
    named = wanted.access_groups.intersection(models)
    if not named:
        return wanted.deployments
    return tuple(each for each in wanted.deployments if not named.isdisjoint(each.access_groups))
