"""The ext_proc service: one task per HTTP stream, no rules."""

import time
from collections.abc import AsyncIterator

import grpc
from grpc import aio

from envoyapi.service.ext_proc.v3 import external_processor_pb2_grpc
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)
from ringback import tracing
from ringback.jwkset import JwkSetKeeper
from ringback.logs import describe, get_logger
from ringback.sdppolicy import Policy
from ringback.tokens.jwe import Sealer
from sdpfilter.consent import Consent
from sdpfilter.exchange import Exchange, Refuse, UnexpectedMessageError
from sdpfilter.metrics import ABORTED
from sdpfilter.policies import NoSuchPolicyError, Policies
from sdpfilter.policy import PolicyConflictError
from sdpfilter.registrar import Registrar, Registration
from sdpfilter.translate import take_message, write_answer

# Envoy puts it into the metadata of each stream (initial_metadata in envoy.yaml).
_REQUEST_ID = "x-request-id"
Context = aio.ServicerContext[ProcessingRequest, ProcessingResponse]


class SDPFilter(external_processor_pb2_grpc.ExternalProcessorServicer):
    """Answers each message of a stream exactly once, or aborts the stream.

    Envoy lets a request pass when a stream ends cleanly while a reply is owed. So there is no way
    out of the loop but after the last answer or Envoy's last message, when nothing is owed, or an
    abort.

    Args:
        sealer: From `ringback.tokens.handle_sealer`.
        policies: Which policy holds for a call.
        jwk_set: Watches what the sealer seals by; started and stopped with the service.
        registrar: Puts calls on the leash, if they are supervised; likewise.
    """

    names: tuple[str, ...] = ("envoy.service.ext_proc.v3.ExternalProcessor",)

    def __init__(
        self,
        sealer: Sealer,
        policies: Policies,
        jwk_set: JwkSetKeeper | None = None,
        registrar: Registrar | None = None,
    ) -> None:
        self._registrar = registrar
        self._sealer = sealer
        self._policies = policies
        self._jwk_set = jwk_set
        self._log = get_logger()

    def register(self, server: aio.Server) -> None:
        """Add the handler to the server."""
        external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(self, server)

    async def start(self) -> None:
        """Begin to watch the keys of handles; nothing has to be fetched."""
        if self._jwk_set is not None:
            self._jwk_set.start()
        if self._registrar is not None:
            self._registrar.start()

    async def drain(self) -> None:
        """End nothing: a stream lives as long as one request."""

    async def stop(self) -> None:
        """Stop watching."""
        if self._jwk_set is not None:
            await self._jwk_set.stop()
        if self._registrar is not None:
            await self._registrar.stop()

    async def Process(
        self,
        request_iterator: AsyncIterator[ProcessingRequest],  # noqa: ARG002  context.read is quicker
        context: Context,
    ) -> None:
        """Serve one HTTP stream.

        Raises:
            grpc.aio.AbortError: Whenever a message cannot be answered; Envoy then answers 503.
        """
        exchange = Exchange(self._sealer, time.time, self._policy_for)
        registration: Registration | None = None
        try:
            with tracing.served("sdpfilter.process", context.invocation_metadata):
                while isinstance(message := await context.read(), ProcessingRequest):
                    action = take_message(message, exchange)
                    if registration is None:
                        registration = self._register(exchange, context)
                    elif exchange.releases(action) and (error := await registration.settle()):
                        action = Refuse(error)
                    await context.write(write_answer(message, action))
                    if exchange.is_over:
                        # Nothing is owed. Envoy would cancel the stream, and of each one that is
                        # cancelled gRPC keeps 125 bytes for ever.
                        return
        except UnexpectedMessageError as error:
            await self._abort(context, reason=str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the stream must not end cleanly
            await self._abort(context, **describe(error))
        finally:
            if registration is not None:
                registration.end()
            elif self._registrar is not None:
                self._registrar.give_back(exchange.slot_id)

    def _register(self, exchange: Exchange, context: Context) -> Registration | None:
        """Begin to put a call on the leash if there is one; its answer is checked meanwhile."""
        if self._registrar is None or exchange.opened is None:
            return None
        request_id = dict(context.invocation_metadata() or ()).get(_REQUEST_ID)
        return self._registrar.begin(exchange.opened, str(request_id or ""))

    def _policy_for(self, consent: Consent) -> Policy:
        try:
            return self._policies.for_call(
                consent.model, consent.team, consent.key_alias, consent.sdp_policy
            )
        except (NoSuchPolicyError, PolicyConflictError) as error:
            self._log.error("sdp_policy_unusable", model=consent.model, reason=str(error))
            raise

    async def _abort(self, context: Context, **facts: str) -> None:
        ABORTED.inc()
        sent = dict(context.invocation_metadata() or ())
        self._log.error("stream_aborted", request_id=sent.get(_REQUEST_ID), **facts)
        await context.abort(grpc.StatusCode.INTERNAL, "the stream cannot be answered")
