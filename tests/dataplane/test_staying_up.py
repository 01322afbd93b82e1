import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from helpers.gateway import Gateway
from helpers.http11 import request_bytes, send
from helpers.load import flood
from helpers.recording import CLIENT_SECRETS, Reply
from ringback.processes import Child

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

AUTHZ: Final[tuple[str, ...]] = ("extauthz-0", "extauthz-1")
PROC: Final[tuple[str, ...]] = ("sdpfilter-0", "sdpfilter-1")
ENVOY: Final[tuple[str, ...]] = ("envoy",)


async def is_ready(pair: Gateway) -> bool:
    """Tell whether a call would find everything."""
    try:
        return (await send(pair.port, request_bytes("GET", "/readyz"))).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def start(pair: Gateway, children: list[Child]) -> None:
    """Start children and wait for none of them."""
    for child in children:
        await pair.stack.supervisor.start(child)


async def until_ready(pair: Gateway) -> None:
    """Wait until a call would find everything, at whichever workers."""
    async with asyncio.timeout(90):
        while not await is_ready(pair):  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.05)
        await pair.wait_for(*AUTHZ, *PROC)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([ENVOY, PROC, AUTHZ], id="envoy-first"),
        pytest.param([AUTHZ, ENVOY, PROC], id="sdpfilter-last"),
    ],
)
async def test_start_order_does_not_matter(pair: Gateway, order: list[tuple[str, ...]]) -> None:
    """Whoever comes first waits for the others: once all are there, calls and mints succeed."""
    stopped: dict[tuple[str, ...], list[Child]] = {}
    for names in (ENVOY, AUTHZ, PROC):
        stopped[names] = await pair.stop(*names)
    for names in order:
        await start(pair, stopped[names])
        # Long enough for the first tries to fail.
        await asyncio.sleep(0.5)
    await until_ready(pair)
    assert (await pair.call(await pair.token())).status == 201


async def test_a_full_disk_costs_log_lines_only(pair: Gateway) -> None:
    """When no log can be written, nobody ends, and all is answered as before."""
    everybody = (*ENVOY, *AUTHZ, *PROC)
    before = await pair.stop(*everybody)
    await start(pair, [replace(child, log=Path("/dev/full")) for child in before])
    try:
        await until_ready(pair)
        pids = {name: pair.stack.pid_of(name) for name in everybody}
        # What a service has to say something about.
        pair.files.keys.write_text("no keys")
        pair.openai.script[CLIENT_SECRETS] = Reply(500)
        await flood(pair.mint, 20)
        pair.reset()
        token = await pair.token()
        answers = await flood(lambda: pair.call(token), 100)
        assert {answer.status for answer in answers} == {201}
        assert {name: pair.stack.pid_of(name) for name in everybody} == pids
    finally:
        pair.files.write_keys()
        await pair.stop(*everybody)
        await start(pair, before)
        await until_ready(pair)
