import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from callkeeper.calls import Limits
from callkeeper.charging import Charging
from callkeeper.egress import Egress
from callkeeper.examiner import Examiner
from callkeeper.keeper import Keeper
from callkeeper.kept import Kept
from callkeeper.model import Call, Payer, Tokens, Usage
from callkeeper.news import News
from callkeeper.prices import PriceBook, PricedDeployment, parse_rates
from callkeeper.reach import Reaches
from callkeeper.slots import MemorySlots
from callkeeper.way import listener_way
from callsapi.v1 import calls_pb2_grpc
from callsapi.v1.calls_pb2 import (
    Budget,
    ReachRequest,
    ReachResponse,
    Standing,
    StandingRequest,
    StandingResponse,
)
from callsapi.v1.calls_pb2_grpc import UpstreamsStub, add_UpstreamsServicer_to_server
from helpers.gateway import until
from ringback.calllimits import CallLimits
from ringback.grpcpeers import Peers
from ringback.settings import SupervisionSettings

LIMITS = Limits(is_required=True, attach_s=60, unattached_s=60, max_duration_s=600)
BEST_EFFORT = CallLimits(is_required=False)
WEB = Payer("a" * 64, team_id="team")
APP = Payer("b" * 64, team_id="team")
# A dollar for each token that the model writes.
DEPLOYMENT = PricedDeployment("openai", "m", own=parse_rates({"output_cost_per_token": 1}, "m"))


@dataclass
class StandingTeller(calls_pb2_grpc.UpstreamsServicer):
    """Says what extauthz would.

    Attributes:
        standings: By the hash of the key; others may go on.
        revoked: Ids of tokens.
        fails: With what, if it does.
        requests: What it was asked.
    """

    standings: dict[str, Standing] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    fails: grpc.StatusCode | None = None
    requests: list[StandingRequest] = field(default_factory=list)

    async def Reach(
        self,
        request: ReachRequest,  # noqa: ARG002  no provider is
        context: aio.ServicerContext[ReachRequest, ReachResponse],
    ) -> ReachResponse:
        """Tell nothing."""
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no provider is reached here")

    async def Standing(
        self,
        request: StandingRequest,
        context: aio.ServicerContext[StandingRequest, StandingResponse],
    ) -> StandingResponse:
        """Tell how those stand who pay for calls."""
        self.requests.append(request)
        if self.fails is not None:
            await context.abort(self.fails, "as the test wants")
        found = [self.standings.get(each.key_hash, Standing()) for each in request.of]
        return StandingResponse(standings=found, revoked_token_ids=self.revoked)


@dataclass
class Examined:
    """A keeper whose calls are examined; no provider is reached."""

    keeper: Keeper
    examiner: Examiner
    extauthz: StandingTeller
    charging: Charging

    def open(
        self, payer: Payer, number: int, limits: CallLimits = BEST_EFFORT, **more: Any
    ) -> Kept:
        """Open a call."""
        name = f"{number:032x}"
        call = Call(name, "d", "https://p.example", name, "voice", payer, "", "r", 0.0)
        kept = self.keeper.prepare(replace(call, **more), name, "", limits)
        self.keeper.keep(kept)
        return kept

    def use(self, kept: Kept, dollars: int) -> None:
        """Let a call use something, as an event of its sideband would."""
        usage = Usage(f"resp_{kept.state.cost_microdollars}", "response", "", Tokens(), 0.0)
        usage = replace(usage, tokens=Tokens(text_out=dollars))
        cost = self.charging.charge(kept.call, usage, DEPLOYMENT)
        kept.state = replace(kept.state, cost_microdollars=kept.state.cost_microdollars + cost)
        self.keeper.look_at(kept)


@asynccontextmanager
async def examined(folder: Path, **settings: Any) -> AsyncIterator[Examined]:
    """Examine calls ten times in a second."""
    teller, server = StandingTeller(), aio.server()
    add_UpstreamsServicer_to_server(teller, server)
    server.add_insecure_port(f"unix:{folder}/extauthz")
    await server.start()
    extauthz = Peers([f"unix:{folder}/extauthz"], UpstreamsStub)
    extauthz.start()
    supervision = SupervisionSettings(standing_interval_s=0.1, **settings)
    examiner = Examiner(supervision, extauthz, is_written=True)
    charging = Charging(PriceBook(), [examiner.charge])
    egress = Egress(listener_way("http://127.0.0.1:1"))
    egress.start()
    keeper = Keeper(
        LIMITS,
        Reaches(extauthz),
        egress,
        News(),
        charging.charge,
        slots=MemorySlots(),
        verdict=examiner.verdict,
    )
    examiner.start(keeper)
    try:
        yield Examined(keeper, examiner, teller, charging)
    finally:
        await examiner.stop()
        await keeper.stop()
        await egress.stop()
        await extauthz.stop()
        await server.stop(None)


def limit(kind: str, spend: float, most: float) -> Standing:
    """Return how somebody stands who is under one budget."""
    return Standing(budgets=[Budget(kind=kind, spend=spend, limit=most)])


async def reason(kept: Kept) -> str | None:
    """Return why a call ends, once it does."""
    await until(lambda: not kept.state.is_open, 5)
    return kept.state.reason


async def test_those_who_pay_are_asked_about_once(tmp_path: Path) -> None:
    """However many calls they have; by another alias or at another deployment it is another ask."""
    async with examined(tmp_path) as calls:
        for number in range(3):
            calls.open(WEB, number)
        calls.open(WEB, 3, asked="fast")
        calls.open(APP, 4, deployment="e")
        await until(lambda: bool(calls.extauthz.requests))
        asked = [
            (each.key_hash[0], each.asked, each.deployment)
            for each in calls.extauthz.requests[-1].of
        ]
        assert sorted(asked) == [("a", "", "d"), ("a", "fast", "d"), ("b", "", "e")]


