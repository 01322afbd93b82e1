"""What providers are told of sessions and of who calls, through the whole gateway."""

import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import trustme

from helpers.expect import check_refusal
from helpers.gateway import AZURE, JSON_TYPE, OFFER, OPENAI, SDP_TYPE, SHORT, Gateway, bearer
from helpers.gatewayfiles import KEY, Files, azure_entry, openai_entry
from helpers.http11 import Header, Message
from helpers.recording import CLIENT_SECRETS, JSON, RecordingUpstream, Reply
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

PREFIXES: Final = pytest.mark.parametrize(
    "prefix", [OPENAI, SHORT, AZURE], ids=["openai", "short", "azure"]
)
OTHER_KEY: Final = "sk-other-key-of-the-team"
RESTRICTED: Final = "sk-key-for-azure-alone"
IDENTIFIER: Final = "openai-safety-identifier"
EPHEMERAL_KEY: Final = "ek_upstream_of_this_test"
FIXED: Final[dict[str, Any]] = {
    "instructions": "Be brief.",
    "audio": {"output": {"voice": "marin"}},
    "max_output_tokens": 200,
}
TRANSCRIPTION: Final[dict[str, Any]] = {
    "type": "transcription",
    "object": "realtime.transcription_session",
    "id": "sess_1",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "gpt-transcribe"},
            "turn_detection": {"type": "server_vad"},
        }
    },
}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_house(
    authority: trustme.CA, ca_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Run the gateway; use `house`, which also cleans up."""
    files = Files(tmp_path_factory.mktemp("sessions"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    async with RecordingUpstream() as openai, RecordingUpstream(tls) as azure:
        entries = [
            openai_entry("voice", openai.url()),
            azure_entry("voice-azure", azure.url("localhost")),
            openai_entry("scribe", openai.url()),
            azure_entry("scribe", azure.url("localhost")),
            azure_entry("scribe-azure", azure.url("localhost")),
            openai_entry("fixed", openai.url()),
        ]
        for entry, model in zip(
            entries[2:5], ("openai/gpt-t", "azure/t-dep", "azure/t-dep"), strict=True
        ):
            entry["litellm_params"]["model"] = model
        entries[3]["model_info"]["id"] = "scribe-2"
        entries[5]["model_info"]["ringback"] = {"session": FIXED}
        files.write_config(entries, router_settings={"model_group_alias": {"scribbler": "scribe"}})
        files.write_keys(doomed={"token_lifetime_s": 30})
        files.write_settings(
            upstream={"ca_file": str(ca_file)},
            token={"secret": "a secret that seals what the tests mint", "max_lifetime_s": 600},
            safety_identifier="user",
        )
        async with Stack(files.options()) as stack:
            yield Gateway(stack, files, openai, azure)


@pytest.fixture
def house(shared_house: Gateway) -> Gateway:
    """A gateway whose upstreams have received nothing yet."""
    shared_house.reset()
    return shared_house


async def mint(
    house: Gateway, session: dict[str, Any], *headers: Header, key: str = KEY, **body: Any
) -> Message:
    """Ask for a token."""
    text = json.dumps({"session": session, **body}).encode()
    lines = [bearer(key), JSON_TYPE, *headers]
    return await house.post("/v1/realtime/client_secrets", lines, text)


def sent(house: Gateway) -> dict[str, Any]:
    """Return the body of the one request that a provider received."""
    (request,) = house.received
    body: dict[str, Any] = json.loads(request.body)
    return body


def naming(model: str) -> dict[str, Any]:
    """Return the part of a session that names what transcribes."""
    return {"audio": {"input": {"transcription": {"model": model}}}}


@pytest.mark.parametrize(
    ("model", "named", "upstream"),
    [
        # Realistic
        pytest.param("voice", "scribe", "gpt-t", id="openai"),
        pytest.param("voice-azure", "scribe", "t-dep", id="azure"),
        pytest.param("voice", "scribbler", "gpt-t", id="alias"),
        pytest.param("voice", "gpt-4o-transcribe", "gpt-4o-transcribe", id="not-served"),
    ],
)
async def test_a_session_names_who_transcribes(
    house: Gateway, model: str, named: str, upstream: str
) -> None:
    """The group's name becomes the provider's own; what no group serves stays as it is."""
    answer = await mint(house, {"type": "realtime", "model": model, **naming(named)})
    assert answer.status == 200, answer.raw
    own = "gpt-realtime" if model == "voice" else "rt-deployment"
    assert sent(house) == {"session": {"type": "realtime", **naming(upstream), "model": own}}


@pytest.mark.parametrize(
    "session",
    [
        pytest.param({"type": "realtime", "model": "voice-azure", **naming("scribe")}, id="inside"),
        pytest.param({"type": "transcription", **naming("scribe")}, id="alone"),
        pytest.param(
            {"type": "realtime", "model": "voice-azure", **naming("gpt-x")}, id="unserved"
        ),
    ],
)
async def test_who_transcribes_must_be_allowed(house: Gateway, session: dict[str, Any]) -> None:
    """A key that may not use the model that transcribes is refused, wherever it is named."""
    check_refusal(await mint(house, session, key=RESTRICTED), 403, "model_denied")
    assert house.received == []


@pytest.mark.parametrize(
    ("named", "upstream"),
    [
        pytest.param("scribe-azure", ("t-dep",), id="azure"),
        pytest.param("scribe", ("gpt-t", "t-dep"), id="either"),
    ],
)
async def test_a_transcription_session_has_one_model(
    house: Gateway, named: str, upstream: tuple[str, ...]
) -> None:
    """No model stands at the session, and the nested one is the deployment's."""
    answer = await mint(house, {"type": "transcription", **naming(named)})
    assert answer.status == 200, answer.raw
    session = sent(house)["session"]
    assert session in [{"type": "transcription", **naming(name)} for name in upstream]
    called = await house.call(answer.json()["value"])
    assert called.status == 201, called.raw


@PREFIXES
@pytest.mark.parametrize("model", ["scribe", "scribe-azure"], ids=["openai", "azure"])
async def test_the_retired_endpoint_still_works(house: Gateway, prefix: str, model: str) -> None:
    """It is served by the current API, and answers flat, with a token that opens a call."""
    answer_body = {"value": EPHEMERAL_KEY, "expires_at": 4_000_000_000, "session": TRANSCRIPTION}
    for upstream in (house.openai, house.azure):
        text = json.dumps(answer_body).encode()
        upstream.script[CLIENT_SECRETS] = Reply(200, (JSON,), text)
    body = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": model}}
    answer = await house.post(
        f"{prefix}/transcription_sessions", [bearer(KEY), JSON_TYPE], json.dumps(body).encode()
    )
    assert answer.status == 200, answer.raw
    assert EPHEMERAL_KEY.encode() not in answer.raw
    assert answer.header("cache-control") == "no-store"
    found = answer.json()
    secret = found.pop("client_secret")
    assert secret.keys() == {"value", "expires_at"}
    assert found == {
        "object": "realtime.transcription_session",
        "id": "sess_1",
        "input_audio_format": "pcm16",
        "input_audio_transcription": {"model": "gpt-transcribe"},
        "turn_detection": {"type": "server_vad"},
    }
    (minted,) = house.received
    assert minted.target.endswith("/v1/realtime/client_secrets")
    nested = json.loads(minted.body)["session"]["audio"]["input"]
    assert nested["format"] == {"type": "audio/pcm", "rate": 24000}
    assert nested["transcription"]["model"] in {"gpt-t", "t-dep"}
    house.reset()
    called = await house.call(secret["value"], prefix=prefix)
    assert called.status == 201, called.raw
    assert house.received[0].header("authorization") == f"Bearer {EPHEMERAL_KEY}"


async def test_an_odd_answer_leaks_no_key(house: Gateway) -> None:
    """Wherever a provider puts its key, also with 201, it does not leave."""
    content = {
        "client_secret": {"value": EPHEMERAL_KEY},
        "value": EPHEMERAL_KEY,
        "x": EPHEMERAL_KEY,
    }
    house.openai.script[CLIENT_SECRETS] = Reply(201, (JSON,), json.dumps(content).encode())
    house.azure.script[CLIENT_SECRETS] = house.openai.script[CLIENT_SECRETS]
    answer = await house.post(
        "/v1/realtime/transcription_sessions", [bearer(KEY), JSON_TYPE], b'{"model":"scribe"}'
    )
    assert answer.status == 200, answer.raw
    assert EPHEMERAL_KEY.encode() not in answer.raw


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"{}", "invalid_body", id="no-model"),
        pytest.param(b'{"model":"nobody"}', "model_unknown", id="unknown-model"),
        pytest.param(b'{"session":{}}', "invalid_body", id="current-api"),
    ],
)
async def test_a_retired_request_is_refused(house: Gateway, body: bytes, code: str) -> None:
    """Mistakes are 400 and reach nobody."""
    path = "/v1/realtime/transcription_sessions"
    check_refusal(await house.post(path, [bearer(KEY), JSON_TYPE], body), 400, code)
    assert house.received == []


