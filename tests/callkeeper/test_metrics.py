import pytest
from prometheus_client import REGISTRY

from callkeeper import metrics
from callkeeper.model import Payer, Tokens
from helpers.charges import charge

SPEND = "ringback_call_spend_microdollars_total"


def spent(team: str) -> float:
    """Return what is counted for a team and the model of the test's calls."""
    model = "other" if team == "other" else "voice"
    return REGISTRY.get_sample_value(SPEND, {"team": team, "model": model}) or 0


def count(team: str | None, microdollars: int) -> None:
    """Count what a call of a team has cost."""
    call = charge(Payer("ab" * 32, team_id=team), "resp_1", Tokens()).call
    metrics.count_usage(call, Tokens(audio_out=1), microdollars)


def test_spend_is_told_apart_by_team_and_model() -> None:
    """A call without a team counts, too."""
    before = spent("red"), spent("none")
    count("red", 5)
    count(None, 7)
    assert (spent("red") - before[0], spent("none") - before[1]) == (5, 7)


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever teams there are, a worker has so many series and one more; nothing is lost."""
    monkeypatch.setattr(metrics, "MAX_PAIRS", len(metrics._pairs) + 1)
    others = spent("other")
    for number in range(5):
        count(f"team-{number}", 1)
    count("team-0", 1)
    assert spent("team-0") == 2
    assert spent("other") - others == 4
