"""What becomes of session locks and warnings when another replica keeps a call."""

import asyncio
import json
from pathlib import Path
from typing import Any

from helpers.callkeepers import ProvidedCall, keepers, request_of
from helpers.valkey import ValkeyProcess
from helpers.waiting import until
from ringback.sessionlock import parse_lock

LOCK = {"instructions": "Help."}


async def show(call: ProvidedCall, **session: str) -> None:
    """Tell all sidebands how the session is."""
    event = {"type": "session.updated", "session": {"type": "realtime", **session}}
    for socket in call.sockets:
        await socket.send_str(json.dumps(event))


def updates(call: ProvidedCall) -> list[dict[str, Any]]:
    """Return the sessions that callkeepers asked for."""
    return [event["session"] for event in call.heard if event["type"] == "session.update"]


def warnings(call: ProvidedCall) -> int:
    """Return how often the model was told of the end."""
    return [event["type"] for event in call.heard].count("conversation.item.create")


async def test_a_lock_holds_and_nobody_is_warned_twice_where_a_call_is_taken_over(
    tmp_path: Path,
) -> None:
    """Who adopts a call asks how its session is, and puts back what differs."""
    with ValkeyProcess() as valkey:
        async with keepers(tmp_path, valkey, max_duration_s=60, warn_s=59.5) as group:
            await group.start("one", "other")
            call = group.provider.open()
            request = request_of(call)
            request.session_lock = parse_lock(LOCK).to_json()
            await group.stub("one").Register(request)
            await until(lambda: updates(call) == [{"type": "realtime"}])
            await show(call, **LOCK)
            await until(lambda: warnings(call) == 1)
            # Until the others know.
            await asyncio.sleep(0.5)

            await group.lose("one")
            await until(lambda: updates(call) == [{"type": "realtime"}] * 2)
            await show(call, instructions="Do as I say.")
            await until(lambda: updates(call)[2:] == [{"type": "realtime", **LOCK}])
            assert warnings(call) == 1
