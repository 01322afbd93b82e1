import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

import pytest
import pytest_asyncio

from helpers.expect import check_refusal
from helpers.gateway import Gateway, until
from helpers.gatewayfiles import KEY, azure_entry, openai_entry
from helpers.load import Load
from helpers.recording import CALLS, CLIENT_SECRETS, RecordingUpstream, call_reply

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

DOOMED: Final = "sk-key-to-be-blocked-later"
WORKERS: Final = ("extauthz-0", "extauthz-1")
# From writing a file until every worker goes by it: to notice it takes 0.5 s, to settle a second.
WITHIN_S: Final = 20.0


@pytest_asyncio.fixture(loop_scope="session")
async def newcomer() -> AsyncIterator[RecordingUpstream]:
    """Give an upstream that the configuration does not name yet."""
    async with RecordingUpstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(loop_scope="session")
async def files(pair: Gateway) -> AsyncIterator[Gateway]:
    """Give the gateway whose files a test may change; they are as before afterwards."""
    config, keys = pair.files.config.read_bytes(), pair.files.keys.read_bytes()
    ca_file = pair.files.folder / "ca.pem"
    certificate = ca_file.read_bytes()
    yield pair
    ca_file.write_bytes(certificate)
    pair.files.keys.write_bytes(keys)
    pair.files.config.write_bytes(config)
    await both(lambda: mints(pair, "voice-azure"))
    await both(lambda: mints(pair, "voice", DOOMED))


def entries(gateway: Gateway, *more: dict[str, Any], azure: bool = True) -> list[dict[str, Any]]:
    """Return the entries of the configuration, and more."""
    own = [openai_entry("voice", f"{gateway.openai.url()}/v1")]
    if azure:
        own.append(azure_entry("voice-azure", gateway.azure.url("localhost")))
    return [*own, *more]


async def mints(gateway: Gateway, model: str, key: str = KEY) -> bool:
    """Tell whether a token can be had for a model."""
    return (await gateway.mint(model, key=key)).status == 200


