"""Who calls, and whether they may: the one way past which every endpoint lets a caller in."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from extauthz.access import (
    HeldBudget,
    Wanted,
    check_address,
    check_budgets,
    check_key,
    check_model,
    check_owners,
    check_route,
    held_budgets,
    resolve,
)
from extauthz.access.errors import ModelDeniedError
from extauthz.configuration import Configuration
from extauthz.credentials import caller_credential, has_credential
from extauthz.decision import RequestFacts
from extauthz.deployments import Deployment
from extauthz.errors import ModelRequiredError, UnknownModelError
from extauthz.keys import KeyQuery, VirtualKey, hash_key
from extauthz.limits.limiter import Limiter
from extauthz.limits.memory import MemoryStore
from ringback import tracing
from ringback.contract import CALLS_PATHS, CLIENT_SECRETS_PATHS, TRANSCRIPTION_SESSIONS_PATHS
from ringback.tokens.claims import CallClaims

MINT_PATHS: Final = CLIENT_SECRETS_PATHS | TRANSCRIPTION_SESSIONS_PATHS
# How old, in seconds, what is known of a token's key may be.
REVOCATION_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a caller was admitted to.

    Attributes:
        key: The caller's.
        group: The model group.
        deployments: Those of the group that the key may use, in the order of the configuration;
            at least one.
        further: What serves the other models that the request names, by name.
        may_spend: Whether all budgets have something left; if not, the deployments cost nothing,
            and a fallback must not cost anything either.
    """

    key: VirtualKey
    group: str
    deployments: tuple[Deployment, ...]
    further: Mapping[str, tuple[Deployment, ...]] = field(default_factory=dict)
    may_spend: bool = True


@dataclass(frozen=True, slots=True)
class Standpoint:
    """By which a call is open; attributes as in `CallClaims`."""

    key_hash: str
    model: str
    deployment: str
    asked: str | None = None
    team: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Readmitted:
    """A key that may still do what it was admitted to, whatever its budgets say.

    Attributes:
        key: As it is now.
        wanted: The model.
        deployments: Those of its group that the key may use.
        pinned: The deployment that minted; None if there is none any more.
    """

    key: VirtualKey
    wanted: Wanted
    deployments: tuple[Deployment, ...]
    pinned: Deployment | None


