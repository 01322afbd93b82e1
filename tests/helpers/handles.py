"""Handles of calls, and the ways in which others may be wrong."""

import time
from typing import Any, Final

from extauthz.keys import hash_key
from helpers.gatewayfiles import KEY, TOKEN_SECRET
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer, token_sealer
from ringback.tokens.handles import CallHandle, seal_handle

CALL_ID: Final = "rtc_u1_9c6574da8b8a41a18da9308f4ad974ce"
TOKEN_ID: Final = "made-by-a-test"
HOUR_S: Final = 3600


def sealed(*, key: str = KEY, secret: str = TOKEN_SECRET, age_s: int = 0, **fields: Any) -> str:
    """Return a handle of a call of a key, as sdpfilter would make it but for what is said."""
    issued_at = int(time.time()) - age_s
    made: dict[str, Any] = {
        "deployment": "voice-1",
        "call_id": CALL_ID,
        "key_hash": hash_key(Secret(key)),
        "token_id": TOKEN_ID,
        "issued_at": issued_at,
    }
    sealer = handle_sealer(TokenSettings(secret=Secret(secret)), {})
    return seal_handle(CallHandle(**made | fields), sealer, issued_at)


def wrong_handles() -> dict[str, str]:
    """Return what is no handle of a call of `KEY`, by what is wrong with it."""
    good = sealed()
    now = int(time.time())
    tokens = token_sealer(TokenSettings(secret=Secret(TOKEN_SECRET)), {})
    claims = {"dep": "voice-1", "cid": CALL_ID, "key": hash_key(Secret(KEY)), "jti": TOKEN_ID}
    other_purpose = tokens.seal(claims | {"iat": now, "exp": now + HOUR_S}, now)
    return {
        # Realistic
        "of-another-key": sealed(key="sk-somebody-elses"),
        "of-a-deployment-that-is-gone": sealed(deployment="voice-0"),
        "of-yesterday": sealed(age_s=25 * HOUR_S),
        "of-another-gateway": sealed(secret="a secret that this gateway does not have"),
        "the-providers-id": CALL_ID,
        # Synthetic
        "truncated": good[:-1],
        "longer": good + "A",
        "without-a-tag": good.rpartition(".")[0],
        "changed": good[:-30] + ("A" if good[-30] != "A" else "B") + good[-29:],
        "a-token": "rtc_" + other_purpose.removeprefix("ek_"),
        "without-its-prefix": good.removeprefix("rtc_"),
        # Pathological
        "a-word": "x",
        "dots": "rtc_....",
        "long": "rtc_" + "A" * 9000,
    }
