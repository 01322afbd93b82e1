"""What is known of all deployments, and the plans that are made of it."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from extauthz.catalogue import Catalogue, Group, is_wildcard
from extauthz.deployments import Deployment
from extauthz.routersettings import DEFAULT_ROUTER, RouterSettings
from extauthz.routing.choice import Lottery, choose, is_unbeaten
from extauthz.routing.cooldown import Cooldowns
from extauthz.routing.errors import DeploymentsCoolingError
from extauthz.routing.failover import Attempt, Plan, Predicate
from extauthz.routing.failures import FailureKind, is_failure, kind_of, retry_after_s
from extauthz.routing.health import Health
from ringback.errors import ApiError
from ringback.upstream import UpstreamTimeoutError

# Of so many deployments one is drawn before all are looked at, and again if it is of no use.
_MANY: Final = 32
_DRAWS: Final = 8
# Groups whose lottery is kept; those of an earlier configuration go in time.
_MAX_LOTTERIES: Final = 256

OnCooled = Callable[[str, float, FailureKind], None]


class Routed(Protocol):
    """The part of a configuration that routing goes by."""

    @property
    def catalogue(self) -> Catalogue:
        """Finds fallback groups."""
        ...

    @property
    def router(self) -> RouterSettings:
        """How deployments are chosen."""
        ...


class Router:
    """Plans mints, and learns from how they end. One for each worker; reloads leave it as it is.

    Args:
        current: Returns the configuration in force; None: no fallbacks, default settings.
        cooldowns: Which deployments are left alone.
        on_cooled: Is told when a deployment begins to be left alone: its id, for how many
            seconds, and why.
        clock: Seconds that never go back.
        draw: Draws among deployments.
    """

    def __init__(
        self,
        current: Callable[[], Routed] | None = None,
        *,
        cooldowns: Cooldowns | None = None,
        on_cooled: OnCooled = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
    ) -> None:
        self._cooldowns = cooldowns or Cooldowns(clock)
        self._current = current
        self._on_cooled = on_cooled
        self._clock = clock
        self._health = Health(clock)
        self._draw = draw or random.Random()  # noqa: S311  no secret depends on it
        self._lotteries: dict[int, Lottery] = {}

    @property
    def settings(self) -> RouterSettings:
        """Those in force."""
        return DEFAULT_ROUTER if self._current is None else self._current().router

    def plan(
        self,
        group: Group,
        team: str | None,
        suits: Callable[[Deployment], bool] = lambda _: True,
        *,
        may_spend: bool = True,
    ) -> Plan:
        """Return whom to ask, one after another.

        Args:
            group: What the caller was admitted to.
            team: The team of the caller's key, whose own deployments are among the fallbacks. A
                key need not be admitted to a fallback group itself, as in LiteLLM: whoever
                configures it says that it stands in for the other.
            suits: Tells whether a deployment can do what is asked for. Where none can, all are
                asked, so that one of them says so.
            may_spend: Whether a fallback may cost something.
        """
        fallbacks = self._fallbacks(group.name, team)
        if not may_spend:
            fallbacks = [
                found for found in fallbacks if all(each.is_free for each in found.deployments)
            ]
        groups = [group, *fallbacks]
        fit = [one for one in groups if any(map(suits, one.deployments))]
        return self._plan(fit, suits) if fit else self._plan(groups)

    def choose(self, deployments: Sequence[Deployment]) -> Deployment:
        """Return whom to ask where there is one try only, and its end is not seen here.

        Args:
            deployments: Those of a group, at least one.

        Raises:
            DeploymentsCoolingError: If all of them are left alone: 503, or 429.
        """
        attempt = self._plan([Group("", tuple(deployments))]).next()
        if attempt is None:
            raise self.nobody(deployments)
        return attempt.deployment

    def nobody(self, deployments: Sequence[Deployment]) -> DeploymentsCoolingError:
        """Return the error where nobody is asked, since all of these are left alone."""
        waits = [self._cooldowns.left_s(deployment.id) for deployment in deployments]
        kinds = {self._cooldowns.kind(deployment.id) for deployment in deployments}
        return DeploymentsCoolingError(min(waits), are_limited=kinds == {"rate_limited"})

    @contextmanager
    def watch(self, attempt: Attempt) -> Iterator[None]:
        """Learn from how an attempt ends: a success, a failure of the deployment, or neither.

        Neither is a caller's own mistake, and a caller that gives up.
        """
        deployment_id, begin = attempt.deployment.id, self._clock()
        seconds: float | None = None
        self._health.begin(deployment_id)
        try:
            yield
            seconds = self._clock() - begin
            self._cooldowns.succeed(deployment_id)
        except ApiError as error:
            # Other failures come fast and say nothing about how fast a success would be.
            if isinstance(error, UpstreamTimeoutError):
                seconds = self._clock() - begin
            if is_failure(error):
                self._fail(attempt, error)
            raise
        finally:
            self._health.end(deployment_id, seconds)

    def _plan(self, groups: Sequence[Group], suits: Predicate = lambda _: True) -> Plan:
        settings = self.settings
        return Plan(
            groups,
            settings,
            lambda deployment_id: not self._cooldowns.left_s(deployment_id),
            lambda candidates: choose(candidates, settings.strategy, self._health, self._draw),
            suits=suits,
            guess=self._guess,
        )

    def _guess(
        self, deployments: tuple[Deployment, ...], may_be_asked: Predicate
    ) -> Deployment | None:
        if len(deployments) < _MANY:
            return None
        lottery, strategy = self._lottery(deployments), self.settings.strategy
        for _ in range(_DRAWS):
            drawn = lottery.draw(self._draw)
            if may_be_asked(drawn) and is_unbeaten(drawn, strategy, self._health):
                return drawn
        return None

    def _lottery(self, deployments: tuple[Deployment, ...]) -> Lottery:
        # By identity: to compare or to hash them would be to look at each.
        known = self._lotteries.get(id(deployments))
        if known is not None and known.deployments is deployments:
            return known
        if len(self._lotteries) >= _MAX_LOTTERIES:
            self._lotteries.clear()
        lottery = self._lotteries[id(deployments)] = Lottery(deployments)
        return lottery

    def _fail(self, attempt: Attempt, error: ApiError) -> None:
        deployment, kind = attempt.deployment, kind_of(error)
        cooled_s = self._cooldowns.fail(
            deployment,
            kind,
            retry_after_s(error),
            self.settings,
            is_alone=attempt.is_alone,
            is_of_many=self._is_of_many(deployment),
        )
        if cooled_s:
            self._on_cooled(deployment.id, cooled_s, kind)

    def _is_of_many(self, deployment: Deployment) -> bool:
        # Where a wildcard found it, it carries the model's name here, and the wildcard there.
        known = None if self._current is None else self._current().catalogue.by_id(deployment.id)
        return known is not None and is_wildcard(known.model_name)

    def _fallbacks(self, group: str, team: str | None) -> list[Group]:
        if self._current is None:
            return []
        current = self._current()
        groups = (current.catalogue.find(name, team) for name in current.router.fallbacks_of(group))
        # An alias of the group itself would reopen deployments that the key may not use.
        return [found for found in groups if found is not None and found.name != group]