class Admission:
    """Lets callers in.

    Args:
        configuration: Returns the configuration in force.
        now: The time in seconds since the epoch.
        revocation_s: How long a token may outlive the right to mint it.
        limiter: Counts those that it lets in; in this process alone by default.
    """

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        now: Callable[[], float],
        revocation_s: float = REVOCATION_S,
        limiter: Limiter | None = None,
    ) -> None:
        self._configuration = configuration
        self._now = now
        self._revocation_s = revocation_s
        self._limiter = limiter or Limiter(MemoryStore())

    def shows_key(self, request: RequestFacts) -> bool:
        """Tell whether a caller shows anything as a key, good or bad."""
        return has_credential(request.headers, self._configuration().general.key_header)

    async def identify(self, request: RequestFacts) -> VirtualKey:
        """Return the caller's key, which may call the path of the request.

        It is known, not blocked, not expired, and neither are those that it belongs to.

        Raises:
            AuthError: If there is none: 401; if its team is gone: 404; if it may not call the
                path, or not from this address: 403.
            KeySourceUnavailableError: If nobody can tell: 503.
        """
        general = self._configuration().general
        check_address(request.address, general.allowed_ips)
        credential = caller_credential(request.headers, general.key_header)
        key = await self._find(KeyQuery(hash_key(credential), credential))
        check_route(key, request.path)
        check_owners(key)
        return key

    async def admit(
        self, key: VirtualKey, model: str | None, further: Sequence[str] = ()
    ) -> Admitted:
        """Return what a key is admitted to when it asks for a model.

        Args:
            key: From `identify`.
            model: A group, an alias, or None where the caller leaves it to us.
            further: Names of other models in the request, which the key must be allowed to use
                too, whether they are served here or not.

        Raises:
            ModelRequiredError: If to choose a model would be a guess: 400.
            ModelDeniedError: If the key may not use one of the models: 403.
            BudgetExceededError: If a budget is used up: 422, or 429 by the settings.
            UnknownModelError: If the key might use the model and nothing serves it: 400.
            RateLimitedError: If the key has asked as often as it may: 429.
            TooManyAtOnceError: If as many of its requests as may be are being answered: 429.
            LimitsUnavailableError: If nobody can tell: 503.
        """
        catalogue = self._configuration().catalogue
        name = model or catalogue.only_realtime_group(key.team)
        if name is None:
            raise ModelRequiredError
        wanted = resolve(key, name, catalogue)
        deployments = check_model(key, wanted)
        others = {other: check_model(key, resolve(key, other, catalogue)) for other in further}
        # A further model that nobody serves here may cost something at the provider.
        used = chain(deployments, *others.values()) if all(others.values()) else ()
        may_spend = self._check_budgets(key, wanted, used)
        if wanted.group is None:
            raise UnknownModelError
        await self._limiter.take(key, wanted.group, wanted.asked, *wanted.names)
        return Admitted(key, wanted.group, deployments, others, may_spend)

    def in_flight(self, key: VirtualKey) -> AbstractContextManager[None]:
        """Return a block around the work for an admitted request (``max_parallel_requests``).

        Raises:
            TooManyAtOnceError: On entry, if as many as may be are being answered: 429.
        """
        return self._limiter.in_flight(key)

    async def readmit(self, claims: CallClaims) -> VirtualKey:
        """Return a token's key if it could still mint it: a token is as good as its key.

        Raises:
            AuthError: If the key is gone, blocked, expired, or not for that model any more, or
                if its team is.
            BudgetExceededError: If a budget is used up: 422, or 429 by the settings.
            KeySourceUnavailableError: If nobody can tell: 503.
        """
        found = await self.find_again(claims, self._revocation_s)
        # A fallback may have minted it, which may cost something where the group does not.
        used = chain(found.deployments, () if found.pinned is None else (found.pinned,))
        self._check_budgets(found.key, found.wanted, used)
        return found.key

    async def find_again(self, call: CallClaims | Standpoint, max_age_s: float) -> Readmitted:
        """Return a key that may still open a call, or keep one open, but for its budgets.

        Args:
            call: What the key was admitted to.
            max_age_s: How old what is known of the key may be.

        Raises:
            AuthError, KeySourceUnavailableError: As `readmit`.
        """
        key = await self._find_by_hash(call, max_age_s)
        check_route(key, *MINT_PATHS, *CALLS_PATHS)
        check_owners(key)
        wanted = self.wanted_by(key, call)
        deployments = check_model(key, wanted)
        lost: set[str] = set()
        if deployments is not wanted.deployments:
            lost = {deployment.id for deployment in wanted.deployments}
            lost -= {deployment.id for deployment in deployments}
        pinned = self._configuration().catalogue.by_id(call.deployment)
        is_of_others = pinned is not None and pinned.team not in {None, key.team}
        if is_of_others or call.deployment in lost:
            raise ModelDeniedError
        return Readmitted(key, wanted, deployments, pinned)

    def wanted_by(self, key: VirtualKey, call: CallClaims | Standpoint) -> Wanted:
        """Return the model of a call, by the name that the caller asked for if that still fits."""
        catalogue = self._configuration().catalogue
        wanted = resolve(key, call.asked or call.model, catalogue)
        if wanted.group != call.model:
            # The alias means another model by now.
            wanted = resolve(key, call.model, catalogue)
        return wanted

    def budgets_of(self, key: VirtualKey, wanted: Wanted) -> Iterator[HeldBudget]:
        """Give all budgets with a limit that hold for a key and a model."""
        return held_budgets(key, wanted, self._time(), self._configuration().general)

    async def count(self, claims: CallClaims, key: VirtualKey | None = None) -> None:
        """Count a request with a token that is about to leave: it is one like any other.

        Args:
            claims: Of a token that `readmit` admits.
            key: The token's, if it is at hand.

        Raises:
            RateLimitedError, TooManyAtOnceError, LimitsUnavailableError: As `admit`.
        """
        key = key or await self._find_by_hash(claims, self._revocation_s)
        wanted = resolve(key, claims.asked or claims.model, self._configuration().catalogue)
        await self._limiter.take(key, claims.model, wanted.asked, *wanted.names)

    async def _find_by_hash(self, call: CallClaims | Standpoint, max_age_s: float) -> VirtualKey:
        query = KeyQuery(call.key_hash, team=call.team, user=call.user, max_age_s=max_age_s)
        return await self._find(query)

    async def _find(self, query: KeyQuery) -> VirtualKey:
        with tracing.span("extauthz.find_key"):
            key = await self._configuration().keys.find(query)
        check_key(key, self._time())
        assert key is not None  # noqa: S101  check_key refuses None
        return key

    def _check_budgets(
        self, key: VirtualKey, wanted: Wanted, deployments: Iterable[Deployment]
    ) -> bool:
        general = self._configuration().general
        return check_budgets(key, wanted, deployments, self._time(), general)

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)
