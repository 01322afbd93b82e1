"""Sidebands: WebSockets that listen in on a call and may steer it (``?call_id=``)."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from emulator import errors
from emulator.api import Api
from emulator.call import SESSION_CAP, Call
from emulator.faults import GARBAGE, SidebandFault, refusal
from emulator.mishaps import suffer
from emulator.observers import Inbox
from emulator.sessions import Credential

BETA: Final = "realtime=v1"
HEARTBEAT_S: Final = 30.0
DATA: Final = (WSMsgType.TEXT, WSMsgType.BINARY)


async def listen_in(
    api: Api, request: web.Request, open_sockets: set[web.WebSocketResponse]
) -> web.WebSocketResponse:
    """Give a copy of every event of a live call, and take events, until either side leaves.

    Args:
        api: The dialect.
        request: The upgrade.
        open_sockets: Has the socket in it while it is open.

    Raises:
        ApiError: 404 ``call_id_not_found`` unless the call is live and the key is right.
    """
    fault = api.faults.take_sideband()
    await suffer(fault)
    call = _find_call(api, request, fault)
    sideband = _Sideband(call, fault, request, web.WebSocketResponse(heartbeat=HEARTBEAT_S))
    await sideband.socket.prepare(request)
    api.counters.count("sideband", sideband.socket.status)
    open_sockets.add(sideband.socket)
    try:
        await sideband.run()
    finally:
        open_sockets.discard(sideband.socket)
    return sideband.socket


def _find_call(api: Api, request: web.Request, fault: SidebandFault) -> Call:
    credential = api.authenticate(request)
    if "model" in request.query:
        raise errors.unknown_parameter("model")
    if BETA in request.headers.get("OpenAI-Beta", ""):
        raise errors.call_not_found()
    call = api.calls.find_live(request.query["call_id"], api.dialect, credential)
    until_s, status = call.refuses_sidebands
    if call.live_s < until_s and status != errors.call_not_found().status:
        raise refusal(status)
    is_early = call.live_s < max(fault.live_after_s, until_s)
    if is_early or not _is_right_key(credential, fault):
        raise errors.call_not_found()
    return call


def _is_right_key(credential: Credential, fault: SidebandFault) -> bool:
    return fault.keys is None or (fault.keys == "ephemeral") == credential.is_ephemeral


@dataclass(frozen=True, slots=True)
class _Sideband:
    """One who listens in, from the upgrade to the end."""

    call: Call
    fault: SidebandFault
    request: web.Request
    socket: web.WebSocketResponse

    async def run(self) -> None:
        """Forward events both ways."""
        inbox = self.call.observers.add()
        if self.fault.malformed == "garbage":
            inbox.put_nowait(GARBAGE)
        forwarder = asyncio.create_task(self._forward(inbox))
        try:
            async for message in self.socket:
                if message.type in DATA and not self.call.has_ended:
                    self.call.control(message.data, inbox)
        finally:
            self.call.observers.remove(inbox)
            forwarder.cancel()
            await asyncio.wait([forwarder])

    async def _forward(self, inbox: Inbox) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                async with asyncio.timeout(self.fault.cut_after_s):
                    is_cut = await self._send_all(inbox)
            except TimeoutError:
                is_cut = True
            if is_cut:
                await self._cut(inbox)
            elif not self.fault.lingers:
                await self._say_goodbye()

    async def _send_all(self, inbox: Inbox) -> bool:
        """Return True when enough events are sent, False when the call has ended."""
        sent = 0
        while sent != self.fault.cut_after_events:
            text = await inbox.get()
            if text is None:
                return False
            await self.socket.send_str(text)
            sent += 1
        return True

    async def _cut(self, inbox: Inbox) -> None:
        self.call.observers.remove(inbox)
        until_s = self.call.live_s + self.fault.refuse_s
        self.call.refuses_sidebands = (until_s, self.fault.refuse_status)
        if self.fault.cut_code is not None:
            await self.socket.close(code=self.fault.cut_code)
        elif self.request.transport is not None:
            self.request.transport.abort()

    async def _say_goodbye(self) -> None:
        """Close as the provider does.

        For the cap: https://github.com/pollen-robotics/reachy_mini_conversation_app/issues/134
        """
        if self.call.ended_because == SESSION_CAP:
            words = errors.session_expired(self.call.cap_s).message
            await self.socket.close(code=WSCloseCode.GOING_AWAY, message=words.encode())
        else:
            await self.socket.close()
