"""``ringback.v1.Upstreams``: tells callkeeper how a call's provider is reached, and ends calls."""

import asyncio
from collections.abc import Mapping
from typing import Final

import grpc
from grpc import aio

from callsapi.v1 import calls_pb2, calls_pb2_grpc
from callsapi.v1.calls_pb2 import (
    EndCallRequest,
    EndCallResponse,
    Pricing,
    ReachRequest,
    ReachResponse,
    StandingRequest,
    StandingResponse,
)
from extauthz.admission import Standpoint
from extauthz.callcontrol import NoSuchCallError, UnsupportedByProviderError
from extauthz.deployments import Deployment
from extauthz.egress import Egress
from extauthz.endpoints.callcontrol import KeyHeaders
from extauthz.leashes import Leashes
from extauthz.ownership import Callers
from extauthz.providers import provider_of
from extauthz.providers.base import credential, json_post
from extauthz.revocations import TokenCall
from extauthz.standing import Standing, Standings
from ringback.errors import ApiError
from ringback.logs import get_logger
from ringback.secrets import Secret

_TIMEOUT_S: Final = 5.0
# Keys that are looked up together.
_AT_ONCE: Final = 4
# A lookup that takes longer may be one of a source that is down.
_SLOW_S: Final = 0.2


class Upstreams(calls_pb2_grpc.UpstreamsServicer):
    """Serves callkeeper and sdpfilter. Whoever reaches a service is one of ours.

    Args:
        callers: Opens handles.
        key_headers: Returns the headers that open a deployment.
        egress: Sends requests upstream.
        leashes: Opens the ephemeral keys of calls.
        standings: Says how those stand who pay for calls.
    """

    def __init__(
        self,
        callers: Callers,
        key_headers: KeyHeaders,
        egress: Egress,
        leashes: Leashes,
        standings: Standings,
    ) -> None:
        self._callers = callers
        self._key_headers = key_headers
        self._egress = egress
        self._leashes = leashes
        self._standings = standings
        self._log = get_logger()

    async def Reach(
        self, request: ReachRequest, context: aio.ServicerContext[ReachRequest, ReachResponse]
    ) -> ReachResponse:
        """Tell how the provider of a call is reached."""
        try:
            call_id, deployment = self._find(request.handle)
            provider = provider_of(deployment)
            sideband = provider.sideband_path(deployment, call_id)
            hangup = provider.control_path(deployment, call_id, "hangup")
            if sideband is None or hangup is None:
                raise UnsupportedByProviderError
            headers = await self._key_headers(deployment)
        except ApiError as error:
            await context.abort(_code_of(error), error.code)
        ephemeral: Mapping[str, Secret] = {}
        if (key := self._leashes.open(request.sealed_key)) is not None:
            name, value = credential(provider.CALLS_AUTH_SCHEME, key)
            ephemeral = {**deployment.extra_headers, name: value}
        return ReachResponse(
            cluster=deployment.origin.cluster,
            origin=str(deployment.origin),
            authority=deployment.origin.authority,
            sideband_path=sideband,
            hangup_path=hangup,
            headers=_revealed(headers),
            ephemeral_headers=_revealed(ephemeral),
            pricing=Pricing(
                provider=deployment.provider,
                model=deployment.upstream_model,
                base_model=deployment.base_model or "",
                prices=deployment.prices,
            ),
        )

    async def EndCall(
        self,
        request: EndCallRequest,
        context: aio.ServicerContext[EndCallRequest, EndCallResponse],
    ) -> EndCallResponse:
        """Hang up. A call that is not there any more has ended."""
        try:
            call_id, deployment = self._find(request.handle)
            path = provider_of(deployment).control_path(deployment, call_id, "hangup")
            if path is None:
                raise UnsupportedByProviderError
            headers = await self._key_headers(deployment)
            post = json_post(deployment, path, headers)
            answer = await self._egress.post(post, b"", timeout_s=_TIMEOUT_S)
        except ApiError as error:
            await context.abort(_code_of(error), error.code)
        if not (200 <= answer.status < 300 or answer.status == 404):
            self._log.error("hangup_refused", deployment=deployment.id, status=answer.status)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the provider did not hang up")
        return EndCallResponse()

    async def Standing(
        self,
        request: StandingRequest,
        context: aio.ServicerContext[StandingRequest, StandingResponse],  # noqa: ARG002
    ) -> StandingResponse:
        """Tell how those stand who pay for calls, a few at a time: others want connections, too.

        Where the source of keys does not answer, all the rest are asked about at once, so that
        they all come to what is remembered in the time of one of them.
        """
        calls, is_slow = [_read_standpoint(each) for each in request.of], False
        async with asyncio.TaskGroup() as group:
            tasks = []
            for at in range(0, len(calls), _AT_ONCE):
                some = calls[at : at + _AT_ONCE]
                tasks += (started := [group.create_task(self._standings.of(one)) for one in some])
                if not is_slow:
                    _, waiting = await asyncio.wait(started, timeout=_SLOW_S)
                    is_slow = bool(waiting)
        return StandingResponse(
            standings=[_write_standing(task.result()) for task in tasks],
            revoked_token_ids=self._standings.revoked(map(_read_token_call, request.calls)),
        )

    def _find(self, handle: str) -> tuple[str, Deployment]:
        found, deployment = self._callers.find(handle)
        return found.call_id, deployment


def _read_standpoint(call: calls_pb2.Standpoint) -> Standpoint:
    return Standpoint(
        key_hash=call.key_hash,
        model=call.model,
        deployment=call.deployment,
        asked=call.asked or None,
        team=call.team_id or None,
        user=call.user_id or None,
    )


def _read_token_call(call: calls_pb2.TokenCall) -> TokenCall:
    return TokenCall(call.token_id, call.opened_at, call.key_hash, call.key_alias or None)


def _write_standing(standing: Standing | None) -> calls_pb2.Standing:
    if standing is None:
        return calls_pb2.Standing(is_unknown=True)
    return calls_pb2.Standing(
        reason=standing.reason or "",
        age_s=standing.age_s,
        budgets=[
            calls_pb2.Budget(
                kind=budget.spender,
                name=budget.name,
                spend=budget.spend,
                limit=budget.limit,
                is_inclusive=budget.is_inclusive,
                begin=0.0 if budget.begin is None else budget.begin.timestamp(),
            )
            for budget in standing.budgets
        ],
    )


def _code_of(error: ApiError) -> grpc.StatusCode:
    match error:
        case NoSuchCallError():
            return grpc.StatusCode.NOT_FOUND
        case UnsupportedByProviderError():
            return grpc.StatusCode.FAILED_PRECONDITION
        case _:
            return grpc.StatusCode.UNAVAILABLE


def _revealed(headers: Mapping[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in headers.items()}
