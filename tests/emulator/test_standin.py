"""The stand-in for thousands of sidebands, of which the benchmarks make use."""

import asyncio
import json
import time
from typing import Any, Final

import aiohttp

from helpers.sidebands import sent_at, sideband_standin

# Fewer than a client session has connections.
SOCKETS: Final = 60
RATE: Final = 500


async def test_many_sidebands_get_events_at_a_rate(http: aiohttp.ClientSession) -> None:
    """In turn, with usage and the time in each; a hangup closes a sideband, a second is 404."""
    with sideband_standin() as port:
        url = f"http://127.0.0.1:{port}"
        sockets = await asyncio.gather(
            *(http.ws_connect(f"{url}/v1/realtime?call_id=rtc_{n}") for n in range(SOCKETS))
        )
        began = time.time()
        await http.post(f"{url}/standin/rate", json={"events_per_s": RATE})
        events: list[dict[str, Any]] = [
            json.loads(await socket.receive_str(timeout=10)) for socket in [*sockets, *sockets]
        ]
        took_s = time.time() - began
        await http.post(f"{url}/standin/rate", json={"events_per_s": 0})
        assert took_s > 0.9 * len(events) / RATE
        assert all(event["response"]["usage"]["total_tokens"] for event in events)
        assert all(began < sent_at(event["response"]["id"]) < began + took_s for event in events)

        hangup = f"{url}/v1/realtime/calls/rtc_0/hangup"
        statuses = [(await http.post(hangup)).status for _ in range(2)]
        assert statuses == [200, 404]
        while (last := await sockets[0].receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, 1000)
        refused = await http.get(f"{url}/v1/realtime?call_id=rtc_0")
        assert refused.status == 404
        counted = await (await http.get(f"{url}/standin/counters")).json()
        assert (counted["attached"], counted["hangups"]) == (SOCKETS, 1)
        assert counted["events"] >= len(events)
        for socket in sockets:
            await socket.close()
