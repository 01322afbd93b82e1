"""``POST calls/{handle}/hangup|accept|reject|refer``: commands for a call, for its owner only.

The request upstream is made here and not by Envoy's route: it is small, and what the provider
answers about the gateway's own key can be kept from the caller.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from extauthz.callcontrol import (
    HANGUP_GRACE_S,
    NoSuchCallError,
    UnsupportedByProviderError,
    control_body,
    parse_control_path,
)
from extauthz.decision import Answer, Decision, RequestFacts, refuse
from extauthz.deployments import Deployment
from extauthz.egress import Egress, UpstreamAnswer
from extauthz.ownership import Callers, OwnCall
from extauthz.providers import provider_of
from extauthz.providers.base import Verb, json_post, quotes_credential
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.upstream import error_of

KeyHeaders = Callable[[Deployment], Awaitable[Mapping[str, Secret]]]


class CallControl:
    """Commands calls.

    Args:
        callers: Finds calls of callers.
        key_headers: Returns the headers that open a deployment.
        egress: Sends requests upstream.
        timeout_s: For one command, in seconds.
        on_hung_up: Is told the handle of a call that has ended by it.
    """

    name: Final = "call_control"

    def __init__(
        self,
        callers: Callers,
        key_headers: KeyHeaders,
        egress: Egress,
        timeout_s: float,
        *,
        on_hung_up: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._callers = callers
        self._key_headers = key_headers
        self._egress = egress
        self._timeout_s = timeout_s
        self._on_hung_up = on_hung_up

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "POST" and parse_control_path(request.path) is not None

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the answer: 200 without a body, or why the command was not obeyed."""
        target = parse_control_path(request.path)
        assert target is not None  # noqa: S101  serves() has seen to it
        handle, verb = target
        grace_s = HANGUP_GRACE_S if verb == "hangup" else 0
        call = self._callers.find_call(
            await self._callers.identify(request, grace_s=grace_s), handle
        )
        try:
            headers = await self._key_headers(call.deployment)
            answer = await self._send(call, verb, request.body, headers)
            _check(answer, call, verb, headers)
        except ApiError as error:
            return refuse(error, call.labels(error.code))
        if verb == "hangup":
            self._on_hung_up(handle)
        return Answer(200, b"", call.labels(verb))

    async def _send(
        self, call: OwnCall, verb: Verb, body: bytes, headers: Mapping[str, Secret]
    ) -> UpstreamAnswer:
        deployment = call.deployment
        path = provider_of(deployment).control_path(deployment, call.handle.call_id, verb)
        if path is None:
            raise UnsupportedByProviderError
        return await self._egress.post(
            json_post(deployment, path, headers),
            control_body(verb, body, deployment),
            timeout_s=min(deployment.timeout_s or self._timeout_s, self._timeout_s),
            # A call ends once; to transfer it twice is something else.
            is_repeatable=verb == "hangup",
        )


def _check(
    answer: UpstreamAnswer, call: OwnCall, verb: Verb, headers: Mapping[str, Secret]
) -> None:
    """Check that a command was obeyed.

    Raises:
        ApiError: If it was not.
    """
    if 200 <= answer.status < 300:
        return
    if answer.status == 404:
        if verb == "hangup":
            # It has ended, which is what was asked for.
            return
        raise NoSuchCallError
    # A provider may quote our key, or the call's id, which is not the one that downstreams know.
    is_safe = call.handle.call_id.encode() not in answer.body and not quotes_credential(
        answer.body, headers
    )
    raise error_of(answer.status, answer.headers, answer.body if is_safe else b"")
