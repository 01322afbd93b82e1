"""Between the messages of callsapi and what callkeeper knows; knows no rules."""

from dataclasses import fields
from typing import Any, Final

from callkeeper.calls import CallState, Phase
from callkeeper.model import Call, Payer, Tokens
from callsapi.v1 import calls_pb2
from callsapi.v1.calls_pb2 import RegisterRequest

_PHASES: Final = {
    Phase.OPENED: calls_pb2.PHASE_OPENED,
    Phase.ATTACHED: calls_pb2.PHASE_ATTACHED,
    Phase.LOST: calls_pb2.PHASE_LOST,
    Phase.ENDING: calls_pb2.PHASE_ENDING,
    Phase.ENDED: calls_pb2.PHASE_ENDED,
}
_PAYER: Final = tuple(field.name for field in fields(Payer))
_TOKENS: Final = tuple(field.name for field in fields(Tokens))


def read_call(request: RegisterRequest, call_id: str, now: float) -> Call:
    """Return the call that is registered.

    Args:
        request: As it came.
        call_id: Our id of it.
        now: In seconds since 1970.

    Raises:
        ValueError: If something is missing without which no call can be kept.
    """
    for name in ("handle", "deployment", "upstream_call_id"):
        if not getattr(request, name):
            raise ValueError(f"{name} is missing")
    if not request.payer.key_hash:
        raise ValueError("payer.key_hash is missing")
    payer: dict[str, Any] = {name: getattr(request.payer, name) or None for name in _PAYER}
    return Call(
        id=call_id,
        deployment=request.deployment,
        origin=request.origin,
        upstream_call_id=request.upstream_call_id,
        model=request.model,
        payer=Payer(**payer),
        token_id=request.token_id,
        request_id=request.request_id,
        opened_at=now,
    )


def write_state(call: Call, state: CallState) -> calls_pb2.CallState:
    """Return the message that says how a call is."""
    return calls_pb2.CallState(
        id=call.id,
        deployment=call.deployment,
        model=call.model,
        payer=calls_pb2.Payer(
            **{name: getattr(call.payer, name) or "" for name in _PAYER},
        ),
        token_id=call.token_id,
        request_id=call.request_id,
        opened_at=call.opened_at,
        phase=_PHASES[state.phase],
        reason=state.reason or "",
        usage=calls_pb2.Usage(**{name: getattr(state.used, name) for name in _TOKENS}),
        cost_microdollars=state.cost_microdollars,
    )
