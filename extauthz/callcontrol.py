"""What can be done with a call from outside, and by whom. Pure.

A call belongs to the virtual key that pays for it, and to the token that opened it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from extauthz.catalogue import is_wildcard
from extauthz.deployments import Deployment
from extauthz.jsontext import JsonError, parse_object, serialize_object
from extauthz.keys.model import VirtualKey
from extauthz.mintbody import InvalidBodyError
from extauthz.providers.base import Verb
from ringback.contract import API_PREFIXES, CALLS
from ringback.errors import ApiError
from ringback.tokens.claims import CallClaims
from ringback.tokens.handles import CallHandle

# Whoever opened a call may end it, and ask how it is, as long as it can last: providers end a
# session after an hour, and it may have begun in the token's last second.
HANGUP_GRACE_S: Final = 3600

_PATH: Final = re.compile(
    rf"(?:{'|'.join(API_PREFIXES)}){CALLS}/([^/]+)/(hangup|accept|reject|refer)"
)
_STATE_PATH: Final = re.compile(rf"(?:{'|'.join(API_PREFIXES)}){CALLS}(?:/([^/]+))?")
_STATUS_CODES: Final = range(300, 700)
_MAX_URI_CHARS: Final = 1024
# RFC 3261 section 25.1 and RFC 3966 section 3: no space, no quote, nothing that ends a header.
_URI: Final = re.compile(r"(?:sips?|tel):[!#-;=?-~]+")


class NoSuchCallError(ApiError):
    """The call does not exist, has ended, is not live yet, or is none of the caller's: 404.

    One answer for all of these, so that it teaches nobody anything about the calls of others.
    """

    http_status = 404
    type = "invalid_request_error"
    code = "call_id_not_found"

    def __str__(self) -> str:
        # Must match envoy/envoy.yaml, which says it of WebSockets that the provider refuses.
        return (
            "There is no such call, or it is not live yet. Right after the answer to an offer, "
            "try again within a few seconds."
        )


class UnsupportedByProviderError(ApiError):
    """The API that the deployment speaks has nothing of the kind: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "unsupported_by_provider"

    def __str__(self) -> str:
        return (
            "The provider's API of this call has no such command. "
            "Ask your platform team for a deployment with a current API."
        )


def parse_control_path(path: str) -> tuple[str, Verb] | None:
    """Return the handle, or what stands in its place, and the command; None for other paths."""
    found = _PATH.fullmatch(path)
    return (found[1], cast("Verb", found[2])) if found else None


def parse_state_path(path: str) -> str | None:
    """Return the handle of the path of a call; empty for that of all calls, None for others."""
    found = _STATE_PATH.fullmatch(path)
    return (found[1] or "") if found else None


def is_owner(caller: VirtualKey | CallClaims, handle: CallHandle) -> bool:
    """Tell whether a call belongs to a caller.

    Args:
        caller: A key owns the calls that it pays for, the master key all of them; a token owns
            those that it opened, and no other of the same key.
        handle: The call.
    """
    if isinstance(caller, CallClaims):
        return caller.jti == handle.token_id and caller.key_hash == handle.key_hash
    return caller.is_master or caller.hash == handle.key_hash


def control_body(verb: Verb, body: bytes, deployment: Deployment) -> bytes:
    """Return the body that goes upstream: nothing that the command does not know.

    Args:
        verb: ``hangup`` takes none, and what comes is dropped; ``accept`` a session, ``reject`` a
            ``status_code``, ``refer`` a ``target_uri``.
        body: The downstream's.
        deployment: Its model takes the place of that in a session.

    Raises:
        InvalidBodyError: If it cannot be used: 400.
    """
    if verb == "hangup":
        return b""
    members = _parse(body) if body.strip() or verb != "reject" else {}
    if verb == "accept":
        members.pop("model", None)
        if not is_wildcard(deployment.upstream_model):
            members["model"] = deployment.upstream_model
        return serialize_object(members)
    return serialize_object(_reject(members) if verb == "reject" else _refer(members))


def _reject(members: Mapping[str, Any]) -> dict[str, Any]:
    code = members.get("status_code")
    if code is None:
        return {}
    # Not isinstance: True is an int too.
    if type(code) is not int or code not in _STATUS_CODES:
        raise InvalidBodyError("status_code", "must be a SIP status code from 300 to 699.")
    return {"status_code": code}


def _refer(members: Mapping[str, Any]) -> dict[str, Any]:
    uri = members.get("target_uri")
    if not isinstance(uri, str) or len(uri) > _MAX_URI_CHARS or not _URI.fullmatch(uri):
        raise InvalidBodyError("target_uri", "must be a URI such as `tel:+14155550123`.")
    return {"target_uri": uri}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        return parse_object(body)
    except JsonError as error:
        raise InvalidBodyError(None, f"{error}. Send a JSON object.") from None
