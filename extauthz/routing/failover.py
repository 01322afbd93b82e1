"""The plan of a mint: one deployment after another, then those of fallback groups, in one time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from extauthz.catalogue import Group
from extauthz.deployments import Deployment
from extauthz.routersettings import RouterSettings

Predicate = Callable[[Deployment], bool]

# Of what is left of the deadline, while there is another deployment to try.
_SHARE: Final = 0.5
# Providers mint in less; with less than that a healthy one would seem to hang.
_MIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one deployment.

    Attributes:
        deployment: Whom to ask.
        is_alone: Whether its group has no other and no fallback behind it.
        is_last: Whether there is nobody else to ask if it fails.
    """

    deployment: Deployment
    is_alone: bool
    is_last: bool

    def timeout_s(self, left_s: float, settings: RouterSettings) -> float:
        """Return how long the request may take.

        Args:
            left_s: Until the deadline of the whole plan. Of it an attempt gets half, or a second,
                as long as there is somebody else to ask, so that a deployment that hangs leaves
                time for one that does not.
            settings: Its timeout stands in for the deployment's own.
        """
        share = left_s if self.is_last else min(left_s, max(left_s * _SHARE, _MIN_S))
        own = self.deployment.timeout_s or settings.timeout_s
        return share if own is None else min(own, share)


class Plan:
    """Gives attempts until there is nobody left to ask.

    Nobody is asked twice, and nobody who is left alone.

    Args:
        groups: The one that the caller asked for, then its fallbacks.
        settings: How many deployments of a group are tried.
        is_healthy: Tells of a deployment's id whether it may be asked.
        choose: Which of several deployments comes first.
        suits: Tells which deployments count at all.
        guess: Finds what `choose` would, given all of a group and a test of who may be asked,
            without a look at each of them; None where it does not find it so.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        settings: RouterSettings,
        is_healthy: Callable[[str], bool],
        choose: Callable[[Sequence[Deployment]], Deployment],
        *,
        suits: Predicate = lambda _: True,
        guess: Callable[[tuple[Deployment, ...], Predicate], Deployment | None] = lambda *_: None,
    ) -> None:
        self._all = tuple(groups)
        self._groups = list(groups)
        self._settings = settings
        self._is_healthy = is_healthy
        self._choose = choose
        self._suits = suits
        self._guess = guess
        self._tried: set[str] = set()
        # Of the first group: how many were asked, and how many may be after the first of them.
        self._asked = 0
        self._retries: int | None = None

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """All of them, whether they may be asked or not."""
        members = chain.from_iterable(group.deployments for group in self._all)
        return tuple(filter(self._suits, members))

    def next(self) -> Attempt | None:
        """Return whom to ask next, or None."""
        while self._groups:
            group = self._groups[0]
            if self._may_ask() and (deployment := self._pick(group)) is not None:
                return self._attempt(group, deployment)
            self._groups.pop(0)
            self._asked = 0
        return None

    def _attempt(self, group: Group, deployment: Deployment) -> Attempt:
        if self._asked == 0:
            own = deployment.num_retries
            self._retries = self._settings.num_retries if own is None else own
        self._asked += 1
        self._tried.add(deployment.id)
        in_group = self._may_ask() and self._has_candidates(group)
        is_last = not in_group and not any(map(self._has_candidates, self._groups[1:]))
        is_alone = len(self._groups) == 1 and self._has_one(group)
        return Attempt(deployment, is_alone, is_last)

    def _may_ask(self) -> bool:
        return self._asked == 0 or self._retries is None or self._asked <= self._retries

    def _pick(self, group: Group) -> Deployment | None:
        if (found := self._guess(group.deployments, self._is_candidate)) is not None:
            return found
        candidates = list(filter(self._is_candidate, group.deployments))
        return self._choose(candidates) if candidates else None

    def _has_candidates(self, group: Group) -> bool:
        return any(map(self._is_candidate, group.deployments))

    def _has_one(self, group: Group) -> bool:
        return len(list(islice(filter(self._suits, group.deployments), 2))) == 1

    def _is_candidate(self, member: Deployment) -> bool:
        return member.id not in self._tried and self._suits(member) and self._is_healthy(member.id)
