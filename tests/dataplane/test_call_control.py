import json
import time
from typing import Any

import pytest

from extauthz.callcontrol import HANGUP_GRACE_S
from extauthz.keys import hash_key
from helpers.expect import ORIGIN, check_readable, check_refusal
from helpers.gateway import JSON_TYPE, Gateway, bearer
from helpers.gatewayfiles import AZURE_KEY, KEY, MASTER_KEY, OPENAI_KEY
from helpers.handles import CALL_ID, TOKEN_ID, sealed, wrong_handles
from helpers.http11 import Message, request_bytes, send
from helpers.recording import Reply, error_reply
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

VERBS = ("hangup", "accept", "reject", "refer")
BODIES: dict[str, Any] = {
    "accept": {"type": "realtime", "model": "voice", "instructions": "Be brief."},
    "refer": {"target_uri": "tel:+14155550123"},
}
# Sent at most once, whatever is asked for.
OK = Reply(200)
BLOCKED = "sk-key-that-is-blocked"


async def command(
    gateway: Gateway,
    handle: str,
    credential: str | None = KEY,
    verb: str = "hangup",
    *,
    body: bytes | None = None,
    prefix: str = "/v1/realtime",
) -> Message:
    """Send a command with a body that it takes."""
    for upstream in (gateway.openai, gateway.azure):
        upstream.script.setdefault(verb, OK)
    lines = [bearer(credential)] if credential is not None else []
    if body is None:
        body = json.dumps(BODIES[verb]).encode() if verb in BODIES else b""
    return await gateway.post(f"{prefix}/calls/{handle}/{verb}", [*lines, JSON_TYPE], body)


def credential_of(gateway: Gateway, name: str) -> tuple[str | None, dict[str, Any]]:
    """Return a credential, and what is special about the handle of the call."""
    now = int(time.time())
    of_blocked = {"key_hash": hash_key(Secret(BLOCKED))}

    def expired(ago_s: int) -> str:
        return gateway.seal(iat=now - 7200, exp=now - ago_s, jti=TOKEN_ID)

    found: dict[str, tuple[str | None, dict[str, Any]]] = {
        "the key": (KEY, {}),
        "the master key": (MASTER_KEY, {}),
        "the call's token": (gateway.seal(), {}),
        "the call's token, expired": (expired(HANGUP_GRACE_S - 60), {}),
        "the call's token, long expired": (expired(HANGUP_GRACE_S), {}),
        "the call's token, its key blocked": (gateway.seal(**of_blocked), of_blocked),
        "another token of the key": (gateway.seal(jti="another"), {}),
        "a key of the same team": ("sk-other-key-of-the-team", {}),
        "a key of nobody": ("sk-key-for-azure-alone", {}),
        "another's token with that id": (gateway.seal(key_hash="another"), {}),
        "the key, blocked": (BLOCKED, of_blocked),
        "an expired key": ("sk-key-that-expired", {}),
        "an unknown key": ("sk-nobody-has-this-one", {}),
        "a token of another gateway": (gateway.seal(secret="another secret of a gateway"), {}),
        "nothing": (None, {}),
    }
    return found[name]


@pytest.mark.parametrize(
    ("name", "hangup", "other"),
    [
        # Realistic
        ("the key", 200, 200),
        ("the master key", 200, 200),
        ("the call's token", 200, 200),
        ("the call's token, expired", 200, 401),
        ("the call's token, long expired", 401, 401),
        ("the call's token, its key blocked", 200, 401),
        ("another token of the key", 404, 404),
        ("a key of the same team", 404, 404),
        ("a key of nobody", 404, 404),
        ("the key, blocked", 401, 401),
        ("an expired key", 401, 401),
        # Synthetic
        ("another's token with that id", 404, 401),
        ("an unknown key", 401, 401),
        ("a token of another gateway", 401, 401),
        ("nothing", 401, 401),
    ],
)
async def test_calls_belong_to_their_owners(
    gateway: Gateway, name: str, hangup: int, other: int
) -> None:
    """A call obeys its key, its token and the master key; to all others it does not exist."""
    credential, fields = credential_of(gateway, name)
    handle = sealed(**fields)
    for verb in VERBS:
        gateway.reset()
        answer = await command(gateway, handle, credential, verb)
        status = hangup if verb == "hangup" else other
        assert answer.status == status, answer.raw
        assert len(gateway.received) == (status == 200)
        if status == 200:
            assert answer.body == b""
            check_readable(answer)
        else:
            check_refusal(answer, status, "call_id_not_found" if status == 404 else None)


