import pytest
from prometheus_client import REGISTRY

from callkeeper import metrics

SPEND = "ringback_call_spend_microdollars_total"


def spent(team: str, model: str) -> float:
    """Return what is counted for a pair."""
    return REGISTRY.get_sample_value(SPEND, {"team": team, "model": model}) or 0


def test_spend_is_told_apart_by_team_and_model() -> None:
    """A call without a team counts, too."""
    before = spent("red", "voice"), spent("none", "voice")
    metrics.count_cost("voice-1", "red", "voice", 5)
    metrics.count_cost("voice-1", None, "voice", 7)
    assert (spent("red", "voice") - before[0], spent("none", "voice") - before[1]) == (5, 7)


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever teams there are, a worker has so many series and one more; nothing is lost."""
    monkeypatch.setattr(metrics, "MAX_PAIRS", len(metrics._pairs) + 1)
    others = spent("other", "other")
    for number in range(5):
        metrics.count_cost("voice-1", f"team-{number}", "voice", 1)
    metrics.count_cost("voice-1", "team-0", "voice", 1)
    assert spent("team-0", "voice") == 2
    assert spent("other", "other") - others == 4
