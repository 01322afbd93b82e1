"""What extauthz decided about a stream, as its metadata says."""

from dataclasses import dataclass
from enum import Enum, auto

from ringback.calllimits import NO_LIMITS, CallLimits


class Purpose(Enum):
    """What extauthz consented to."""

    CALL = auto()
    """A call with a token that the caller holds."""

    KEY_CALL = auto()
    """A call with a key, for which extauthz has just minted."""

    READY = auto()


@dataclass(frozen=True, slots=True)
class Consent:
    """The decision: whose call it is, and where it goes."""

    purpose: Purpose
    deployment: str = ""
    key_hash: str = ""
    token_id: str = ""
    model: str = ""
    team: str = ""
    key_alias: str = ""
    user: str = ""
    organization: str = ""
    project: str = ""
    upstream_origin: str = ""
    sealed_key: str = ""
    slot_id: str = ""
    asked: str = ""
    limits: CallLimits = NO_LIMITS
    session_lock: str = ""
    sdp_policy: str | None = None
    """The policy that the key asks for by name."""
