import asyncio
from pathlib import Path

from callsapi.v1.calls_pb2 import GetRequest
from helpers.keptservice import REGISTER, running
from helpers.upprocess import RINGBACK


async def calls(*arguments: str) -> tuple[int | None, str, str]:
    """Run ``ringback calls``; return its exit code and what it prints to where."""
    process = await asyncio.create_subprocess_exec(
        RINGBACK,
        "calls",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_a_worker_that_is_down_hides_no_other(tmp_path: Path) -> None:
    """What the others keep is shown, and that some is missing; a call of theirs is ended."""
    up, down = f"unix:{tmp_path}/callkeeper", f"unix:{tmp_path}/nowhere"
    both = ("--address", down, "--address", up)
    async with running(tmp_path) as service:
        call = (await service.calls.Register(REGISTER)).id
        code, shown, said = await calls("list", *both)
        assert (code, call in shown) == (1, True)
        assert said == (
            "A worker of callkeeper cannot be asked: calls that it keeps alone are missing.\n"
        )
        code, shown, said = await calls("hangup", call, *both)
        assert (code, shown, said) == (0, "It is being ended.\n", "")
        assert (await service.calls.Get(GetRequest(call=call))).reason == "admin"
        code, shown, said = await calls("hangup", "another", *both)
        assert (code, said) == (1, "callkeeper cannot be asked: unavailable.\n")
    code, shown, said = await calls("list", "--address", down)
    assert (code, shown, said) == (1, "", "callkeeper cannot be asked: unavailable.\n")
