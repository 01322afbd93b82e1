"""Tokens that are revoked, and their keys that rotate, through the real Envoy.

Two workers of each service; sealing keys come from a JWK set, revocations from a file and Valkey.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from extauthz.revocations import save_revocations
from helpers.expect import check_refusal
from helpers.gateway import Gateway, bearer, until
from helpers.gatewayfiles import KEY, KEYS, Files, openai_entry
from helpers.http11 import Message
from helpers.jwksets import sealing_key, write_set
from helpers.load import Load
from helpers.recording import RecordingUpstream, Reply
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
from helpers.wsclient import shake_hands
from ringback.cli import app
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

OTHER_KEY: Final = "sk-other-key-of-the-team"
LEEWAY_S: Final = 1
FIRST, SECOND, THIRD = (sealing_key(kid) for kid in ("first", "second", "third"))
SERVICES: Final = ("extauthz-0", "extauthz-1", "sdpfilter-0", "sdpfilter-1")
WORKERS: Final = SERVICES[:2]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def revoking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway with two workers."""
    files = Files(tmp_path_factory.mktemp("revoking"))
    save_revocations(files.folder / "revoked.yaml", ())
    write_set(files.folder / "set.json", [FIRST])
    with ValkeyProcess() as valkey:
        async with RecordingUpstream() as openai, RecordingUpstream() as unused:
            files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
            files.write_keys()
            files.write_settings(
                token={
                    "jwk_set_file": str(files.folder / "set.json"),
                    "revoked_file": str(files.folder / "revoked.yaml"),
                    "revoked_in_store": True,
                    "leeway_s": LEEWAY_S,
                },
                store={"url": valkey.url},
            )
            async with Stack(files.options(workers=2)) as stack:
                gateway = Gateway(stack, files, openai, unused)
                async with asyncio.timeout(30):
                    # Until the store has been asked no token is good.
                    while (await gateway.call(await gateway.token())).status != 201:
                        pass
                yield gateway
                keys = [key["k"] for key in (FIRST, SECOND, THIRD)]
                for name, text in gateway.logs().items():
                    assert find_secrets(text, *KEYS, *keys, valkey.url) == set(), name


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _fresh(revoking: Gateway) -> None:
    """Forget what the upstream received."""
    revoking.reset()
    revoking.openai.script |= {"hangup": Reply(200)}


def count(gateway: Gateway, event: str, names: tuple[str, ...]) -> dict[str, int]:
    """Return how often each worker has logged an event."""
    return {name: gateway.stack.logs(name).count(f'"{event}"') for name in names}


async def change_set(
    gateway: Gateway, *keys: dict[str, str], event: str = "jwk_set_changed"
) -> None:
    """Write other keys, and wait until all workers of both services have looked at them."""
    before = count(gateway, event, SERVICES)
    write_set(gateway.files.folder / "set.json", keys)
    await until(lambda: all(count(gateway, event, SERVICES)[n] > before[n] for n in SERVICES))


async def run_tokens(gateway: Gateway, *arguments: str, in_file: bool = False) -> None:
    """Run `ringback tokens`, and wait until both workers know."""
    place = ("--file", str(gateway.files.folder / "revoked.yaml"))
    if not in_file:
        settings = json.loads(gateway.files.settings.read_text())
        del settings["token"]["revoked_file"]
        path = gateway.files.folder / "store.yaml"
        path.write_text(json.dumps(settings))
        place = ("--settings", str(path))
    before = count(gateway, "revoked_changed", WORKERS)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["tokens", *arguments, *place])
    assert result.exit_code == 0, result.output
    await until(
        lambda: all(count(gateway, "revoked_changed", WORKERS)[n] > before[n] for n in WORKERS)
    )


async def token_id_of(gateway: Gateway, token: str) -> str:
    """Return the id of a token, as operators find it: in the access log of its call."""
    answer = await gateway.call(token)
    assert answer.status == 201
    return str((await gateway.logged(answer.header("x-request-id") or ""))["token_id"])


async def check_refused(gateway: Gateway, token: str, handle: str = "") -> None:
    """Check that no worker lets a token in anywhere, in the words for any bad token."""
    gateway.reset()
    wrong = await gateway.call("ek_x")
    for _ in range(4):
        answer = await gateway.call(token)
        check_refusal(answer, 401, "token_invalid")
        assert answer.body == wrong.body
        assert answer.names == wrong.names
        assert (await shake_hands(gateway, "/v1/realtime", bearer(token))).status == 401
        if handle:
            path = f"/v1/realtime/calls/{handle}/hangup"
            check_refusal(await gateway.post(path, [bearer(token)], b""), 401, "token_invalid")
    assert gateway.received == []


