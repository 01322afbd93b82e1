"""A gateway before groups of deployments of which one fails, each group in a way of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from helpers.gateway import JSON_TYPE, OFFER, OPENAI, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.http11 import Client, Message, request_bytes
from helpers.recording import CLIENT_SECRETS, JSON, RecordingUpstream, Reply, minted_reply
from ringback.cli.stack import Stack

GOOD_KEY: Final = "ek_upstream_of_the_good_one"
OTHER_KEY: Final = "ek_upstream_of_the_other_one"
RETRY_AFTER: Final = ("Retry-After", "1")
# Ways in which an upstream fails to mint; one that has no answer listens nowhere.
FAILURES: Final[dict[str, Reply | None]] = {
    "refused": None,
    "hangs-up": Reply(hangs_up=True),
    "timeout": Reply(delay_s=30),
    "limited": Reply(429, (JSON, RETRY_AFTER), b'{"error":{"message":"slow down"}}'),
    "failed": Reply(500),
    "conflict": Reply(409),
    "unauthorized": Reply(401, (JSON,), b'{"error":{"message":"Incorrect API key"}}'),
    "forbidden": Reply(403),
    "garbage": Reply(200, (JSON,), b"<html>"),
    "no-value": Reply(200, (JSON,), b'{"expires_at":1,"session":{}}'),
    "expired": minted_reply("ek_upstream_that_expired", lifetime_s=-60),
}


@dataclass(frozen=True, slots=True)
class Pairs:
    """A gateway and its upstreams.

    Attributes:
        gateway: Its `openai` is the good upstream, its `azure` the other good one.
        bad: The failing upstreams by the name of their group.
    """

    gateway: Gateway
    bad: dict[str, RecordingUpstream]

    @property
    def good(self) -> RecordingUpstream:
        """Mints, and takes calls."""
        return self.gateway.openai

    @property
    def other(self) -> RecordingUpstream:
        """Does so, too."""
        return self.gateway.azure

    def reset(self) -> None:
        """Forget what upstreams have received; give them their scripts."""
        self.gateway.reset()
        self.good.script[CLIENT_SECRETS] = minted_reply(GOOD_KEY)
        self.other.script[CLIENT_SECRETS] = minted_reply(OTHER_KEY)
        for name, upstream in self.bad.items():
            upstream.reset()
            if (reply := FAILURES.get(name)) is not None:
                upstream.script[CLIENT_SECRETS] = reply


def entry(group: str, name: str, upstream: RecordingUpstream, **params: Any) -> dict[str, Any]:
    """Return an entry of a group, with an id and litellm_params of its own."""
    made = openai_entry(group, upstream.url(), id=name)
    made["litellm_params"] |= params
    return made


def entries(good: RecordingUpstream, other: RecordingUpstream, **bad: RecordingUpstream) -> Any:
    """Return the ``model_list``: of each failing group the failing deployment comes first."""
    found = [
        entry("pair", "pair-good", good),
        entry("pair", "pair-other", other),
        entry("any/*", "any", other, model="openai/*"),
        entry("dead", "dead-1", bad["failed"]),
        entry("dead", "dead-2", bad["unauthorized"]),
        entry("helped", "helped-1", bad["failed"]),
        entry("wrong", "wrong-1", bad["wrong"], order=1),
        entry("wrong", "wrong-2", good, order=2),
    ]
    for name in FAILURES:
        found.append(entry(name, f"{name}-bad", bad[name], order=1))
        found.append(entry(name, f"{name}-good", good, order=2))
    return found


@asynccontextmanager
async def running(folder: Path, *, workers: int = 1, **settings: Any) -> AsyncIterator[Pairs]:
    """Run a gateway before all groups; a cooldown lasts a second."""
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(RecordingUpstream())
        other = await stack.enter_async_context(RecordingUpstream())
        bad = {
            name: await stack.enter_async_context(RecordingUpstream())
            for name in (*FAILURES, "wrong")
        }
        await bad["refused"].stop()
        stack.push_async_callback(bad["refused"].start)
        files = Files(folder)
        router = {"cooldown_time": 1, "fallbacks": [{"helped": ["pair"]}]}
        files.write_config(entries(good, other, **bad), router_settings=router)
        files.write_keys(**{"azure-only": {"models": ("helped",)}})
        files.write_settings(upstream={"mint_timeout_s": 2}, **settings)
        running = await stack.enter_async_context(Stack(files.options(workers=workers)))
        yield Pairs(Gateway(running, files, good, other), bad)


async def converse(port: int, model: str, count: int, lines: int = 16) -> list[Message]:
    """Mint a token and make a call with it, so often, over connections that are kept.

    Returns:
        All answers.
    """
    mint = request_bytes(
        "POST",
        f"{OPENAI}/client_secrets",
        [bearer(KEY), JSON_TYPE],
        json.dumps({"session": {"type": "realtime", "model": model}}).encode(),
    )
    answers: list[Message] = []
    left = iter(range(count))

    async def line() -> None:
        async with Client(port) as client:
            for _ in left:
                await client.write(mint)
                minted = await client.read()
                answers.append(minted)
                if minted.status == 200:
                    headers = [bearer(minted.json()["value"]), SDP_TYPE]
                    await client.write(request_bytes("POST", f"{OPENAI}/calls", headers, OFFER))
                    answers.append(await client.read())

    await asyncio.gather(*(line() for _ in range(lines)))
    return answers
