"""Measures sealing and opening of tokens and handles; prints a table of CPU time per operation.

Run it on a quiet machine: ``python bench/tokens.py``.
"""

import time
import timeit
from collections.abc import Callable

from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer, token_sealer
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.handles import CallHandle, open_handle, seal_handle
from ringback.tokens.jwe import Sealer

ROUNDS = 7
RUNS = 2000


def measure_us(operation: Callable[[], object]) -> float:
    """Return the CPU time of one run in microseconds, the best of several rounds."""
    rounds = timeit.repeat(operation, timer=time.process_time, number=RUNS, repeat=ROUNDS)
    return min(rounds) / RUNS * 1e6


def is_refused(sealer: Sealer, text: str, now: int) -> bool:
    """Open a text that is expected to be refused."""
    try:
        sealer.open(text, now)
    except TokenError:
        return True
    return False


def main() -> None:
    """Print the table."""
    settings = TokenSettings(secret=Secret("a secret for measurements only"))
    tokens, handles = token_sealer(settings, {}), handle_sealer(settings, {})
    now = int(time.time())
    claims = CallClaims(
        jti="k3VYbGJpS0yTqk0H7D2c9w",
        iat=now,
        exp=now + 600,
        ek=Secret("ek_" + "6" * 40),
        deployment="d" * 64,
        origin="https://api.openai.com",
        calls_path="/v1/realtime/calls",
        auth_scheme="bearer",
        model="gpt-realtime",
        key_hash="f" * 64,
        key_alias="phone app",
        team="team-7",
        user="someone@example.com",
        session_type="realtime",
    )
    handle = CallHandle(
        deployment=claims.deployment,
        call_id="rtc_u1_9c6574da8b8a41a18da9308f4ad974ce",
        key_hash=claims.key_hash,
        token_id=claims.jti,
        issued_at=now,
    )
    token = tokens.seal(claims.to_claims(), now)
    path_segment = seal_handle(handle, handles, now)
    changed = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    megabyte = "ek_" + "A" * 1_000_000
    operations: dict[str, Callable[[], object]] = {
        "seal a token": lambda: tokens.seal(claims.to_claims(), now),
        "open a token": lambda: tokens.open(token, now),
        "open a token and read its claims": lambda: CallClaims.from_claims(tokens.open(token, now)),
        "refuse a changed token": lambda: is_refused(tokens, changed, now),
        "refuse a raw upstream key": lambda: is_refused(tokens, "ek_" + "6" * 40, now),
        "refuse 1 MB": lambda: is_refused(tokens, megabyte, now),
        "seal a handle": lambda: seal_handle(handle, handles, now),
        "open a handle": lambda: open_handle(path_segment, handles, now),
    }
    print(f"token: {len(token)} characters, handle: {len(path_segment)} characters")
    for name, operation in operations.items():
        print(f"{name:34}{measure_us(operation):8.1f} us")


if __name__ == "__main__":
    main()
