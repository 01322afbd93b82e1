"""``GET calls`` and ``GET calls/{handle}``: how calls are, for their owners only."""

import json
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from callsapi.v1.calls_pb2 import CallState, ListRequest
from extauthz.callcontrol import HANGUP_GRACE_S, parse_state_path
from extauthz.callview import show_call
from extauthz.decision import Answer, Decision, Labels, RequestFacts, labels_of, refuse
from extauthz.keptcalls import KeptCalls
from extauthz.ownership import Caller, Callers
from ringback.errors import ApiError
from ringback.tokens.claims import CallClaims

# Of those that have more, the latest ones. An answer has 70 kB then.
_MAX_CALLS: Final = 100
_HEADERS: Mapping[str, str] = MappingProxyType(
    {"content-type": "application/json", "cache-control": "no-store"}
)


class CallStates:
    """Tells callers how their calls are.

    A token may ask as long as it may hang up: after its expiry, and when its key is blocked, so
    that a page can say why a call has ended.

    Args:
        callers: Finds calls of callers.
        kept: Asks callkeeper.
        now: The time in seconds since the epoch.
    """

    name: Final = "call_states"

    def __init__(
        self, callers: Callers, kept: KeptCalls, now: Callable[[], float] = time.time
    ) -> None:
        self._callers = callers
        self._kept = kept
        self._now = now

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "GET" and parse_state_path(request.path) is not None

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the answer with one call or all of the caller's."""
        handle = parse_state_path(request.path)
        assert handle is not None  # noqa: S101  serves() has seen to it
        caller = await self._callers.identify(request, grace_s=HANGUP_GRACE_S)
        if not handle:
            return await self._list(caller)
        call = self._callers.find_call(caller, handle)
        try:
            state = await self._kept.of(handle)
        except ApiError as error:
            return refuse(error, call.labels(error.code))
        return self._answer(self._show(state, caller), call.labels("call_state"))

    async def _list(self, caller: Caller) -> Answer:
        wanted = ListRequest(with_ended=True, limit=_MAX_CALLS + 1)
        if isinstance(caller, CallClaims):
            wanted.token_id = caller.jti
            wanted.key_hash = caller.key_hash
        elif not caller.is_master:
            assert caller.hash  # noqa: S101  without one these were the calls of all
            wanted.key_hash = caller.hash
        try:
            found = await self._kept.all_of(wanted)
        except ApiError as error:
            return refuse(error, labels_of(caller, error.code))
        content = {
            "object": "list",
            "data": [self._show(state, caller) for state in reversed(found[-_MAX_CALLS:])],
            "has_more": len(found) > _MAX_CALLS,
        }
        return self._answer(content, labels_of(caller, "call_states"))

    def _show(self, state: CallState, caller: Caller) -> dict[str, Any]:
        return show_call(state, self._now(), with_budget=not isinstance(caller, CallClaims))

    def _answer(self, content: dict[str, Any], labels: Labels) -> Answer:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        return Answer(200, body, labels, _HEADERS)