async def test_the_operator_fixes_what_callers_get(house: Gateway) -> None:
    """The operator's fields win at the mint, and the caller's others stay."""
    wish = {"instructions": "Be long.", "audio": {"output": {"voice": "alloy", "speed": 1.2}}}
    answer = await mint(house, {"type": "realtime", "model": "fixed", **wish})
    assert answer.status == 200, answer.raw
    assert sent(house)["session"] == {
        "type": "realtime",
        "model": "gpt-realtime",
        "instructions": "Be brief.",
        "audio": {"output": {"voice": "marin", "speed": 1.2}},
        "max_output_tokens": 200,
    }


@pytest.mark.parametrize(
    ("key", "asked_s", "sent_s", "lives_s"),
    [
        # Realistic
        pytest.param(KEY, 60, 60, 60, id="asked"),
        pytest.param(KEY, 7200, 600, 600, id="settings"),
        pytest.param("sk-key-to-be-blocked-later", 7200, 30, 30, id="key"),
        # Synthetic
        pytest.param("sk-key-to-be-blocked-later", 10, 10, 10, id="shorter-than-the-key's"),
    ],
)
async def test_a_token_never_lives_too_long(
    house: Gateway, key: str, asked_s: int, sent_s: int, lives_s: int
) -> None:
    """The shortest of the caller's wish, the key's and the settings' lifetime holds."""
    expires_after = {"anchor": "created_at", "seconds": asked_s}
    before = int(time.time())
    answer = await mint(house, {"model": "voice"}, key=key, expires_after=expires_after)
    assert answer.status == 200, answer.raw
    assert sent(house)["expires_after"]["seconds"] == sent_s
    assert before <= answer.json()["expires_at"] - lives_s <= before + 5


