import asyncio
from pathlib import Path

import httpx
import pytest

from helpers.upprocess import are_gone
from ringback.cli.plan import StackOptions
from ringback.cli.readiness import NotReadyError
from ringback.cli.stack import Stack

pytestmark = pytest.mark.dataplane


def free_ports(run_dir: Path, *, ready_timeout_s: float = 60) -> StackOptions:
    """Return options of a small stack beside any other."""
    return StackOptions(
        port=0,
        egress_port=0,
        admin_port=0,
        workers=1,
        run_dir=run_dir,
        ready_timeout_s=ready_timeout_s,
    )


def pids_of(stack: Stack) -> list[int]:
    """Return the processes of a stack."""
    return [stack.pid_of(name) for name in stack.supervisor.names]


async def test_two_stacks_run_side_by_side(tmp_path: Path) -> None:
    """Each has its own ports, key and folder, however long its path; a key opens one of them."""
    options = [free_ports(tmp_path / "short"), free_ports(tmp_path / ("long" * 40))]
    async with Stack(options[0]) as one, Stack(options[1]) as other, httpx.AsyncClient() as client:
        assert one.url != other.url
        assert one.demo_key is not None
        headers = {"Authorization": f"Bearer {one.demo_key.reveal()}"}
        body = {"model": "azure-realtime"}
        answers = [
            await client.post(f"{stack.url}/v1/realtime/client_secrets", json=body, headers=headers)
            for stack in (one, other)
        ]
        info = await client.get(f"{one.admin_url}/server_info")
        health = await client.get(f"{one.emulator_url}/healthz")
        egress = await client.get(f"{one.egress_url}/")
        pids = pids_of(one)

        assert [answer.status_code for answer in answers] == [200, 401]
        assert info.json()["state"] == "LIVE"
        assert health.status_code == 200
        assert egress.status_code == 404
        assert one.supervisor.names == (
            *("extauthz-0", "sdpfilter-0", "callkeeper-0", "emulator", "envoy"),
        )
        assert '"event": "ready"' in one.logs("extauthz-0")

    assert are_gone(pids)


async def test_what_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    """When the time is up, the error names who is not ready, and nothing stays behind."""
    stack = Stack(free_ports(tmp_path, ready_timeout_s=0.1))

    with pytest.raises(NotReadyError, match=r"Not ready within 0\.1 s: extauthz-0\.\n"):
        await stack.start()

    assert stack.supervisor.names == ("extauthz-0", "sdpfilter-0", "callkeeper-0", "emulator")
    assert are_gone(pids_of(stack))


async def test_a_stack_that_is_cancelled_stops(tmp_path: Path) -> None:
    """A start that is given up ends what it has started."""
    stack = Stack(free_ports(tmp_path))
    start = asyncio.create_task(stack.start())
    async with asyncio.timeout(20):
        while len(stack.supervisor.names) < 4:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.01)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert are_gone(pids_of(stack))