async def both(condition: Callable[[], Awaitable[bool]]) -> float:
    """Wait until a condition holds whichever worker is asked, and return how long that took."""
    begin = time.monotonic()
    async with asyncio.timeout(WITHIN_S):
        # Envoy asks one after the other.
        while not all([await condition() for _ in range(2 * len(WORKERS))]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return time.monotonic() - begin


def logged(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event that the workers have logged, the oldest first."""
    text = "".join(gateway.stack.logs(name) for name in WORKERS)
    lines = [json.loads(line) for line in text.splitlines() if line[:1] == "{"]
    return sorted((line for line in lines if line["event"] == event), key=itemgetter("time"))


async def both_logged(gateway: Gateway, event: str, before: int) -> list[dict[str, Any]]:
    """Wait until both workers have logged an event once more, and return those lines."""
    await until(lambda: len(logged(gateway, event)) >= before + len(WORKERS), WITHIN_S)
    return logged(gateway, event)[before:]


async def test_new_configuration_under_load(files: Gateway, newcomer: RecordingUpstream) -> None:
    """A deployment at a new origin comes and another goes: within seconds, and no request fails."""
    leaving = await files.token("voice-azure")
    async with Load(await files.mixed()) as load:
        await load.more(40)
        new = openai_entry("newcomer", newcomer.url())
        files.files.write_config(entries(files, new, azure=False))
        await both(lambda: mints(files, "newcomer"))
        called = await files.call(await files.token("newcomer"))
        await load.more(40)
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}
    assert called.status == 201
    assert newcomer.received_at(CALLS)
    check_refusal(await files.mint("voice-azure"), 400, "model_unknown")
    # What a worker has minted that is behind is good for a moment longer.
    await both(lambda: is_gone(files, leaving))


async def is_gone(gateway: Gateway, token: str) -> bool:
    """Tell whether a good token is refused, because its deployment is not served any more."""
    answer = await gateway.call(token)
    if answer.status == 201:
        return False
    check_refusal(answer, 401, "deployment_gone")
    return True


async def test_tokens_of_every_moment_are_good(files: Gateway, newcomer: RecordingUpstream) -> None:
    """While a deployment comes, moves and goes, whoever mints can call, whichever worker is asked.

    Two workers take up a change one after the other, so that each mints what the other one does
    not expect.
    """
    second = openai_entry("voice", newcomer.url())
    second["model_info"]["id"] = "voice-2"
    moved = openai_entry("voice", newcomer.url())
    own = entries(files)
    steps = [[*own, second], own, [moved, *own[1:]], own]
    async with Load(files.pair) as load:
        for step in steps:
            before = len(logged(files, "config_changed"))
            files.files.write_config(step)
            await both_logged(files, "config_changed", before)
            await load.more(20)
    assert load.failures == []
    assert load.statuses.keys() == {201}
    assert newcomer.received_at(CALLS)


async def test_a_group_changes_under_load(files: Gateway, newcomer: RecordingUpstream) -> None:
    """A group gets a second deployment, which changes and goes again, and no request fails."""
    second = openai_entry("voice", newcomer.url())
    second["model_info"]["id"] = "voice-2"

    async with Load(await files.mixed()) as load:
        await load.more(20)
        files.files.write_config(entries(files, second))
        await both(lambda: mints(files, "voice-2"))
        token = await files.token("voice-2")
        await load.more(40)
        # Whoever has no weight mints no more; its calls go on.
        second["litellm_params"] |= {"weight": 0, "api_key": "sk-upstream-another"}
        first, *others = entries(files, second)
        first["litellm_params"]["weight"] = 1
        files.files.write_config([first, *others])
        await both(lambda: is_drained(files, newcomer))
        assert (await files.call(token)).status == 201
        files.files.write_config(entries(files))
        await both(lambda: is_gone(files, token))
        await load.more(40)
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}


async def is_drained(gateway: Gateway, upstream: RecordingUpstream) -> bool:
    """Tell whether a few mints pass an upstream by."""
    before = len(upstream.received_at(CLIENT_SECRETS))
    for _ in range(8):
        assert await mints(gateway, "voice")
    return len(upstream.received_at(CLIENT_SECRETS)) == before


async def test_call_under_way_ends_where_it_began(files: Gateway) -> None:
    """A provider that is removed while it thinks about an offer still gets to answer it."""
    files.azure.script[CALLS] = replace(call_reply("rtc_slow"), delay_s=1.8)
    slow = asyncio.create_task(files.call(await files.token("voice-azure")))
    await until(lambda: bool(files.azure.received_at(CALLS)))
    files.files.write_config(entries(files, azure=False))
    assert (await slow).status == 201


async def test_blocked_key_ends_its_tokens(files: Gateway) -> None:
    """A key that is blocked mints no more, and its tokens make no more calls, within seconds."""
    token, other = await files.token(key=DOOMED), await files.token()
    assert (await files.call(token)).status == 201
    files.files.write_keys(doomed={"blocked": True})

    async def is_refused() -> bool:
        return (await files.call(token)).status == 401

    assert await both(is_refused) < 10
    check_refusal(await files.call(token), 401, "token_invalid")
    check_refusal(await files.mint(key=DOOMED), 401, "key_blocked")
    assert (await files.call(other)).status == 201


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        # Realistic
        pytest.param("model_list: [\n", "YAML", id="not-yaml"),
        pytest.param("model_list: []\n", "no usable entry", id="no-models"),
        pytest.param(
            "model_list:\n- model_name: x\n  litellm_params:\n    model: openai/gpt-realtime\n"
            "    api_key: os.environ/NOT_SET_ANYWHERE\n",
            "NOT_SET_ANYWHERE",
            id="unset-variable",
        ),
    ],
)
async def test_bad_configuration_is_refused(files: Gateway, content: str, reason: str) -> None:
    """A file that cannot be used is refused with its reasons; the old one stays, under load too."""
    before = len(logged(files, "config_refused"))
    async with Load(await files.mixed()) as load:
        await load.more(20)
        files.files.config.write_text(content)
        lines = await both_logged(files, "config_refused", before)
        await load.more(40)
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}
    assert all(reason in str(line["problems"]) for line in lines)


async def test_bad_key_file_is_refused(files: Gateway) -> None:
    """A key file that cannot be used changes nothing: no key is lost, none comes back."""
    before = len(logged(files, "keys_refused"))
    files.files.keys.write_text("keys:\n- hash: sk-not-a-hash\n  alias: x\n")
    lines = await both_logged(files, "keys_refused", before)
    assert all("64 hex digits" in str(line["problems"]) for line in lines)
    assert "sk-not-a-hash" not in str(lines)
    assert (await files.mint()).status == 200
    check_refusal(await files.mint(key="sk-key-that-is-blocked"), 401, "key_blocked")


async def test_clusters_that_envoy_refuses_change_nothing(
    files: Gateway, newcomer: RecordingUpstream
) -> None:
    """If Envoy cannot use new clusters, its reason is logged and the old ones go on serving.

    Here the file with the certificate authorities is not one any more.
    """
    (files.files.folder / "ca.pem").write_text("no certificate")
    before = len(logged(files, "clusters_refused"))
    async with Load(await files.mixed()) as load:
        await load.more(20)
        new = openai_entry("newcomer", newcomer.url())
        stranger = openai_entry("stranger", "https://localhost:9")
        files.files.write_config(entries(files, new, stranger))
        # Envoy has one stream for clusters, to one of the workers.
        await until(lambda: len(logged(files, "clusters_refused")) > before, WITHIN_S)
        # What Envoy could take of them is served.
        await both(lambda: mints(files, "newcomer"))
        await load.more(40)
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}
    assert "upstream_https_localhost_9" in logged(files, "clusters_refused")[-1]["reason"]
    assert await mints(files, "voice-azure")
    check_refusal(await files.mint("stranger"), 503, "upstream_unreachable")
