import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from helpers.expect import ORIGIN
from helpers.gateway import Gateway, bearer
from helpers.gatewayfiles import AZURE_KEY, KEY, MASTER_KEY, OPENAI_KEY, Files, openai_entry
from helpers.handles import CALL_ID, sealed, wrong_handles
from helpers.recording import RecordingUpstream, error_reply
from helpers.wsclient import converse, echoed, shake_hands
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

KEY_PROTOCOL = "openai-insecure-api-key."


def joining(handle: str) -> str:
    """Return the target of a sideband."""
    return f"/v1/realtime?call_id={handle}"


@pytest.mark.parametrize(
    ("deployment", "target", "name", "value"),
    [
        ("voice-1", "/v1/realtime", "authorization", f"Bearer {OPENAI_KEY}"),
        ("voice-azure-1", "/openai/v1/realtime", "api-key", AZURE_KEY),
    ],
)
async def test_owner_joins_with_the_standard_key(
    gateway: Gateway, deployment: str, target: str, name: str, value: str
) -> None:
    """The key, the call's token and the master key join a call; the provider gets its own key."""
    handle = sealed(deployment=deployment)
    for credential in (KEY, MASTER_KEY, gateway.seal()):
        gateway.reset()
        async with converse(gateway, joining(handle), [bearer(credential)]) as connection:
            assert await echoed(connection, "hello") == "hello"
        (request,) = gateway.received
        assert request.target == f"{target}?call_id={CALL_ID}"
        assert request.header(name) == value
        other = {"authorization", "api-key"} - {name}
        assert not other & request.names


@pytest.mark.dataplanes("istio", "envoy-gateway")
async def test_browser_joins_the_call_that_it_has_made(gateway: Gateway) -> None:
    """With its token in a subprotocol a page listens to its own call, from `Location` on."""
    token = await gateway.token()
    answer = await gateway.call(token)
    handle = str(answer.header("location")).rpartition("/")[2]
    names = ["realtime", KEY_PROTOCOL + token]
    async with converse(gateway, joining(handle), subprotocols=names, origin=ORIGIN) as connection:
        assert connection.subprotocol == "realtime"
        assert await echoed(connection, "hello") == "hello"


@pytest.mark.parametrize(
    ("who", "status"),
    [
        # Realistic
        ("another token of the key", 404),
        ("a key of the same team", 404),
        ("a key of nobody", 404),
        ("the call's token, expired", 401),
        ("an unknown key", 401),
        ("a blocked key", 401),
        ("nothing", 401),
    ],
)
async def test_nobody_else_joins(gateway: Gateway, who: str, status: int) -> None:
    """To all but its owners a call does not exist; the upstream receives nothing."""
    credentials = {
        "another token of the key": gateway.seal(jti="another"),
        "a key of the same team": "sk-other-key-of-the-team",
        "a key of nobody": "sk-key-for-azure-alone",
        "the call's token, expired": gateway.seal(iat=1, exp=2),
        "an unknown key": "sk-nobody",
        "a blocked key": "sk-key-that-is-blocked",
    }
    lines = [bearer(credentials[who])] if who in credentials else []
    answer = await shake_hands(gateway, joining(sealed()), *lines)
    assert answer.status == status
    if status == 404:
        made_up = await shake_hands(gateway, joining("rtc_made_up"), *lines)
        assert (made_up.status, made_up.body) == (404, answer.body)
        assert answer.error["code"] == "call_id_not_found"
    assert gateway.received == []


async def test_wrong_handles_are_all_alike(gateway: Gateway) -> None:
    """Whatever is no call of the caller's gets the same 404, and the upstream gets nothing."""
    answers = []
    for handle in wrong_handles().values():
        # A handle of 8 kB and more cannot be one.
        answer = await shake_hands(gateway, joining(handle[:8192]), bearer(KEY))
        answers.append((answer.status, answer.body, frozenset(answer.names)))
    assert len(set(answers)) == 1
    assert answers[0][0] == 404
    assert gateway.received == []


async def test_call_that_is_not_live_yet_is_404(gateway: Gateway) -> None:
    """The provider's 404 passes as ours, with the words of a call that does not exist."""
    gateway.openai.script["realtime"] = error_reply(404, {"code": "call_id_not_found"})
    answer = await shake_hands(gateway, joining(sealed()), bearer(KEY))
    made_up = await shake_hands(gateway, joining("rtc_made_up"), bearer(KEY))
    assert (answer.status, answer.json()) == (404, made_up.json())
    assert len(gateway.received) == 1
    gateway.reset()
    assert (await shake_hands(gateway, joining(sealed()), bearer(KEY))).status == 101


async def test_page_of_another_origin_does_not_join(gateway: Gateway) -> None:
    """The Origin is looked at before anything else."""
    lines = [bearer(KEY), ("origin", "https://evil.example")]
    for handle in (sealed(), "rtc_made_up"):
        answer = await shake_hands(gateway, joining(handle), *lines)
        assert (answer.status, answer.error["code"]) == (403, "origin_denied")
    assert gateway.received == []


@pytest_asyncio.fixture(loop_scope="session")
async def particular(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Give a gateway with settings for WebSockets that are not the default."""
    files = Files(tmp_path)
    async with RecordingUpstream() as upstream:
        files.write_config(
            [openai_entry("voice", upstream.url()), openai_entry("v2", upstream.url())]
        )
        files.write_keys()
        files.write_settings(
            websocket={
                "origins": ["https://*.example.com"],
                "sideband_with_token": ["voice-1"],
                "idle_timeout_s": 0.5,
                "max_duration_s": 60,
            }
        )
        async with Stack(files.options()) as stack:
            yield Gateway(stack, files, upstream, upstream)
    shutil.rmtree(tmp_path)


async def test_settings_take_effect(particular: Gateway) -> None:
    """Origins, the credential of sidebands and the idle time are what ringback.yaml says."""
    token = particular.seal()
    seen = []
    for credential, deployment in ((token, "voice-1"), (KEY, "voice-1"), (token, "v2-1")):
        handle = sealed(deployment=deployment)
        await shake_hands(particular, joining(handle), bearer(credential))
        seen.append(particular.openai.received[-1].header("authorization"))
    standard = f"Bearer {OPENAI_KEY}"
    assert seen == ["Bearer ek_upstream_made_by_a_test", standard, standard]
    statuses = [
        (await shake_hands(particular, joining(sealed()), bearer(KEY), ("origin", origin))).status
        for origin in ("https://app.example.com", "https://example.com", ORIGIN)
    ]
    assert statuses == [101, 403, 403]
    async with converse(particular, joining(sealed()), [bearer(KEY)]) as connection:
        await connection.wait_closed()
        assert connection.close_code == 1006
