"""Which session lock holds for a call, and what is refused for it. Pure."""

from extauthz.deployments import Deployment
from extauthz.keys.model import VirtualKey
from ringback.errors import ApiError
from ringback.sessionlock import NO_LOCK, TRANSCRIPTION, SessionLock


class SessionLockedError(ApiError):
    """Nobody could hold the session lock, since frames of WebSockets pass unread: 403."""

    http_status = 403
    type = "invalid_request_error"
    code = "session_locked"

    def __str__(self) -> str:
        return (
            "Sessions of this model or key are locked, which they cannot be over a WebSocket. "
            "Make a WebRTC call instead."
        )


class SessionLockUnusableError(ApiError):
    """Nobody holds the session lock, since calls are not supervised: 503."""

    http_status = 503
    type = "service_unavailable"
    code = "session_lock_unusable"

    def __str__(self) -> str:
        return (
            "Sessions of this model or key are locked, and calls are not supervised here. "
            "Tell your platform team: the lock needs supervision.mode."
        )


def lock_of(
    deployment: Deployment, key: VirtualKey, session_type: str | None = None
) -> SessionLock:
    """Return what callers of a key cannot change of a session at a deployment.

    Of a member that both name, the deployment's word holds: keys may be made by their users. In a
    session that only transcribes there is no model that could be told anything.

    Args:
        deployment: Where the session is.
        key: Whose it is.
        session_type: ``realtime`` or ``transcription``; None for the first.
    """
    if session_type == TRANSCRIPTION:
        return NO_LOCK
    return deployment.session_lock | key.session_lock


def check_unlocked(deployment: Deployment, key: VirtualKey, session_type: str | None) -> None:
    """Check that a caller may talk where nobody can see to its session.

    Args:
        deployment: As of `lock_of`, like the others.
        key: Likewise.
        session_type: Likewise.

    Raises:
        SessionLockedError: If the session is locked: 403.
    """
    if lock_of(deployment, key, session_type):
        raise SessionLockedError
