"""Lets nobody reach a handler of a gRPC server whose certificate has not the right SPIFFE id."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from grpc import aio

from ringback.counters import PEERS_REFUSED
from ringback.logs import get_logger
from ringback.peers import is_allowed

# gRPC sets it if the certificate has one URI as subject alternative name and no second one, and
# that is a SPIFFE id (X509-SVID section 2).
_SPIFFE_ID: Final = "peer_spiffe_id"
# A stranger who asks on and on is told of once in a while.
_BETWEEN_LINES_S: Final = 10.0

Context: TypeAlias = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class PeerCheck(aio.ServerInterceptor):
    """Refuses requests of peers that are not allowed, with PERMISSION_DENIED.

    Args:
        patterns: Checked by `ringback.peers.check_peer_pattern`.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._told = -_BETWEEN_LINES_S
        self._log = get_logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return a handler that looks at the peer first."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = f"{_word(handler.request_streaming)}_{_word(handler.response_streaming)}"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        checked = self._behind_check(getattr(handler, kind))
        made: Handler = make(checked, handler.request_deserializer, handler.response_serializer)
        return made

    def _behind_check(self, behaviour: Any) -> Any:
        async def checked(request: Any, context: Context) -> Any:
            # Of a stream `behaviour` writes answers by itself and returns none.
            await self._check(context)
            return await behaviour(request, context)

        return checked

    async def _check(self, context: Context) -> None:
        (peer,) = context.auth_context().get(_SPIFFE_ID) or (b"",)
        # A SPIFFE id is ASCII.
        text = peer.decode("ascii", "replace")
        if not is_allowed(text, self._patterns):
            await self._refuse(text, context)

    async def _refuse(self, peer: str, context: Context) -> NoReturn:
        PEERS_REFUSED.inc()
        now = time.monotonic()
        if now - self._told >= _BETWEEN_LINES_S:
            self._told = now
            self._log.warning("peer_refused", peer=peer or None)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this peer is not allowed")


def _word(is_streaming: bool) -> str:
    return "stream" if is_streaming else "unary"
