"""Who calls, and whether they may: the one way past which every endpoint lets a caller in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from extauthz.catalogue import Catalogue
from extauthz.configuration import Configuration
from extauthz.decision import RequestFacts, bearer_credential
from extauthz.deployments import Deployment
from extauthz.errors import ModelRequiredError, UnknownModelError
from extauthz.keys import KeyQuery, VirtualKey, hash_key
from extauthz.policy import check_key, check_model
from ringback.tokens.claims import CallClaims


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a caller was admitted to.

    Attributes:
        key: The caller's.
        group: The model group.
        deployments: Those of the group that the key may use, in the order of the configuration;
            at least one.
    """

    key: VirtualKey
    group: str
    deployments: tuple[Deployment, ...]


class Admission:
    """Lets callers in.

    Args:
        configuration: Returns the configuration in force.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self, configuration: Callable[[], Configuration], now: Callable[[], float]
    ) -> None:
        self._configuration = configuration
        self._now = now

    async def identify(self, request: RequestFacts) -> VirtualKey:
        """Return the caller's key, which is known, not blocked and not expired.

        Raises:
            AuthError: If there is none: 401.
            KeySourceUnavailableError: If nobody can tell: 503.
        """
        credential = bearer_credential(request.headers)
        return await self._find(KeyQuery(hash_key(credential), credential))

    async def admit(self, key: VirtualKey, model: str | None) -> Admitted:
        """Return what a key is admitted to when it asks for a model.

        Args:
            key: From `identify`.
            model: A group, an alias, or None where the caller leaves it to us.

        Raises:
            ModelRequiredError: If to choose a model would be a guess: 400.
            ModelDeniedError: If the key may not use it: 403.
            UnknownModelError: If the key might use it and nothing serves it: 400.
        """
        catalogue = self._configuration().catalogue
        name = model or catalogue.only_realtime_group()
        if name is None:
            raise ModelRequiredError
        group = catalogue.resolve(name)
        check_model(key, group or name, name)
        if group is None:
            raise UnknownModelError
        return Admitted(key, group, catalogue.deployments(group))

    async def readmit(self, claims: CallClaims) -> VirtualKey:
        """Return a token's key if it could still mint it: a token is as good as its key.

        Raises:
            AuthError: If the key is gone, blocked, expired, or not for that model any more.
            KeySourceUnavailableError: If nobody can tell: 503.
        """
        key = await self._find(
            KeyQuery(claims.key_hash, team=claims.team, user=claims.user),
        )
        check_model(key, claims.model, *_names_of(claims.model, key, self._configuration()))
        return key

    async def _find(self, query: KeyQuery) -> VirtualKey:
        key = await self._configuration().keys.find(query)
        check_key(key, datetime.fromtimestamp(self._now(), UTC))
        assert key is not None  # noqa: S101  check_key refuses None
        return key


def _names_of(group: str, key: VirtualKey, configuration: Configuration) -> tuple[str, ...]:
    """Return the names in a key's list that are aliases of a group."""
    catalogue: Catalogue = configuration.catalogue
    return tuple(name for name in key.models if catalogue.resolve(name) == group)
