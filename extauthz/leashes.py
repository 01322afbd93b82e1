"""What callkeeper has to know of a call; sdpfilter tells it, when the provider has answered."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from extauthz.decision import Labels
from extauthz.deployments import Deployment
from extauthz.keys.model import VirtualKey
from extauthz.providers import provider_of
from extauthz.sessionlocks import SessionLockUnusableError, lock_of
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import CannotSealError, TokenError
from ringback.tokens.jwe import Sealer

# Longer than any call: providers end a session after an hour.
_LIFETIME_S: Final = 7200
_KEY: Final = "ek"


class UnsupervisableError(ApiError):
    """Calls have to be supervised, and the provider's API has no way back into one: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "supervision_unsupported"

    def __str__(self) -> str:
        return (
            "Calls have to be supervised here, and the provider's API of this model cannot be. "
            "Ask your platform team for a deployment with a current API."
        )


class Leashes:
    """Puts calls on the leash.

    Args:
        sealer: From `ringback.tokens.call_key_sealer`; None if calls are not supervised.
        is_required: Whether only calls may pass that can be supervised.
        is_limited: Tells which calls may only pass so, if not all.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self,
        sealer: Sealer | None = None,
        *,
        is_required: bool = False,
        is_limited: Callable[[CallClaims, VirtualKey, Deployment], bool] = lambda *_: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sealer = sealer
        self._is_required = is_required
        self._is_limited = is_limited
        self._now = now

    def put_on(
        self, labels: Labels, claims: CallClaims, key: VirtualKey, deployment: Deployment | None
    ) -> Labels:
        """Return the labels of a call with what callkeeper has to know.

        Raises:
            UnsupervisableError: If it has to be supervised and cannot be: 400.
            SessionLockUnusableError: If it has a session lock and calls are not supervised: 503.
        """
        if deployment is None:
            return labels
        lock = lock_of(deployment, key, claims.session_type)
        if self._sealer is None:
            if lock:
                raise SessionLockUnusableError
            return labels
        is_required = self._is_required or bool(lock) or self._is_limited(claims, key, deployment)
        if is_required and provider_of(deployment).sideband_path(deployment, "_") is None:
            raise UnsupervisableError
        return replace(
            labels,
            organization=key.organization.id if key.organization else None,
            project=key.project.id if key.project else None,
            upstream_origin=claims.origin,
            sealed_key=self._seal(claims.ek),
            asked=claims.asked,
            call_limits=replace(key.call_limits, is_required=is_required),
            session_lock=lock.to_json() if lock else None,
        )

    def open(self, sealed_key: str) -> Secret | None:
        """Return the ephemeral key of a call; None if it is not there any more."""
        if self._sealer is None or not sealed_key:
            return None
        try:
            key = self._sealer.open(sealed_key, self._now()).get(_KEY)
        except TokenError:
            return None
        return Secret(key) if isinstance(key, str) else None

    def _seal(self, key: Secret) -> str | None:
        assert self._sealer is not None  # noqa: S101  put_on() has seen to it
        now = int(self._now())
        claims = {_KEY: key.reveal(), "iat": now, "exp": now + _LIFETIME_S}
        try:
            return self._sealer.seal(claims, now)
        except (CannotSealError, TokenError):
            # The standard credential is tried first anyway.
            return None
