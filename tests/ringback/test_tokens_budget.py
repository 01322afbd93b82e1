import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ringback.secrets import Secret
from ringback.tokens.budget import MAX_SEALS, PROCESSES, SHARE, SealBudget
from ringback.tokens.errors import CannotSealError
from ringback.tokens.jwe import Sealer
from ringback.tokens.keys import TOKEN_PURPOSE, KeyRing

NOW = 1_795_334_400
DAY_S = 86_400
RING = KeyRing.from_secret(Secret("0123456789abcdef"), TOKEN_PURPOSE, leeway_s=5)


def counted(kind: str, kid: str) -> float | None:
    """Return the metric."""
    return REGISTRY.get_sample_value("ringback_seals_total", {"kind": kind, "kid": kid})


def test_all_processes_together_stay_within_the_bound() -> None:
    """NIST SP 800-38D section 8.3: 2^32 random nonces under one key, shared by 64 processes."""
    assert MAX_SEALS == 2**32
    assert SHARE * PROCESSES == MAX_SEALS


def test_a_key_seals_as_often_as_it_may() -> None:
    """Half of its share is told, the end of it too, and beyond it nothing is sealed."""
    sealer = Sealer(RING, prefix="ek_", budget=SealBudget("test", share=10))
    claims = {"iat": NOW, "exp": NOW + 60}
    with capture_logs() as log:
        sealed = [sealer.seal(claims, NOW) for _ in range(10)]
        for _ in range(3):
            with pytest.raises(CannotSealError, match="worn out"):
                sealer.seal(claims, NOW)
            with pytest.raises(CannotSealError):
                sealer.check_can_seal(NOW)
    assert [(line["event"], line["seals"]) for line in log] == [
        ("sealing_key_wears_out", 5),
        ("sealing_key_worn_out", 10),
    ]
    assert {line["kid"] for line in log} == {"2026-11-22"}
    assert counted("test", "2026-11-22") == 10
    # What was sealed opens as ever, and the next key has its own budget.
    assert all(sealer.open(text, NOW) == claims for text in sealed)
    sealer.check_can_seal(NOW + DAY_S)
    assert sealer.seal({"iat": NOW + DAY_S, "exp": NOW + DAY_S + 60}, NOW + DAY_S)


def test_keys_of_the_past_take_no_memory() -> None:
    """A gateway that runs for years has the counts of its last keys, in metrics too."""
    budget = SealBudget("years")
    for day in range(1000):
        budget.take(f"day-{day}")
    assert len(budget._sealed) == len(budget._counters) == 8
    assert counted("years", "day-0") is None
    assert counted("years", "day-999") == 1
