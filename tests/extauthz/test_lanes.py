import asyncio

import pytest
from prometheus_client import REGISTRY

from extauthz.decision import Allow, Answer, Decision, Labels, RequestFacts
from extauthz.gate import Gate
from extauthz.lanes import Lane
from helpers.authz import request
from ringback.errors import ApiError


class Slow:
    """An endpoint that decides when it may."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = 0
        self.may_end = asyncio.Event()

    def serves(self, request: RequestFacts) -> bool:
        """Serve the path that is its name."""
        return request.path == f"/{self.name}"

    async def decide(self, request: RequestFacts) -> Decision:
        """Consent after a while, or fail where the body says so."""
        self.begun += 1
        await self.may_end.wait()
        if request.body:
            raise ApiError
        return Allow(Labels("call"))


def under_way(lane: str) -> float | None:
    """Return what the metric says."""
    return REGISTRY.get_sample_value("ringback_authz_under_way", {"lane": lane})


def shed(endpoint: str) -> float:
    """Return how many requests were refused."""
    labels = {"endpoint": endpoint, "outcome": "overloaded"}
    return REGISTRY.get_sample_value("ringback_authz_decisions_total", labels) or 0


async def test_what_is_too_much_is_refused_at_once() -> None:
    """Above the limit a request is 503 with `retry-after`, counted, and nothing is begun for it."""
    slow = Slow("mint")
    gate = Gate(Lane("tested", 2).over(slow))
    before = shed("mint")
    taken = [asyncio.create_task(gate.decide(request("/mint", None))) for _ in range(2)]
    await asyncio.sleep(0)

    refused = await gate.decide(request("/mint", None))

    assert isinstance(refused, Answer)
    assert (refused.status, refused.labels) == (503, Labels("overloaded"))
    assert refused.headers["retry-after"] == "1"
    assert (slow.begun, under_way("tested"), shed("mint") - before) == (2, 2, 1)
    slow.may_end.set()
    assert [type(decision) for decision in await asyncio.gather(*taken)] == [Allow, Allow]
    assert under_way("tested") == 0


async def test_endpoints_of_a_lane_share_its_limit() -> None:
    """A lane is one limit for all its endpoints; another lane is not held up by it."""
    mint, session, call = Slow("mint"), Slow("session"), Slow("call")
    gate = Gate([*Lane("mints", 1).over(mint, session), *Lane("calls", 1).over(call)])
    first = asyncio.create_task(gate.decide(request("/mint", None)))
    await asyncio.sleep(0)
    call.may_end.set()

    refused = await gate.decide(request("/session", None))

    assert isinstance(refused, Answer)
    assert refused.status == 503
    assert isinstance(await gate.decide(request("/call", None)), Allow)
    mint.may_end.set()
    await first


@pytest.mark.parametrize("how", ["answered", "failed", "cancelled"])
async def test_every_end_frees_the_place(how: str) -> None:
    """Whether a decision is made, fails or is given up: the next one is begun."""
    slow = Slow("call")
    gate = Gate(Lane("ends", 1).over(slow))
    body = b"fail" if how == "failed" else b""
    task = asyncio.create_task(gate.decide(request("/call", None, body)))
    await asyncio.sleep(0)
    if how == "cancelled":
        task.cancel()
    slow.may_end.set()
    await asyncio.wait([task])

    assert under_way("ends") == 0
    assert isinstance(await gate.decide(request("/call", None)), Allow)
