"""What must work wherever the gateway runs: by `ringback up`, in containers, in a cluster."""

import asyncio
import re
import time
from collections.abc import Iterable
from typing import Any, Final

import httpx

from helpers.voiceclient import VoiceClient

MODELS: Final = ("gpt-realtime", "azure-realtime")

_MINT: Final = "/v1/realtime/client_secrets"
_CALLS: Final = "/v1/realtime/calls"
# What the emulator mints; nobody outside may see one. Ours goes on with a JWE header, ek_eyJ.
_RAW_EPHEMERAL_KEY: Final = re.compile(r"ek_[0-9a-f]{32}")
_TIMEOUT_S: Final = 20


async def check_gateway(
    base_url: str,
    key: str,
    *,
    models: Iterable[str] = MODELS,
    media_address: str | None = None,
) -> None:
    """Check a gateway in front of the emulator: pages, a refusal, and a real call for each model.

    Args:
        base_url: ``http://host:port``.
        key: A key that may use the models.
        models: Names of models.
        media_address: When given, calls reach the emulator at this address only.
    """
    async with httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False) as http:
        await check_pages(http)
        await check_refusal(http, f"{key}x")
        for model in models:
            await check_call(http, key, model, media_address)


async def check_pages(http: httpx.AsyncClient) -> None:
    """Check that it is ready and serves the playground."""
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    page = await http.get("/playground")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "</html>" in page.text


async def check_refusal(http: httpx.AsyncClient, wrong_key: str) -> None:
    """Check that a wrong key gets 401, in the shape that SDKs read."""
    answer = await http.post(_MINT, json={"model": MODELS[0]}, headers=_bearer(wrong_key))
    assert answer.status_code == 401
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    assert wrong_key not in answer.text


async def check_call(
    http: httpx.AsyncClient, key: str, model: str, media_address: str | None = None
) -> None:
    """Check that a call can be made: a token, an answer, audio that is heard, and events."""
    token = await _mint(http, key, model)
    async with VoiceClient() as client:
        headers = _bearer(token) | {"content-type": "application/sdp"}
        answer = await http.post(_CALLS, content=await client.offer(), headers=headers)
        assert answer.status_code == 201, answer.text
        assert answer.headers["content-type"] == "application/sdp"
        assert answer.headers["location"].startswith(f"{_CALLS}/rtc_")
        await client.accept(_reached_at(answer.text, media_address))
        async with asyncio.timeout(_TIMEOUT_S):
            await client.is_connected.wait()
            await client.hears_something.wait()
        await client.wait_for("session.created")
        client.send({"type": "session.update", "session": {"type": "realtime"}})
        await client.wait_for("session.updated")


async def _mint(http: httpx.AsyncClient, key: str, model: str) -> str:
    answer = await http.post(_MINT, json={"model": model}, headers=_bearer(key))
    assert answer.status_code == 200, answer.text
    minted: dict[str, Any] = answer.json()
    token = str(minted["value"])
    assert token.startswith("ek_eyJ")
    assert minted["expires_at"] > time.time()
    assert minted["client_secret"] == {"value": token, "expires_at": minted["expires_at"]}
    assert not _RAW_EPHEMERAL_KEY.search(answer.text)
    return token


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _reached_at(answer: str, address: str | None) -> str:
    """Return an SDP answer with those candidates only that have an address."""
    if address is None:
        return answer
    lines = answer.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("a=candidate:") or f" {address} " in line]
    assert any(line.startswith("a=candidate:") for line in kept), "not reached at the address"
    return "".join(kept)
