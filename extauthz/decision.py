"""What extauthz is asked and what it decides, without any message of Envoy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from extauthz.keys.model import VirtualKey
from ringback.calllimits import CallLimits
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A downstream request.

    Attributes:
        method: Upper case.
        path: Normalised by Envoy, without the query.
        query: What stands behind the question mark, as it came.
        address: IP address of the downstream, as Envoy believes it.
        headers: Names in lower case; repeated lines are joined by a comma.
        body: The whole body where the route sends it to us, else empty.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    query: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """What access logs and sdpfilter learn about a decision; none of it is secret, or it is sealed.

    Attributes:
        outcome: A stable word: ``minted``, ``call``, ``ready`` or the code of an error.
    """

    outcome: str
    key_alias: str | None = None
    key_hash: str | None = None
    team: str | None = None
    user: str | None = None
    model: str | None = None
    deployment: str | None = None
    token_id: str | None = None
    sdp_policy: str | None = None
    subprotocol: str | None = None
    allowed_origin: str | None = None
    organization: str | None = None
    project: str | None = None
    upstream_origin: str | None = None
    sealed_key: str | None = None
    slot_id: str | None = None
    asked: str | None = None
    call_limits: CallLimits | None = None
    session_lock: str | None = None


def labels_of(caller: VirtualKey | CallClaims, outcome: str) -> Labels:
    """Return what logs learn of a caller, by its key or by what its token says."""
    if isinstance(caller, CallClaims):
        return Labels(
            outcome,
            key_alias=caller.key_alias,
            key_hash=caller.key_hash,
            team=caller.team,
            user=caller.user,
            model=caller.model,
            deployment=caller.deployment,
            token_id=caller.jti,
        )
    return Labels(outcome, caller.alias, caller.hash, caller.team, caller.user)


@dataclass(frozen=True, slots=True)
class Answer:
    """The downstream receives this, the upstream nothing."""

    status: int
    body: bytes
    labels: Labels
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allow:
    """The request goes on, changed.

    Attributes:
        headers: Set on the request, ``:path`` and ``:authority`` among them. Secrets, because a
            credential is one of them.
        removed: Names of request headers that do not leave.
    """

    labels: Labels
    headers: Mapping[str, Secret] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


Decision = Answer | Allow


def refuse(error: ApiError, labels: Labels | None = None) -> Answer:
    """Return the answer that an error becomes.

    Args:
        error: Why.
        labels: What was known of the request by then.
    """
    headers = {"content-type": "application/json", **error.headers}
    return Answer(error.http_status, error.to_body(), labels or Labels(error.code), headers)
