"""Tokens while their keys change: whatever is sealed is opened, at any replica, at any moment."""

import itertools
from typing import Final

from ringback.secrets import Secret
from ringback.tokens.jwe import Sealer
from ringback.tokens.keys import TOKEN_PURPOSE, KeyRing

# 2026-11-23 00:00:00 UTC
MIDNIGHT: Final = 1_795_392_000
LEEWAY_S: Final = 5
LIFETIME_S: Final = 7200


class Replica:
    """A sealer with a clock of its own.

    Args:
        ahead_s: How far its clock is ahead of the others', in seconds.
    """

    def __init__(self, ahead_s: float) -> None:
        secret = Secret("a secret that all replicas share")
        ring = KeyRing.from_secret(secret, TOKEN_PURPOSE, leeway_s=LEEWAY_S)
        self._sealer = Sealer(ring, prefix="ek_")
        self._ahead_s = ahead_s

    def seal(self, time: float) -> str:
        """Return a token of the longest life there is."""
        issued_at = int(time + self._ahead_s)
        claims = {"iat": issued_at, "exp": issued_at + LIFETIME_S}
        return self._sealer.seal(claims, time + self._ahead_s)

    def open(self, token: str, time: float) -> None:
        """Open a token."""
        self._sealer.open(token, time + self._ahead_s)


def test_no_token_is_lost_at_midnight() -> None:
    """Keys change with the UTC day; each token around it opens, at every replica.

    Their clocks are as far apart as the leeway allows. A token is used at once, a moment later,
    and in its last seconds.
    """
    replicas = [Replica(0), Replica(LEEWAY_S), Replica(LEEWAY_S / 2)]
    times = [MIDNIGHT + tenth / 10 for tenth in range(-200, 200)]
    waits = (0, 0.5, 6, LIFETIME_S - LEEWAY_S - 2)
    opened = 0
    for time, maker in itertools.product(times, replicas):
        token = maker.seal(time)
        for user, wait in itertools.product(replicas, waits):
            user.open(token, time + wait)
            opened += 1
    assert opened == len(times) * len(replicas) ** 2 * len(waits)