@pytest.mark.parametrize("in_file", [True, False], ids=["file", "store"])
async def test_a_token_is_revoked_by_its_id(revoking: Gateway, in_file: bool) -> None:
    """The token of one call is refused everywhere, to end its call included; others are not."""
    token, other = await revoking.token(), await revoking.token()
    handle = str((await revoking.call(token)).header("location")).rpartition("/")[2]
    named = await token_id_of(revoking, token)
    await run_tokens(revoking, "revoke", "--token-id", named, in_file=in_file)
    await check_refused(revoking, token, handle)
    assert (await revoking.call(other)).status == 201
    await run_tokens(revoking, "restore", "--token-id", named, in_file=in_file)
    assert (await revoking.call(token)).status == 201


async def test_tokens_of_a_key_are_revoked(revoking: Gateway) -> None:
    """Tokens of a key that were made until now are refused; the key makes others."""
    token, other = await revoking.token(), await revoking.token(key=OTHER_KEY)
    await run_tokens(revoking, "revoke", "--alias", "web-team")
    revoked_at = time.time()
    await check_refused(revoking, token)
    assert (await revoking.call(other)).status == 201
    await asyncio.sleep(max(0, revoked_at + LEEWAY_S + 2 - time.time()))
    assert (await revoking.call(await revoking.token())).status == 201


async def test_all_tokens_are_revoked_at_once(revoking: Gateway) -> None:
    """Nothing that was made until now opens anything; keys do, and their new tokens."""
    tokens = [await revoking.token(), await revoking.token(key=OTHER_KEY)]
    await run_tokens(revoking, "revoke", "--everything")
    revoked_at = time.time()
    for token in tokens:
        await check_refused(revoking, token)
    assert (await revoking.call(KEY)).status == 201
    await asyncio.sleep(max(0, revoked_at + LEEWAY_S + 2 - time.time()))
    assert (await revoking.call(await revoking.token())).status == 201


async def test_keys_rotate_under_load(revoking: Gateway) -> None:
    """A key is added, then seals, then the old one goes: not one of the calls meanwhile fails."""

    async def send_next() -> Message:
        minted = await revoking.mint()
        if minted.status != 200:
            return minted
        return await revoking.call(str(minted.json()["value"]))

    old = await revoking.token()
    async with Load(send_next, lines=6) as load:
        await load.more(20)
        for keys in ((FIRST, SECOND), (SECOND, FIRST)):
            await change_set(revoking, *keys)
            await load.more(30)
        # What the old key has sealed has been used by now, but for one.
        await load.more(12)
        await change_set(revoking, SECOND)
        await load.more(30)
    assert load.failures == []
    assert load.statuses == {201: len(load.answers)}
    await check_refused(revoking, old)


async def test_a_bad_set_changes_nothing(revoking: Gateway) -> None:
    """A set with a mistake is refused by all workers, with the reason and no key in their logs."""
    await change_set(revoking, SECOND, {**THIRD, "k": "c2hvcnQ"}, event="jwk_set_refused")
    assert (await revoking.call(await revoking.token())).status == 201
    text = revoking.stack.logs("extauthz-0")
    assert "key 2: k must be 256 bits" in text
    assert "c2hvcnQ" not in text
    await change_set(revoking, SECOND)


async def test_what_a_key_has_sealed_is_revoked(revoking: Gateway) -> None:
    """Tokens of a sealing key are refused and its handles name no call; another key goes on."""
    await change_set(revoking, SECOND, THIRD)
    token = await revoking.token()
    handle = str((await revoking.call(token)).header("location")).rpartition("/")[2]
    await run_tokens(revoking, "revoke", "--kid", "second")
    await check_refused(revoking, token, handle)
    path = f"/v1/realtime/calls/{handle}/hangup"
    check_refusal(await revoking.post(path, [bearer(KEY)], b""), 404, "call_id_not_found")
    # It still is the first: nothing is minted that would be refused.
    check_refusal(await revoking.mint(), 503, "sealing_unavailable")
    assert revoking.received == []
    await change_set(revoking, THIRD, SECOND)
    assert (await revoking.call(await revoking.token())).status == 201
    await check_refused(revoking, token)
