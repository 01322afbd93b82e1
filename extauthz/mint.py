"""``client_secrets``: mints an ephemeral key upstream and hands out a sealed token instead."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from extauthz.admission import Admitted
from extauthz.catalogue import Group
from extauthz.decision import Answer, labels_of
from extauthz.deployments import Deployment
from extauthz.metrics import MINT_ATTEMPTS, MINT_SECONDS
from extauthz.mintbody import Minted, MintRequest
from extauthz.mintclaims import check_alive, claims_of
from extauthz.mintrequest import MintRequests, can_mint
from extauthz.routing import Router
from extauthz.routing.failover import Attempt
from extauthz.routing.failures import is_failure, most_useful
from ringback import tracing
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import CannotSealError, TokenError
from ringback.tokens.jwe import Sealer
from ringback.upstream import UpstreamFailedError, UpstreamTimeoutError


class MintTimeoutError(UpstreamTimeoutError):
    """Nobody minted before the deadline: 504.

    Args:
        deadline_s: How long all attempts together may take, in seconds.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s

    def __str__(self) -> str:
        return (
            f"No provider answered in time; all attempts have {self.deadline_s:g} s together. "
            "Try again shortly."
        )


class SealingUnavailableError(ApiError):
    """There is no key that may seal a token: 503; the log of the gateway says why."""

    http_status = 503
    type = "service_unavailable"
    code = "sealing_unavailable"

    def __str__(self) -> str:
        return (
            "Tokens cannot be made at the moment. "
            "Tell your platform team: the gateway needs another sealing key."
        )


class MintFailedError(ApiError):
    """No deployment minted: the most useful of the reasons, in whose words the caller is answered.

    Args:
        error: The reason.
        deployment: The id of the last one that was asked, None if none was.
    """

    def __init__(self, error: ApiError, deployment: str | None) -> None:
        self.error = error
        self.deployment = deployment
        self.http_status = error.http_status
        self.type = error.type
        self.code = error.code
        self.param = error.param
        self.headers = error.headers

    def to_object(self) -> dict[str, str | None]:
        """Return the error object of the reason."""
        return self.error.to_object()

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True, slots=True)
class MintedAt:
    """An ephemeral key, and the one deployment that takes it.

    Attributes:
        deployment: Which minted.
        minted: What its provider answered, the ephemeral key in it.
        claims: What a token for it says; `extauthz.calls.allow_call` takes them without one, too.
        identifier: What the provider was told of who calls, if anything.
    """

    deployment: Deployment
    minted: Minted
    claims: CallClaims
    identifier: Secret | None = None


class Minter:
    """Mints tokens.

    Args:
        requests: Asks deployments.
        sealer: From `ringback.tokens.token_sealer`.
        settings: Lifetimes and timeouts.
        now: The time in seconds since the epoch.
        router: Says which deployments are asked, and learns how they answer.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        requests: MintRequests,
        sealer: Sealer,
        settings: Settings,
        now: Callable[[], float],
        *,
        router: Router | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = requests
        self._sealer = sealer
        self._settings = settings
        self._now = now
        self._router = router or Router()
        self._clock = clock

    async def mint(
        self,
        request: MintRequest,
        admitted: Admitted,
        safety_identifier: str | None,
    ) -> Answer:
        """Return the answer to the downstream: the provider's, with a sealed token in it.

        Args:
            request: What the caller asks for.
            admitted: Who asks, and who may mint.
            safety_identifier: The caller's ``OpenAI-Safety-Identifier``, passed on.

        Raises:
            MintFailedError: If no deployment mints.
            InvalidSafetyIdentifierError: If it cannot be passed on: 400.
            SealingUnavailableError: If no key may seal: 503; nothing is minted then.
        """
        try:
            self._sealer.check_can_seal(self._now())
        except CannotSealError:
            raise SealingUnavailableError from None
        made = await self.obtain(request, admitted, safety_identifier)
        claims = made.claims
        try:
            token = self._sealer.seal(claims.to_claims(), claims.iat)
            body = made.minted.downstream_body(token, claims.exp)
        except CannotSealError as error:
            raise MintFailedError(SealingUnavailableError(), made.deployment.id) from error
        except (ValueError, TokenError, UpstreamFailedError) as error:
            # What is minted cannot be sealed, an ephemeral key of 4 kB for example.
            raise MintFailedError(UpstreamFailedError(), made.deployment.id) from error
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        return Answer(200, body, labels_of(claims, "minted"), headers)

    async def obtain(
        self, request: MintRequest, admitted: Admitted, safety_identifier: str | None
    ) -> MintedAt:
        """Return an ephemeral key that never leaves the gateway but for where it was minted.

        Args:
            request: As in `mint`.
            admitted: As in `mint`.
            safety_identifier: As in `mint`.

        Raises:
            MintFailedError: If no deployment mints.
            InvalidSafetyIdentifierError: If it cannot be passed on: 400.
        """
        identifier = self._requests.identifier(safety_identifier, admitted)
        group = Group(admitted.group, admitted.deployments)
        plan = self._router.plan(
            group,
            admitted.key.team,
            lambda one: can_mint(one, request),
            may_spend=admitted.may_spend,
        )
        deadline = self._clock() + self._settings.upstream.mint_timeout_s
        failures: list[ApiError] = []
        last: str | None = None
        while (left_s := deadline - self._clock()) > 0 and (attempt := plan.next()) is not None:
            last = attempt.deployment.id
            timeout_s = attempt.timeout_s(left_s, self._router.settings)
            try:
                with self._router.watch(attempt):
                    minted = await self._try(attempt, request, admitted, identifier, timeout_s)
            except ApiError as error:
                MINT_ATTEMPTS.labels(last, error.code).inc()
                if not is_failure(error):
                    raise MintFailedError(error, last) from error
                failures.append(error)
            else:
                return self._made(minted, attempt.deployment, request, admitted, identifier)
        if not failures:
            raise MintFailedError(self._router.nobody(plan.deployments), None)
        reason = most_useful(failures)
        if isinstance(reason, UpstreamTimeoutError):
            reason = MintTimeoutError(self._settings.upstream.mint_timeout_s)
        raise MintFailedError(reason, last) from failures[-1]

    async def _try(
        self,
        attempt: Attempt,
        request: MintRequest,
        admitted: Admitted,
        identifier: Secret | None,
        timeout_s: float,
    ) -> Minted:
        deployment = attempt.deployment
        with (
            tracing.span("extauthz.mint", deployment=deployment.id),
            MINT_SECONDS.labels(deployment.id).time(),
        ):
            minted = await self._requests.send(
                deployment, request, admitted, identifier, timeout_s=timeout_s
            )
        check_alive(minted, int(self._now()))
        return minted

    def _made(
        self,
        minted: Minted,
        deployment: Deployment,
        request: MintRequest,
        admitted: Admitted,
        identifier: Secret | None,
    ) -> MintedAt:
        try:
            claims = claims_of(
                minted,
                request,
                deployment,
                admitted,
                now=int(self._now()),
                max_lifetime_s=self._settings.token.max_lifetime_s,
            )
        except ApiError as error:
            # No fault of the deployment's: another one would mint as much in vain.
            MINT_ATTEMPTS.labels(deployment.id, error.code).inc()
            raise MintFailedError(error, deployment.id) from error
        MINT_ATTEMPTS.labels(deployment.id, "minted").inc()
        return MintedAt(deployment, minted, claims, identifier)
