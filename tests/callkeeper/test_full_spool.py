"""What becomes of new calls when what they cost could not be kept."""

from pathlib import Path

import grpc
import pytest
from grpc import aio

from callsapi.v1.calls_pb2 import PHASE_ATTACHED
from helpers.callkeepers import keepers
from helpers.valkey import ValkeyProcess
from helpers.waiting import until

# Nobody listens there.
_DATABASE = "postgresql://ringback:secret@127.0.0.1:1/litellm"


async def test_a_full_spool_keeps_calls_from_beginning(tmp_path: Path) -> None:
    """Those that are open go on; the reason says what to do."""
    with ValkeyProcess() as valkey:
        async with keepers(
            tmp_path,
            valkey,
            sinks=["litellm"],
            database_url=_DATABASE,
            spool_folder=str(tmp_path / "spool"),
            spool_max_bytes=65_536,
        ) as group:
            await group.start("one")
            known, call = await group.open("one")
            for _ in range(200):
                await call.say()
            await until(lambda: '"event": "spool_full"' in group.log("one"))
            with pytest.raises(aio.AioRpcError, match="the spool is full") as caught:
                await group.register("one")
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await group.known_to("one"))[known].phase == PHASE_ATTACHED
            assert group.provider.calls["rtc_1"].attaches == 0
