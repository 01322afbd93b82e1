import asyncio
import signal
import time

import pytest

from helpers.expect import check_refusal
from helpers.gateway import Gateway, until
from helpers.http11 import Message
from helpers.load import Load
from helpers.recording import CLIENT_SECRETS, minted_reply

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

LINES = 8
# After 2.25 s at most health checks leave out a worker that hangs, and the last call to it is
# refused 2 s later.
SETTLED_S = 5.5


def rounds(flood: int) -> int:
    """Return how often the workers end."""
    return max(flood // 1000, 1)


async def end_one_after_the_other(
    pair: Gateway, flood: int, number: signal.Signals, *services: str
) -> Load:
    """Return a load of so many requests under which both workers of each service ended.

    They end once for each thousand of them, and at least once, and come back.
    """
    # A long flood outlasts the usual 10 minutes.
    pair.openai.script[CLIENT_SECRETS] = minted_reply("ek_upstream_0001", lifetime_s=7200)
    async with Load(await pair.mixed(), LINES) as load:
        await load.more(50)
        for index in (0, 1) * rounds(flood):
            names = [f"{service}-{index}" for service in services]
            ended = {name: pair.stack.pid_of(name) for name in names}
            for name in names:
                pair.signal(name, number)
            await until(
                lambda ended=ended: all(  # type: ignore[misc]
                    pair.stack.pid_of(name) != pid for name, pid in ended.items()
                )
            )
            await pair.wait_for(*names)
            await load.more(50)
        await load.more(max(flood - len(load.answers), 50), timeout_s=600)
    return load


async def test_rolling_restart_costs_nothing(pair: Gateway, flood: int) -> None:
    """SIGTERM to one worker of each service and then to the other: not a single request fails."""
    load = await end_one_after_the_other(pair, flood, signal.SIGTERM, "extauthz", "sdpfilter")
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}


async def test_killed_extauthz_costs_nothing(pair: Gateway, flood: int) -> None:
    """Kill -9 of one worker after the other: requests in flight on it are decided by the other."""
    load = await end_one_after_the_other(pair, flood, signal.SIGKILL, "extauthz")
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}


async def test_killed_sdpfilter_costs_what_it_was_at(pair: Gateway, flood: int) -> None:
    """Kill -9 of one worker after the other: at most the calls in flight on it are refused.

    NOTE: it cannot be 0. What a worker knows of a call, its offer, dies with it, and a call must
    not be sent to the provider twice.
    """
    load = await end_one_after_the_other(pair, flood, signal.SIGKILL, "sdpfilter")
    assert load.failures == []
    refused = [answer for answer in load.answers if answer.status not in {200, 201}]
    for answer in refused:
        check_refusal(answer, 503)
    assert len(refused) <= 2 * LINES * rounds(flood)


@pytest.mark.parametrize(
    ("service", "refused_at_most", "longest_s"),
    [
        pytest.param("extauthz", 0, 8, id="extauthz"),
        pytest.param("sdpfilter", 2 * LINES, 5, id="sdpfilter"),
    ],
)
async def test_hanging_worker_is_left_out(
    pair: Gateway, service: str, refused_at_most: int, longest_s: float
) -> None:
    """SIGSTOP of one worker: within seconds everything goes to the other one.

    What waits for a decision of extauthz is decided by the other worker; what waits for sdpfilter
    is refused after its message timeout.
    """
    token = await pair.token()
    longest = 0.0

    async def call() -> Message:
        nonlocal longest
        begin = time.monotonic()
        answer = await pair.call(token)
        longest = max(longest, time.monotonic() - begin)
        return answer

    async with Load(call, LINES) as load:
        await load.more(50)
        pair.signal(f"{service}-0", signal.SIGSTOP)
        try:
            await asyncio.sleep(SETTLED_S)
            refused = len(load.answers) - load.statuses[201]
            await load.more(100)
        finally:
            pair.signal(f"{service}-0", signal.SIGCONT)
    assert load.failures == []
    later = [answer for answer in load.answers if answer.status != 201]
    assert len(later) == refused <= refused_at_most
    for answer in later:
        check_refusal(answer, answer.status)
        assert answer.status in {503, 504}
    assert longest < longest_s