@pytest.mark.parametrize("seconds", [9, 7201, True, "60"])
async def test_an_expiry_is_checked(house: Gateway, seconds: Any) -> None:
    """Expiries that providers do not take are 400."""
    answer = await mint(house, {"model": "voice"}, expires_after={"seconds": seconds})
    check_refusal(answer, 400, "invalid_body")
    assert house.received == []


async def test_users_have_stable_pseudonyms(house: Gateway) -> None:
    """Mint and call tell of the key's user by one hash, which differs between users."""
    told = []
    for key in (KEY, KEY, OTHER_KEY):
        house.reset()
        assert (await house.call(await house.token(key=key))).status == 201
        minted, called = (request.header(IDENTIFIER) for request in house.received)
        assert minted == called
        told.append(minted or "")
    assert told[0] == told[1] != told[2]
    assert all(len(name) == 32 for name in told)
    assert not {"ada", "bob"} & set(told)


async def test_the_caller_may_say_who_calls(house: Gateway) -> None:
    """The caller's own identifier goes first, at mint and at call."""
    own = (IDENTIFIER, "hash-of-the-caller")
    token = (await mint(house, {"model": "voice"}, own)).json()["value"]
    assert (await house.call(token, headers=[own])).status == 201
    assert [request.header(IDENTIFIER) for request in house.received] == [own[1]] * 2


@pytest.mark.parametrize("value", ["two words", "a,b", "x" * 257], ids=["space", "comma", "long"])
async def test_an_odd_identifier_stays(house: Gateway, value: str) -> None:
    """What is no single hash is 400 at the call, too, and the offer goes nowhere."""
    token = await house.token()
    house.reset()
    answer = await house.post(
        "/v1/realtime/calls", [bearer(token), SDP_TYPE, (IDENTIFIER, value)], OFFER
    )
    check_refusal(answer, 400, "safety_identifier_invalid")
    assert house.received == []
