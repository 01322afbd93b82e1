"""Calls with a key instead of a token: one request downstream, two upstream."""

import json
import time
from typing import Final

import pytest

from helpers.callforms import CONTENT_TYPE, form, part
from helpers.expect import check_readable, check_refusal
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import AZURE_KEY, KEY, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET
from helpers.http11 import Header, Message
from helpers.recording import (
    CALLS,
    CLIENT_SECRETS,
    SDP_ANSWER,
    Reply,
    call_reply,
    error_reply,
    minted_reply,
)
from ringback.contract import CALL_LOCATION_PREFIX
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer
from ringback.tokens.handles import open_handle

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

PATH: Final = "/v1/realtime/calls"
FORM: Final = ("content-type", CONTENT_TYPE)
BOTH: Final = pytest.mark.parametrize("model", ["voice", "voice-azure"], ids=["openai", "azure"])


def form_of(model: str | None = "voice", **session: object) -> bytes:
    """Return a form with the offer and a session."""
    members = {"type": "realtime", **({"model": model} if model else {}), **session}
    return form(
        part("sdp", OFFER, "application/sdp"),
        part("session", json.dumps(members).encode(), "application/json"),
    )


async def post(
    gateway: Gateway, body: bytes, *headers: Header, key: str = KEY, path: str = PATH
) -> Message:
    """Send a form with a key."""
    return await gateway.post(path, [bearer(key), FORM, *headers], body)


@pytest.mark.dataplanes("istio", "envoy-gateway")
@BOTH
async def test_a_form_with_a_key_opens_a_call(gateway: Gateway, model: str) -> None:
    """The provider mints for the session, and takes the offer, raw, under the ephemeral key."""
    upstream = gateway.openai if model == "voice" else gateway.azure
    upstream.script[CLIENT_SECRETS] = minted_reply("ek_upstream_of_this_call")
    upstream.script[CALLS] = call_reply("rtc_upstream_of_this_call")
    answer = await post(gateway, form_of(model, instructions="Be brief."))
    assert answer.status == 201, answer.raw
    assert answer.body == SDP_ANSWER
    assert answer.header("content-type") == "application/sdp"
    check_readable(answer)

    mint, call = gateway.received
    assert mint.target.endswith(CLIENT_SECRETS)
    assert mint.json()["session"] == {
        "type": "realtime",
        "instructions": "Be brief.",
        "model": "gpt-realtime" if model == "voice" else "rt-deployment",
    }
    assert call.target.endswith(CALLS)
    assert "?" not in call.target
    assert call.header("authorization") == "Bearer ek_upstream_of_this_call"
    assert call.header("content-type") == "application/sdp"
    assert call.body == OFFER
    for secret in (KEY, OPENAI_KEY, AZURE_KEY):
        assert secret.encode() not in call.raw


@BOTH
async def test_the_handle_names_the_call(gateway: Gateway, model: str) -> None:
    """Location holds the sealed call id, as for a call with a token."""
    answer = await post(gateway, form_of(model))
    location = answer.header("location")
    assert location is not None
    handle = location.removeprefix(CALL_LOCATION_PREFIX)
    sealer = handle_sealer(TokenSettings(secret=Secret(TOKEN_SECRET)), {})
    opened = open_handle(handle, sealer, time.time())
    assert opened.call_id.startswith("rtc_upstream_")
    assert opened.deployment == f"{model}-1"


async def test_a_raw_offer_names_its_model_in_the_query(gateway: Gateway) -> None:
    """Clients that post the offer alone name the model as the retired API had it."""
    answer = await gateway.post(f"{PATH}?model=voice", [bearer(KEY), SDP_TYPE], OFFER)
    assert answer.status == 201, answer.raw
    assert [request.target for request in gateway.openai.received] == [
        "/v1/realtime/client_secrets",
        "/v1/realtime/calls",
    ]


