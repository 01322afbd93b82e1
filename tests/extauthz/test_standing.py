from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extauthz.admission import Admission, Standpoint
from extauthz.deployments import Deployment
from extauthz.errors import KeySourceUnavailableError
from extauthz.generalsettings import GeneralSettings
from extauthz.keys import Budget, BudgetWindow, KeyQuery, Limits, Scope, VirtualKey
from extauthz.keys.cache import KeyNotAskableError
from extauthz.revocationkeeper import RevocationsUnavailableError
from extauthz.revocations import Revocation, Revocations, TokenCall
from extauthz.standing import Standing, Standings
from helpers.authz import CLAIMS, NOW, OPENAI, Clock, configuration
from ringback.calllimits import CallLimits

KEY = VirtualKey(CLAIMS.key_hash)
CALL = Standpoint(CLAIMS.key_hash, OPENAI.model_name, OPENAI.id)
FREE = replace(OPENAI, is_free=True)
OVER, EVEN = Budget(2.0, 1.0), Budget(1.0, 1.0)
BEGIN = datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1)


class Source:
    """Knows one key, or fails."""

    def __init__(self, answer: VirtualKey | Exception | None) -> None:
        self.answer = answer
        self.queries: list[KeyQuery] = []

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key."""
        self.queries.append(query)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def standings(
    source: Source,
    *deployments: Deployment,
    max_budget: float | None = None,
    is_revoked: Callable[[TokenCall], bool] = lambda _: False,
) -> Standings:
    """Return what knows how those stand whom a source knows."""
    current = configuration(source, deployments=deployments or (OPENAI,), aliases={"fast": "voice"})
    current = replace(current, general=GeneralSettings(max_budget=max_budget))
    admission = Admission(lambda: current, Clock())
    return Standings(admission, lambda _: current, Clock(), 2.5, is_revoked)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        # Realistic
        pytest.param(KEY, None, id="good"),
        pytest.param(None, "key_deleted", id="deleted"),
        pytest.param(replace(KEY, blocked=True), "key_blocked", id="blocked"),
        pytest.param(replace(KEY, expires=BEGIN), "key_expired", id="expired"),
        pytest.param(
            replace(KEY, team="t", team_scope=Scope("t", blocked=True)), "team_blocked", id="team"
        ),
        pytest.param(
            replace(KEY, team="t", team_scope=Scope("t", exists=False)),
            "team_deleted",
            id="no-team",
        ),
        pytest.param(
            replace(KEY, project=Scope("p", blocked=True)), "project_blocked", id="project"
        ),
        pytest.param(
            replace(KEY, user="u", user_scope=Scope("u", blocked=True)), "user_inactive", id="user"
        ),
        pytest.param(replace(KEY, models=("another",)), "not_allowed", id="model"),
        pytest.param(replace(KEY, allowed_routes=("/chat",)), "not_allowed", id="route"),
        pytest.param(replace(KEY, budget=EVEN), "key_budget", id="budget"),
        pytest.param(
            replace(KEY, windows=(BudgetWindow("1d", OVER, is_of_team=True),)),
            "window_budget",
            id="window-of-team",
        ),
        pytest.param(
            replace(KEY, model_budgets={"voice": EVEN}), "model_budget", id="model-budget"
        ),
        # Synthetic
        pytest.param(replace(KEY, blocked=True, budget=OVER), "key_blocked", id="both"),
        pytest.param(replace(KEY, is_master=True, budget=OVER), None, id="master"),
    ],
)
async def test_why_calls_have_to_end(key: VirtualKey | None, reason: str | None) -> None:
    """What would refuse a token's call ends one that is under way, by a word of its own."""
    standing = await standings(Source(key)).of(CALL)
    assert standing == Standing(reason)


async def test_a_key_is_asked_about_as_for_a_token() -> None:
    """By its hash, with team and user, no older than the settings say."""
    source = Source(replace(KEY, read_at=NOW - 2.0))
    call = replace(CALL, team="t", user="u")
    standing = await standings(source).of(call)
    assert standing is not None
    assert standing.age_s == 2.0
    assert source.queries == [KeyQuery(KEY.hash, team="t", user="u", max_age_s=2.5)]