async def test_wrong_handles_are_all_alike(gateway: Gateway) -> None:
    """Whatever is no call of the caller's gets the same 404, and the upstream gets nothing."""
    bodies = set()
    for name, handle in wrong_handles().items():
        answer = await command(gateway, handle)
        check_refusal(answer, 404, "call_id_not_found")
        bodies.add(answer.body)
        assert answer.names == {
            "access-control-allow-origin",
            "access-control-expose-headers",
            "content-length",
            "content-type",
            "date",
            "server",
            "x-request-id",
        }, name
    assert len(bodies) == 1
    assert gateway.received == []


async def test_wrong_handles_are_nothing_to_strangers(gateway: Gateway) -> None:
    """Without a credential every handle, good or not, gets the same 401."""
    handles = [sealed(), *wrong_handles().values()]
    answers = [await command(gateway, handle, None) for handle in handles]
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}
    assert gateway.received == []


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("prefix", ["/v1/realtime", "/realtime", "/openai/v1/realtime"])
async def test_location_of_a_call_takes_commands(gateway: Gateway, prefix: str) -> None:
    """What `Location` says of a call that was made with a token works with its key and itself."""
    token = await gateway.token("voice-azure")
    answer = await gateway.call(token)
    handle = str(answer.header("location")).rpartition("/")[2]
    upstream_id = "rtc_upstream_"
    for credential in (token, KEY, MASTER_KEY):
        gateway.reset()
        assert (await command(gateway, handle, credential, prefix=prefix)).status == 200
        (request,) = gateway.azure.received
        assert request.target.startswith(f"/openai/v1/realtime/calls/{upstream_id}")


