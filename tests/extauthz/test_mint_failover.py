import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from prometheus_client import REGISTRY

from extauthz.admission import Admitted
from extauthz.decision import Answer
from extauthz.egress import Egress
from extauthz.keys import VirtualKey
from extauthz.mint import MintedAt, Minter, MintFailedError
from extauthz.mintbody import parse_mint_request
from extauthz.routersettings import RouterSettings
from extauthz.routing import Router
from helpers.authz import EPHEMERAL_KEY, NOW, OPENAI, Clock, configuration, sealer, settings
from helpers.authz import minter as make_minter
from helpers.listener import Listener, Turn, listening
from ringback.tokens.claims import CallClaims

KEY = VirtualKey("a" * 64, alias="web", models=("voice",))
SEALER = sealer()
GROUP = tuple(replace(OPENAI, id=name, order=order) for order, name in enumerate("abc"))
SPARE = replace(OPENAI, id="s", model_name="spare")
MINTED = (200, json.dumps({"value": EPHEMERAL_KEY}).encode())
FAILED, REFUSED, LIMITED = (500, b""), (401, b""), (429, b'{"error":{"message":"Slow down."}}')


class Setup:
    """A minter before ``a``, ``b`` and ``c``, in this order, and the fallback ``s``."""

    def __init__(self, listener: Listener, egress: Egress) -> None:
        self.listener = listener
        self._egress = egress

    def minter(self, **values: Any) -> Minter:
        """Return a minter that has seen nothing yet."""
        served = configuration(deployments=(*GROUP, SPARE))
        served = replace(served, router=RouterSettings(fallbacks={"voice": ("spare",)}))
        router = Router(lambda: served, draw=Random(6))
        return make_minter(self._egress, SEALER, settings(**values), Clock(), router=router)

    async def mint(self, *replies: tuple[int, bytes] | Turn, **values: Any) -> Answer:
        """Mint, while the deployments answer so, one after another."""
        self._reply(replies)
        admitted = Admitted(KEY, "voice", GROUP)
        return await self.minter(**values).mint(parse_mint_request(b""), admitted, None)

    async def obtain(self, *replies: tuple[int, bytes]) -> MintedAt:
        """Obtain an ephemeral key, while the deployments answer so."""
        self._reply(replies)
        admitted = Admitted(KEY, "voice", GROUP)
        return await self.minter().obtain(parse_mint_request(b""), admitted, None)

    def _reply(self, replies: Sequence[tuple[int, bytes] | Turn]) -> None:
        for reply in replies:
            if isinstance(reply, Turn):
                self.listener.turns.append(reply)
            else:
                self.listener.reply(*reply)


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    """Run the listener and a client for it."""
    async with listening() as listener:
        egress = Egress.through(listener.url)
        yield Setup(listener, egress)
        await egress.close()


def attempts(deployment: str, result: str) -> float:
    """Return how many attempts ended so."""
    labels = {"deployment": deployment, "result": result}
    return REGISTRY.get_sample_value("ringback_mint_attempts_total", labels) or 0


@pytest.mark.parametrize(
    ("replies", "deployment"),
    [
        pytest.param([MINTED], "a", id="first"),
        pytest.param([FAILED, MINTED], "b", id="second"),
        pytest.param([FAILED, LIMITED, MINTED], "c", id="third"),
        pytest.param([FAILED, REFUSED, (200, b"{}"), MINTED], "s", id="fallback"),
    ],
)
async def test_the_next_one_mints(
    setup: Setup, replies: list[tuple[int, bytes]], deployment: str
) -> None:
    """Whoever mints is in the token and in the logs; the model is what the caller asked for."""
    before = attempts(deployment, "minted")
    answer = await setup.mint(*replies)
    claims = CallClaims.from_claims(SEALER.open(json.loads(answer.body)["value"], NOW))
    assert (claims.deployment, claims.model) == (deployment, "voice")
    assert (answer.labels.deployment, answer.labels.model) == (deployment, "voice")
    assert len(setup.listener.requests) == len(replies)
    assert attempts(deployment, "minted") == before + 1


@pytest.mark.parametrize(
    ("replies", "status", "code", "asked"),
    [
        # Realistic
        pytest.param([FAILED] * 4, 502, "upstream_failed", "s", id="all-fail"),
        pytest.param([REFUSED] * 4, 502, "upstream_refused", "s", id="all-refuse"),
        pytest.param(
            [REFUSED, LIMITED, FAILED, FAILED], 429, "upstream_refused_request", "s", id="limit"
        ),
        # A caller's own mistake
        pytest.param([(400, b"")], 400, "upstream_refused_request", "a", id="mistake"),
        pytest.param([FAILED, (422, b"")], 422, "upstream_refused_request", "b", id="second-says"),
    ],
)
async def test_nobody_mints(
    setup: Setup, replies: list[tuple[int, bytes]], status: int, code: str, asked: str
) -> None:
    """The caller is told the most useful reason, and logs name the last that was asked."""
    with pytest.raises(MintFailedError) as failed:
        await setup.mint(*replies)
    assert (failed.value.http_status, failed.value.code) == (status, code)
    assert failed.value.deployment == asked
    assert EPHEMERAL_KEY.encode() not in failed.value.to_body()
    assert len(setup.listener.requests) == len(replies)


async def test_no_fallback_costs_what_is_not_there(setup: Setup) -> None:
    """A caller without money is not served by a fallback that may cost something."""
    setup._reply([FAILED] * 3)
    admitted = Admitted(KEY, "voice", GROUP, may_spend=False)
    with pytest.raises(MintFailedError) as failed:
        await setup.minter().mint(parse_mint_request(b""), admitted, None)
    assert failed.value.deployment == "c"
    assert len(setup.listener.requests) == 3


async def test_one_deadline(setup: Setup) -> None:
    """Deployments that hang leave time for others, and all of them together end in time."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    hangs = Turn(then="hang")
    with pytest.raises(MintFailedError) as failed:
        await setup.mint(hangs, hangs, hangs, hangs, upstream={"mint_timeout_s": 1.3})
    # Four that each have this time would take 5.2 s.
    assert 1.2 < loop.time() - begin < 4
    assert (failed.value.http_status, failed.value.deployment) == (504, "b")
    assert "all attempts have 1.3 s together" in str(failed.value)
    assert len(setup.listener.requests) == 2


async def test_a_slow_one_leaves_time(setup: Setup) -> None:
    """A deployment that hangs for its share of the time does not keep the next from minting."""
    answer = await setup.mint(Turn(then="hang"), MINTED, upstream={"mint_timeout_s": 2})
    assert answer.labels.deployment == "b"


async def test_a_key_can_be_had_without_a_token(setup: Setup) -> None:
    """What is obtained says who minted, and holds the key and the claims for a call to it."""
    made = await setup.obtain(FAILED, MINTED)
    assert made.deployment.id == made.claims.deployment == "b"
    assert made.minted.ephemeral_key.reveal() == EPHEMERAL_KEY
    assert made.claims.ek == made.minted.ephemeral_key
    assert EPHEMERAL_KEY not in repr(made)
