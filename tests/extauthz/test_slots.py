import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from extauthz.deployments import Deployment
from extauthz.keys import Limits, VirtualKey
from extauthz.limits.errors import OpenCallsUncheckedError, TooManyOpenCallsError
from extauthz.slots import Slots
from helpers.authz import AZURE, OPENAI
from helpers.callcounting import CallCounting, call_counting
from helpers.gateway import until
from ringback.settings import SupervisionSettings

ONE = VirtualKey("1", max_open_calls=1)
FREE = VirtualKey("2")


@asynccontextmanager
async def asking(settings: SupervisionSettings) -> AsyncIterator[Slots]:
    """Run what asks callkeeper."""
    slots = Slots(settings)
    slots.start()
    try:
        yield slots
    finally:
        await slots.stop()


@asynccontextmanager
async def counting(folder: Path, **settings: Any) -> AsyncIterator[tuple[CallCounting, Slots]]:
    """Run callkeeper, and what asks it."""
    async with (
        call_counting(folder) as calls,
        asking(calls.settings(max_open_calls=settings)) as slots,
    ):
        yield calls, slots


async def _fail(slots: Slots, error: type[BaseException]) -> None:
    async with slots.taken(ONE):
        raise error


async def _call_at(slots: Slots, deployment: Deployment) -> None:
    async with slots.taken(ONE) as taken:
        before = taken.id
        await taken.take_at(deployment)
        assert taken.id == before


async def test_a_call_takes_its_slots(tmp_path: Path) -> None:
    """Under an id of its own; the next one is told what is too much, and takes nothing."""
    async with counting(tmp_path, team=5) as (calls, slots):
        key = VirtualKey("1", team="web", max_open_calls=1)
        async with slots.taken(key) as first:
            assert re.fullmatch("[0-9a-f]{32}", first.id or "")
        with pytest.raises(TooManyOpenCallsError) as caught:
            async with slots.taken(key):
                raise AssertionError
        error = caught.value
        assert (error.http_status, error.type) == (429, "throttling_error")
        assert (error.code, dict(error.headers)) == ("too_many_open_calls", {"retry-after": "5"})
        assert "This API key is limited to 1 open calls at a time" in str(error)
        assert (calls.taken("key:1"), calls.taken("team:web")) == (1, 1)


async def test_what_is_not_opened_gives_its_slots_back(tmp_path: Path) -> None:
    """Whatever keeps the call from going on, also that nobody waits for it any more."""
    async with counting(tmp_path) as (calls, slots):
        for error in (KeyError, asyncio.CancelledError):
            with pytest.raises(error):
                await _fail(slots, error)
            await until(lambda: calls.taken("key:1") == 0)


async def test_a_deployment_that_is_chosen_later(tmp_path: Path) -> None:
    """Its slot is taken under the same id; if there is none, those of before are given back."""
    async with counting(tmp_path, deployment=1) as (calls, slots):
        async with slots.taken(FREE, OPENAI) as first:
            assert first.id is not None
        full = pytest.raises(TooManyOpenCallsError, match="The deployment of this model")
        with full:
            async with slots.taken(ONE) as second:
                await second.take_at(OPENAI)
        await until(lambda: calls.taken("key:1") == 0)
        await _call_at(slots, AZURE)
        assert (calls.taken("key:1"), calls.holders) == (1, 2)


async def test_what_has_no_limit_asks_nobody() -> None:
    """Nor does what is not supervised."""
    required = SupervisionSettings(mode="required")
    for key in (FREE, VirtualKey("1", is_master=True)):
        async with asking(required) as slots, slots.taken(key) as taken:
            await taken.take_at(OPENAI)
            assert taken.id is None
    async with asking(SupervisionSettings()) as slots, slots.taken(ONE) as taken:
        assert taken.id is None


@pytest.mark.parametrize("mode", ["required", "auto"])
async def test_nobody_can_tell(mode: Literal["required", "auto"]) -> None:
    """Calls that have to be supervised are refused, others pass."""
    away = ("127.0.0.1:1",)
    async with asking(SupervisionSettings(mode=mode, callkeeper=away)) as slots:
        with pytest.raises(OpenCallsUncheckedError) as caught:
            async with slots.taken(ONE):
                raise AssertionError
        assert (caught.value.http_status, caught.value.code) == (503, "supervision_unavailable")
        assert caught.value.headers == {"retry-after": "1"}
        async with slots.taken(FREE):
            pass
    best_effort = SupervisionSettings(mode="best_effort", callkeeper=away)
    async with asking(best_effort) as slots, slots.taken(ONE) as taken:
        assert taken.id is not None


async def test_limits_that_no_message_can_say(tmp_path: Path) -> None:
    """Below zero is none at all, and more than four billion is as many."""
    async with counting(tmp_path) as (_, slots):
        async with slots.taken(VirtualKey("1", limits=Limits(parallel=2**40))):
            pass
        with pytest.raises(TooManyOpenCallsError, match="limited to 0 open"):
            async with slots.taken(VirtualKey("2", max_open_calls=-1)):
                raise AssertionError


async def test_the_last_slot_is_taken_once(tmp_path: Path) -> None:
    """Of 50 who race for it one wins, and nobody else holds anything."""
    async with counting(tmp_path) as (calls, slots), AsyncExitStack() as open_calls:

        async def call() -> bool:
            try:
                await open_calls.enter_async_context(slots.taken(ONE))
            except TooManyOpenCallsError:
                return False
            return True

        assert sum(await asyncio.gather(*(call() for _ in range(50)))) == 1
        assert calls.taken("key:1") == 1