@pytest.mark.parametrize(
    ("deployment", "path", "key_header"),
    [
        ("voice-1", "/v1/realtime", f"authorization: Bearer {OPENAI_KEY}"),
        ("voice-azure-1", "/openai/v1/realtime", f"api-key: {AZURE_KEY}"),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
async def test_command_sends_exactly_this(
    gateway: Gateway, deployment: str, path: str, key_header: str, verb: str
) -> None:
    """The provider gets its own path, the standard key, the command's members and no more."""
    noise = [("cookie", "a=b"), ("openai-beta", "realtime=v1"), ("x-stainless-os", "Linux")]
    upstream = gateway.openai if deployment == "voice-1" else gateway.azure
    upstream.script[verb] = OK
    sent = {"accept": b'{"model":"x","a":1}', "reject": b'{"status_code":486,"b":2}'}
    body = sent.get(verb, b'{"target_uri":"sip:ada@example.com","c":3}')
    target = f"/v1/realtime/calls/{sealed(deployment=deployment)}/{verb}?x=y"
    answer = await gateway.post(target, [bearer(KEY), JSON_TYPE, *noise], body)
    assert answer.status == 200, answer.raw
    (request,) = gateway.received
    model = "gpt-realtime" if deployment == "voice-1" else "rt-deployment"
    expected = {
        "hangup": b"",
        "accept": json.dumps({"a": 1, "model": model}, separators=(",", ":")).encode(),
        "reject": b'{"status_code":486}',
        "refer": b'{"target_uri":"sip:ada@example.com"}',
    }
    assert request.start_line == f"POST {path}/calls/{CALL_ID}/{verb} HTTP/1.1"
    assert request.body == expected[verb]
    own = {"openai-organization"} if deployment == "voice-1" else set()
    assert request.names == own | {
        "host",
        "content-length",
        "content-type",
        "accept",
        "accept-encoding",
        "user-agent",
        key_header.partition(":")[0],
    }
    assert key_header in [f"{name}: {value}" for name, value in request.headers]


@pytest.mark.parametrize(
    ("verb", "reply", "status", "code"),
    [
        # Realistic
        pytest.param(
            "hangup", error_reply(404, {"code": "call_id_not_found"}), 200, None, id="over"
        ),
        pytest.param("accept", error_reply(404, {}), 404, "call_id_not_found", id="accept-nothing"),
        pytest.param(
            "accept", error_reply(400, {"message": "No.", "code": "bad"}), 400, "bad", id="400"
        ),
        pytest.param("hangup", error_reply(401, {"message": OPENAI_KEY}), 502, None, id="401"),
        pytest.param("hangup", error_reply(403, {"message": OPENAI_KEY}), 502, None, id="403"),
        pytest.param(
            "accept",
            error_reply(400, {"message": f"{OPENAI_KEY} and {CALL_ID}"}),
            400,
            "upstream_refused_request",
            id="quotes",
        ),
        pytest.param("refer", error_reply(500, {}), 502, "upstream_failed", id="500"),
        # Synthetic
        pytest.param("hangup", Reply(hangs_up=True), 503, "upstream_unreachable", id="gone"),
        pytest.param("hangup", Reply(302), 502, "upstream_failed", id="302"),
        pytest.param("hangup", Reply(200, delay_s=3), 504, "upstream_timeout", id="slow"),
    ],
)
async def test_answers_of_the_provider_are_judged(
    gateway: Gateway, verb: str, reply: Reply, status: int, code: str | None
) -> None:
    """The caller learns what concerns it, and neither our key nor the provider's id of a call."""
    gateway.openai.script[verb] = reply
    answer = await command(gateway, sealed(), verb=verb)
    assert answer.status == status, answer.raw
    assert OPENAI_KEY.encode() not in answer.raw
    assert CALL_ID.encode() not in answer.raw
    if status != 200:
        check_refusal(answer, status, code)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        pytest.param("accept", b"", id="accept-nothing"),
        pytest.param("accept", b"[]", id="list"),
        pytest.param("accept", b'{"a":1,"a":2}', id="twice"),
        pytest.param("reject", b'{"status_code":200}', id="success"),
        pytest.param("reject", b'{"status_code":true}', id="true"),
        pytest.param("refer", b"{}", id="nowhere"),
        pytest.param("refer", b'{"target_uri":"https://example.com"}', id="http"),
        pytest.param("refer", b'{"target_uri":"tel:+1\\r\\nx"}', id="crlf"),
    ],
)
async def test_bodies_that_make_no_sense_are_refused(
    gateway: Gateway, verb: str, body: bytes
) -> None:
    """A command with a wrong body is 400, and the upstream gets nothing."""
    answer = await command(gateway, sealed(), verb=verb, body=body)
    check_refusal(answer, 400, "invalid_body")
    assert gateway.received == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        # Realistic
        ("GET", "/v1/realtime/calls/{}/hangup", 405),
        ("DELETE", "/v1/realtime/calls/{}", 405),
        ("POST", "/v1/realtime/calls/{}", 405),
        ("POST", "/v1/realtime/calls/{}/mute", 404),
        # Synthetic
        ("POST", "/v1/realtime/calls/{}/hangup/", 404),
        ("POST", "/v1/realtime/calls//hangup", 405),
        ("POST", "/v1/realtime/calls/x/{}/hangup", 404),
        ("POST", "/v1/realtime/calls/%2e%2e%2f{}/hangup", 400),
        ("POST", "/v1/realtime/calls/x%2f..%2f{}/hangup", 400),
        ("POST", "/v1/realtime/calls/{}%5changup/hangup", 400),
        ("POST", "/v1/realtime/calls/{}%00/hangup", 400),
        ("POST", "/v1/realtime/calls/rtc_%0d%0a{}/hangup", 404),
    ],
)
async def test_paths_around_commands_lead_nowhere(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    """Nothing but POST of exactly such a path is a command."""
    gateway.openai.script["hangup"] = OK
    lines = [("origin", ORIGIN), bearer(KEY)]
    answer = await send(gateway.port, request_bytes(method, path.format(sealed()), lines))
    assert answer.status == status, answer.raw
    codes = {"method_not_allowed", "not_found", "bad_request", "call_id_not_found"}
    assert answer.error["code"] in codes
    assert gateway.received == []


async def test_commands_are_logged_with_their_owner(gateway: Gateway) -> None:
    """The access log says who did what to which deployment's call, and not which handle."""
    handle = sealed()
    answer = await command(gateway, handle)
    line = await gateway.logged(str(answer.header("x-request-id")))
    facts = {name: line.get(name) for name in ("outcome", "route", "key_alias", "deployment")}
    assert facts == {
        "outcome": "hangup",
        "route": "call_control",
        "key_alias": "web-team",
        "deployment": "voice-1",
    }
    assert handle not in str(line)