async def test_the_access_log_tells_the_two_kinds_of_calls_apart(gateway: Gateway) -> None:
    """The outcome of a call with a key has a word of its own."""
    answer = await post(gateway, form_of())
    line = await gateway.logged(answer.header("x-request-id") or "")
    assert line["outcome"] == "key_call"
    assert (line["key_alias"], line["model"], line["deployment"]) == (
        "web-team",
        "voice",
        "voice-1",
    )


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        # Realistic
        pytest.param([bearer("sk-unknown")], form_of(), 401, "key_unknown", id="unknown-key"),
        pytest.param(
            [bearer("sk-key-that-is-blocked")], form_of(), 401, "key_blocked", id="blocked-key"
        ),
        pytest.param(
            [bearer("sk-key-for-azure-alone")], form_of(), 403, "model_denied", id="other-model"
        ),
        pytest.param([bearer(KEY)], form_of("nothing"), 400, "model_unknown", id="unknown-model"),
        pytest.param([bearer(KEY)], form_of(None), 400, "model_required", id="no-model"),
        pytest.param([bearer(KEY)], form(part("session", b"{}")), 400, "invalid_form", id="no-sdp"),
        pytest.param([bearer(KEY)], OFFER, 400, "invalid_form", id="raw-offer-as-form"),
        pytest.param(
            [bearer(KEY)],
            form(part("sdp", OFFER), part("session", b"{")),
            400,
            "invalid_body",
            id="session-cut-off",
        ),
        # Synthetic
        pytest.param([bearer(KEY), bearer(KEY)], form_of(), 401, "key_malformed", id="key-twice"),
        pytest.param(
            [bearer(KEY)],
            form(part("sdp", OFFER), part("session", b'{"type":"other","model":"voice"}')),
            400,
            "invalid_body",
            id="other-session-type",
        ),
        pytest.param(
            [bearer(KEY)],
            form(part("sdp", OFFER), part("session", b"[]")),
            400,
            "invalid_body",
            id="session-not-an-object",
        ),
        pytest.param(
            [bearer(KEY)], b" " * (64 * 1024 + 1), 413, "body_too_large", id="one-byte-too-many"
        ),
    ],
)
async def test_a_refused_form_goes_nowhere(
    gateway: Gateway, headers: list[Header], body: bytes, status: int, code: str
) -> None:
    """Without a good key and a good form nothing is minted and nobody is called."""
    answer = await gateway.post(PATH, [*headers, FORM], body)
    check_refusal(answer, status, code)
    assert gateway.received == []


async def test_what_is_no_token_is_taken_for_a_key(gateway: Gateway) -> None:
    """Only what begins with ek_ is a token; anything else is looked up among the keys."""
    token = await gateway.token()
    gateway.reset()
    for credential, code in (
        (token.removeprefix("ek_"), "key_unknown"),
        (f'"{token}"', "key_malformed"),
        ("", "key_malformed"),
        (OPENAI_KEY, "key_unknown"),
    ):
        check_refusal(await gateway.call(credential), 401, code)
    assert gateway.received == []


async def test_two_models_are_one_too_many(gateway: Gateway) -> None:
    """Query and session name the same model, or only one of them does."""
    for path in (f"{PATH}?model=voice&model=voice-azure", f"{PATH}?model=voice-azure"):
        check_refusal(await post(gateway, form_of(), path=path), 400, "invalid_body")
    assert gateway.received == []


async def test_a_bad_offer_calls_nobody(gateway: Gateway) -> None:
    """What extauthz cannot know, sdpfilter refuses: an ephemeral key was minted, no call made."""
    body = form_of().replace(b"a=ice-pwd:", b"a=ice-pwx:")
    check_refusal(await post(gateway, body), 400)
    assert [request.target for request in gateway.received] == ["/v1/realtime/client_secrets"]


async def test_a_token_brings_no_session(gateway: Gateway) -> None:
    """A form with a token may hold the offer alone; a session beside it is refused."""
    token = await gateway.token()
    gateway.reset()
    check_refusal(await post(gateway, form_of(), key=token), 400, "session_fixed")
    assert gateway.received == []
    alone = await post(gateway, form(part("sdp", OFFER)), key=token)
    assert alone.status == 201
    (call,) = gateway.received
    assert (call.header("content-type"), call.body) == ("application/sdp", OFFER)


@pytest.mark.parametrize(
    ("ending", "reply", "status", "code"),
    [
        pytest.param(CLIENT_SECRETS, error_reply(500, {}), 502, "upstream_failed", id="mint-fails"),
        pytest.param(CLIENT_SECRETS, error_reply(401, {}), 502, "upstream_refused", id="our-key"),
        pytest.param(CALLS, error_reply(401, {}), 502, "upstream_refused", id="its-own-key"),
        pytest.param(CALLS, Reply(500), 502, "upstream_failed", id="call-fails"),
    ],
)
async def test_a_failing_provider(
    gateway: Gateway, ending: str, reply: Reply, status: int, code: str
) -> None:
    """Neither half's failure is the caller's, and the offer is sent once at most."""
    gateway.openai.script[ending] = reply
    check_refusal(await post(gateway, form_of()), status, code)
    assert len(gateway.openai.received_at(CALLS)) == (ending == CALLS)


async def test_the_master_key_may_call(gateway: Gateway) -> None:
    """The master key opens calls as it mints."""
    assert (await post(gateway, form_of(), key=MASTER_KEY)).status == 201
