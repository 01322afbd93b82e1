"""A provider whose calls are short, use something that is known, and have no media."""

import asyncio
import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from callkeeper.model import Tokens
from helpers.descriptions import ANSWERS

_ANSWER: Final = ANSWERS["answer_openai_2026-08-17_ga_calls"].decode()


@dataclass
class MeteredProvider:
    """Answers every offer; its calls say what they use over the sideband, and are over then.

    Attributes:
        turns: How many responses a call has.
        pause_s: Between two of them.
        url: Where it listens.
        used: What each call has used by now, by its id and the id of the response.
        heard: How many sidebands heard each response.
        offers: How many offers came.
        ended: Calls that are over.
    """

    turns: int = 3
    pause_s: float = 0.05
    url: str = ""
    used: dict[str, dict[str, Tokens]] = field(default_factory=lambda: defaultdict(dict))
    heard: dict[str, int] = field(default_factory=dict)
    offers: int = 0
    ended: set[str] = field(default_factory=set)
    _rolls: random.Random = field(default_factory=lambda: random.Random(9))
    _sockets: dict[str, set[web.WebSocketResponse]] = field(
        default_factory=lambda: defaultdict(set)
    )
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def _mint(self, _request: web.Request) -> web.Response:
        session = {"type": "realtime", "object": "realtime.session", "model": "gpt-realtime"}
        content = {
            "value": "ek_of_a_provider_that_is_made_up",
            "expires_at": int(time.time()) + 600,
            "session": session,
        }
        return web.json_response(content)

    async def _call(self, request: web.Request) -> web.Response:
        await request.read()
        self.offers += 1
        call_id = f"rtc_{self.offers}"
        return web.Response(
            status=201,
            text=_ANSWER,
            content_type="application/sdp",
            headers={"location": f"/v1/realtime/calls/{call_id}"},
        )

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        call_id = request.query["call_id"]
        if call_id in self.ended:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        is_first = call_id not in self._sockets
        self._sockets[call_id].add(socket)
        if is_first:
            task = asyncio.create_task(self._talk(call_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        async for _ in socket:
            pass
        self._sockets[call_id].discard(socket)
        return socket

    async def _hang_up(self, request: web.Request) -> web.Response:
        call_id = request.match_info["call_id"]
        if call_id in self.ended:
            return web.Response(status=404)
        await self._end(call_id)
        return web.Response()

    async def _talk(self, call_id: str) -> None:
        """Use something, turn by turn, whoever listens, and end the call."""
        for turn in range(self.turns):
            await asyncio.sleep(self.pause_s)
            if call_id in self.ended:
                return
            response_id, tokens = f"resp_{call_id}_{turn}", self._some_tokens()
            self.used[call_id][response_id] = tokens
            event = json.dumps(_done(response_id, tokens))
            self.heard[response_id] = 0
            for socket in tuple(self._sockets[call_id]):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str(event)
                    self.heard[response_id] += 1
        await asyncio.sleep(self.pause_s)
        await self._end(call_id)

    async def _end(self, call_id: str) -> None:
        self.ended.add(call_id)
        for socket in tuple(self._sockets[call_id]):
            await socket.close()

    def _some_tokens(self) -> Tokens:
        amounts = [self._rolls.choice([0, self._rolls.randrange(3000)]) for _ in range(7)]
        # Something at least: a response that used nothing is not written.
        return replace(Tokens(*amounts), audio_out=self._rolls.randrange(1, 200))


@asynccontextmanager
async def metered_provider(**plan: Any) -> AsyncIterator[MeteredProvider]:
    """Run one on a free port."""
    provider = MeteredProvider(**plan)
    app = web.Application()
    app.router.add_post("/v1/realtime/client_secrets", provider._mint)
    app.router.add_post("/v1/realtime/calls", provider._call)
    app.router.add_get("/v1/realtime", provider._attach)
    app.router.add_post("/v1/realtime/calls/{call_id}/hangup", provider._hang_up)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        for task in provider._tasks:
            task.cancel()
        await runner.cleanup()


def _done(response_id: str, tokens: Tokens) -> dict[str, Any]:
    """Return the event that ends a response; what is cached is a part of its kind."""
    cached = {
        "text_tokens": tokens.cached_text_in,
        "audio_tokens": tokens.cached_audio_in,
        "image_tokens": tokens.cached_image_in,
    }
    read = {
        "text_tokens": tokens.text_in + tokens.cached_text_in,
        "audio_tokens": tokens.audio_in + tokens.cached_audio_in,
        "image_tokens": tokens.image_in + tokens.cached_image_in,
    }
    written = {"text_tokens": tokens.text_out, "audio_tokens": tokens.audio_out}
    usage = {
        "total_tokens": sum(read.values()) + sum(written.values()),
        "input_tokens": sum(read.values()),
        "output_tokens": sum(written.values()),
        "input_token_details": {
            **read,
            "cached_tokens": sum(cached.values()),
            "cached_tokens_details": cached,
        },
        "output_token_details": written,
    }
    response = {
        "object": "realtime.response",
        "id": response_id,
        "status": "completed",
        "output": [],
        "usage": usage,
    }
    return {"type": "response.done", "event_id": f"event_{response_id}", "response": response}
