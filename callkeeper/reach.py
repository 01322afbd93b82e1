"""How the provider of a call is reached: extauthz is asked, which knows deployments and keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from grpc import aio

from callkeeper.errors import ReachError, UncontrollableError
from callkeeper.prices import PricedDeployment, PriceError, priced_deployment
from callsapi.v1.calls_pb2 import ReachRequest, ReachResponse
from callsapi.v1.calls_pb2_grpc import UpstreamsStub
from ringback.grpcpeers import Peers
from ringback.secrets import Secret

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a call is, and what opens it.

    Attributes:
        cluster: Envoy's.
        origin: ``scheme://host[:port]``.
        authority: The ``Host`` of requests.
        sideband_path: Path and query of the call's WebSocket.
        hangup_path: Path of the command that ends it.
        headers: With the deployment's standard credential.
        ephemeral_headers: With the call's ephemeral key; empty if there is none.
        pricing: What the configuration says of its prices; None if that makes no sense.
    """

    cluster: str
    origin: str
    authority: str
    sideband_path: str
    hangup_path: str
    headers: Mapping[str, Secret]
    ephemeral_headers: Mapping[str, Secret]
    pricing: PricedDeployment | None = None


class Reaches:
    """Asks extauthz.

    It is asked anew for each try, so that a credential that has changed or expired hurts nobody;
    who cannot get an answer goes on with the last one.

    Args:
        extauthz: Its workers.
    """

    def __init__(self, extauthz: Peers[UpstreamsStub]) -> None:
        self._extauthz = extauthz

    async def of(self, handle: str, sealed_key: str) -> Reach:
        """Return how a call is reached.

        Raises:
            UncontrollableError: If its provider has no way back into a call.
            ReachError: If extauthz cannot be asked, or does not know the deployment any more.
        """
        request = ReachRequest(handle=handle, sealed_key=sealed_key)
        try:
            answer = await self._extauthz.ask(lambda stub: stub.Reach, request, _TIMEOUT_S)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise UncontrollableError from error
            raise ReachError(error.code().name.lower()) from error
        return _read(answer)


def _read(answer: ReachResponse) -> Reach:
    return Reach(
        cluster=answer.cluster,
        origin=answer.origin,
        authority=answer.authority,
        sideband_path=answer.sideband_path,
        hangup_path=answer.hangup_path,
        headers={name: Secret(value) for name, value in answer.headers.items()},
        ephemeral_headers={name: Secret(value) for name, value in answer.ephemeral_headers.items()},
        pricing=_pricing(answer),
    )


def _pricing(answer: ReachResponse) -> PricedDeployment | None:
    pricing = answer.pricing
    params = {"model": pricing.model, **pricing.prices}
    try:
        return priced_deployment(
            pricing.provider, params, {"base_model": pricing.base_model}, answer.origin
        )
    except PriceError:
        # Counted and logged where it is missed.
        return None