async def test_calls_end_when_extauthz_says_so(tmp_path: Path) -> None:
    """All of a key, whether they have to be supervised or not; others go on."""
    async with examined(tmp_path) as calls:
        first, second = calls.open(WEB, 1), calls.open(WEB, 2, CallLimits(is_required=True))
        other = calls.open(APP, 3)
        calls.extauthz.standings[WEB.key_hash] = Standing(reason="key_blocked")
        assert await reason(first) == await reason(second) == "key_blocked"
        assert other.state.is_open


async def test_calls_end_with_their_token(tmp_path: Path) -> None:
    """Those that other tokens of the key have opened, and the key itself, go on."""
    async with examined(tmp_path) as calls:
        of_key, other = calls.open(WEB, 1), calls.open(WEB, 2, token_id="token-2")
        revoked = calls.open(WEB, 3, token_id="token-3", opened_at=7.0)
        calls.extauthz.revoked = ["token-3"]
        assert await reason(revoked) == "revoked"
        asked = next(each for each in calls.extauthz.requests if each.calls).calls
        assert [(each.token_id, each.opened_at) for each in asked] == [
            ("token-2", 0.0),
            ("token-3", 7.0),
        ]
        assert of_key.state.is_open
        assert other.state.is_open


async def test_a_budget_ends_calls_of_all_who_share_it(tmp_path: Path) -> None:
    """The call that uses it up ends at once, and the other one of the team within moments."""
    async with examined(tmp_path) as calls:
        for payer in (WEB, APP):
            calls.extauthz.standings[payer.key_hash] = limit("team", 2.0, 5.0)
        web, app = calls.open(WEB, 1), calls.open(APP, 2)
        await until(lambda: len(calls.extauthz.requests) > 1)
        calls.use(web, 1)
        calls.use(app, 1)
        assert web.state.is_open
        assert app.state.is_open
        calls.use(web, 1)
        assert web.state.reason == "team_budget"
        assert await reason(app) == "team_budget"


async def test_what_is_left_of_budgets_is_known(tmp_path: Path) -> None:
    """Of the one with the least, with what open calls have used; of none, nothing."""
    async with examined(tmp_path) as calls:
        of_team, of_key = (Budget(kind=k, spend=1, limit=m) for k, m in (("team", 9), ("key", 4)))
        calls.extauthz.standings[WEB.key_hash] = Standing(budgets=[of_team, of_key])
        web, app = calls.open(WEB, 1), calls.open(APP, 2)
        assert calls.examiner.left(web) is None
        await until(lambda: calls.examiner.left(web) is not None)
        assert calls.examiner.left(web) == 3_000_000
        calls.use(web, 2)
        assert calls.examiner.left(web) == 1_000_000
        assert calls.examiner.left(app) is None
        calls.use(web, 2)
        assert calls.examiner.left(web) == 0


async def test_a_call_that_has_ended_is_still_held_against_a_budget(tmp_path: Path) -> None:
    """Until its spend shows what the call has used."""
    async with examined(tmp_path) as calls:
        calls.extauthz.standings[WEB.key_hash] = limit("key", 2.0, 5.0)
        first, second = calls.open(WEB, 1), calls.open(WEB, 2)
        await until(lambda: len(calls.extauthz.requests) > 1)
        calls.use(first, 2)
        calls.keeper.let_go(first)
        assert second.state.is_open
        calls.use(second, 1)
        assert second.state.reason == "key_budget"


async def test_open_calls_are_held_against_the_budget_of_a_model(tmp_path: Path) -> None:
    """Of which nobody keeps the spend: what is left when one has ended, others may use."""
    async with examined(tmp_path) as calls:
        calls.extauthz.standings[WEB.key_hash] = limit("model", 0.0, 5.0)
        first, second = calls.open(WEB, 1), calls.open(WEB, 2)
        await until(lambda: len(calls.extauthz.requests) > 1)
        calls.use(first, 3)
        calls.use(second, 1)
        assert first.state.is_open
        calls.use(second, 1)
        assert await reason(second) == "model_budget"
        await asyncio.sleep(0.3)
        assert first.state.is_open


def silent(calls: Examined) -> None:
    """Let extauthz fail."""
    calls.extauthz.fails = grpc.StatusCode.INTERNAL


def clueless(calls: Examined) -> None:
    """Let the source of keys fail."""
    calls.extauthz.standings[WEB.key_hash] = Standing(is_unknown=True)


@pytest.mark.parametrize("fail", [silent, clueless])
async def test_calls_outlast_a_short_time_in_which_nobody_can_tell(
    tmp_path: Path, fail: Callable[[Examined], None]
) -> None:
    """Those that have to be supervised end after it, and what was known of budgets still holds."""
    async with examined(tmp_path, standing_timeout_s=1) as calls:
        calls.extauthz.standings[APP.key_hash] = limit("key", 2.0, 5.0)
        best_effort, poor = calls.open(WEB, 1), calls.open(APP, 2)
        kept = calls.open(WEB, 3, CallLimits(is_required=True))
        await until(lambda: len(calls.extauthz.requests) > 1)
        fail(calls)
        await asyncio.sleep(0.5)
        assert kept.state.is_open
        calls.use(poor, 3)
        assert poor.state.reason == "key_budget"
        assert await reason(kept) == "unknown_standing"
        assert best_effort.state.is_open