async def test_a_call_is_judged_by_the_name_that_the_caller_asked_for() -> None:
    """A key that may use an alias and not what it stands for goes on."""
    source = Source(replace(KEY, models=("fast",)))
    assert await standings(source).of(replace(CALL, asked="fast")) == Standing()
    assert await standings(source).of(CALL) == Standing("not_allowed")


async def test_budgets_that_hold_are_told() -> None:
    """Those with a limit, with what may be spent at the moment; free deployments have none."""
    raised = Budget(1.0, 2.0, increase=3.0, increase_until=BEGIN + timedelta(hours=2))
    window = BudgetWindow("1d", Budget(0.5, 4.0), begin=BEGIN)
    team = Scope("t", budget=EVEN)
    key = replace(KEY, budget=raised, windows=(window,), team="t", team_scope=team, proxy_spend=5.0)
    standing = await standings(Source(key), max_budget=6.0).of(CALL)
    assert standing is not None
    assert [
        (each.spender, each.name, each.begin, each.limit, each.is_inclusive)
        for each in standing.budgets
    ] == [
        ("key", "", None, 5.0, False),
        ("window", "1d", BEGIN, 4.0, False),
        ("team", "", None, 1.0, True),
        ("proxy", "", None, 6.0, True),
    ]
    assert await standings(Source(replace(key, budget=OVER)), FREE).of(CALL) == Standing()


async def test_who_cannot_be_asked_about() -> None:
    """A source that is down tells nothing; one that answers the caller alone ends no call."""
    assert await standings(Source(KeySourceUnavailableError())).of(CALL) is None
    assert await standings(Source(KeyNotAskableError())).of(CALL) == Standing()


def test_tokens_of_open_calls_may_be_revoked() -> None:
    """A call counts by when it was opened; while nobody can tell, none is revoked."""
    entries = [Revocation("token_id", "one", 5), Revocation("key", KEY.hash, NOW)]
    calls = [
        TokenCall("one", NOW + 900.0, "f" * 64),
        TokenCall("early", NOW + 5.0, KEY.hash),
        TokenCall("late", NOW + 5.1, KEY.hash),
        TokenCall("of-another", NOW - 5.0, "f" * 64, "web"),
    ]

    def is_revoked(call: TokenCall) -> bool:
        return Revocations.of(entries).cover(call, 5)

    def unavailable(_: TokenCall) -> bool:
        raise RevocationsUnavailableError

    assert standings(Source(KEY), is_revoked=is_revoked).revoked(calls) == ["one", "early"]
    assert standings(Source(KEY), is_revoked=unavailable).revoked(calls) == []


@pytest.mark.parametrize(
    ("key", "deployment", "is_limited"),
    [
        (KEY, OPENAI, False),
        (replace(KEY, call_limits=CallLimits(idle_s=30)), OPENAI, True),
        (replace(KEY, limits=Limits(parallel=2)), OPENAI, True),
        (replace(KEY, max_open_calls=2), FREE, True),
        (replace(KEY, limits=Limits(rpm=2)), OPENAI, False),
        (replace(KEY, budget=Budget(0, 9)), OPENAI, True),
        (replace(KEY, budget=Budget(0, 9)), FREE, False),
        (replace(KEY, model_budgets={"voice": Budget(0, 9)}), OPENAI, True),
        (replace(KEY, model_budgets={"chat": Budget(0, 9)}), OPENAI, False),
        (replace(KEY, user="u", user_scope=Scope("u", budget=Budget(0, 9))), OPENAI, True),
        (replace(KEY, is_master=True, budget=Budget(0, 9)), OPENAI, False),
    ],
    ids=[
        *("nothing", "call", "at-once", "open-calls", "per-minute", "budget", "free", "model"),
        *("another-model", "user", "master"),
    ],
)
def test_which_calls_have_to_be_supervised(
    key: VirtualKey, deployment: Deployment, *, is_limited: bool
) -> None:
    """With `auto`, those to which a limit of calls or a budget applies."""
    assert standings(Source(key)).is_limited(CLAIMS, key, deployment) is is_limited
