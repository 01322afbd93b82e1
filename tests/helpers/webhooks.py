"""Who is told what happens to calls: a webhook that checks signatures, and a collector."""

import base64
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """What was posted, in its order.

    Attributes:
        url: Where it listens.
        statuses: What the next ones are answered, in turn; then 204.
        refused: Calls whose events are answered with 422.
        attempts: By ``webhook-id``, each time that it came.
        events: What was taken.
        records: Log records that were taken, and their resource.
    """

    url: str = ""
    statuses: deque[int] = field(default_factory=deque)
    refused: set[str] = field(default_factory=set)
    attempts: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the data of the events of a name."""
        return [event["data"] for event in self.events if event["type"] == name]

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.attempts.append(request.headers["webhook-id"])
        _check_signature(request, body)
        if self.statuses:
            return web.Response(status=self.statuses.popleft())
        event = json.loads(body)
        if event["data"]["call"] in self.refused:
            return web.Response(status=422)
        self.events.append(event)
        return web.Response(status=204)

    async def _collect(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        found = Parse(await request.text(), ExportLogsServiceRequest())
        if self.statuses:
            return web.Response(status=self.statuses.popleft())
        for logs in found.resource_logs:
            (service,) = logs.resource.attributes
            assert (service.key, service.value.string_value) == ("service.name", "callkeeper")
            self.records += [record for scope in logs.scope_logs for record in scope.log_records]
        return web.json_response({})


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Serve both on a free port: ``/hook``, and ``/v1/logs`` of the collector."""
    found, app = Receiver(), web.Application()
    app.router.add_post("/hook", found._hook)
    app.router.add_post("/v1/logs", found._collect)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


def _check_signature(request: web.Request, body: bytes) -> None:
    message_id, timestamp = (request.headers[f"webhook-{name}"] for name in ("id", "timestamp"))
    assert abs(int(timestamp) - time.time()) < 60
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    wanted = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(wanted).decode()}"
