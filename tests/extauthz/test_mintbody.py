import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.mintbody import InvalidBodyError, Minted, parse_mint_request, parse_minted
from helpers.authz import OPENAI, upstream_body
from ringback.secrets import Secret
from ringback.upstream import UpstreamFailedError

EPHEMERAL_KEY = "ek_68af296e8e408191a1120ab6383263c2"
TOKEN = "ek_eyJhbGciOiJkaXIifQ..sealed.text.tag"
DEPLOYMENT = replace(OPENAI, upstream_model="upstream-model")
EXPIRES_AT = 1_756_310_470
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
# Bodies that look like those of callers, with anything in any place.
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["gpt-realtime", "voice"]) | JSON,
        "session": st.fixed_dictionaries(
            {},
            optional={
                "type": st.just("realtime") | JSON,
                "model": st.just("voice") | JSON,
                "x": JSON,
            },
        )
        | JSON,
        "expires_after": st.fixed_dictionaries(
            {}, optional={"anchor": st.just("created_at"), "seconds": st.integers(0, 9000)}
        )
        | JSON,
    },
)


@pytest.mark.parametrize(
    ("body", "model", "sent"),
    [
        # Realistic
        pytest.param(
            b'{"session":{"type":"realtime","model":"gpt-realtime","audio":{"output":{"voice":"alloy"}}}}',
            "gpt-realtime",
            {
                "session": {
                    "type": "realtime",
                    "audio": {"output": {"voice": "alloy"}},
                    "model": "upstream-model",
                }
            },
            id="current-api",
        ),
        pytest.param(
            b'{"model":"gpt-realtime"}',
            "gpt-realtime",
            {"session": {"type": "realtime", "model": "upstream-model"}},
            id="model-at-the-root",
        ),
        pytest.param(
            b'{"expires_after":{"anchor":"created_at","seconds":600},"session":{"type":"realtime"}}',
            None,
            {
                "session": {"type": "realtime", "model": "upstream-model"},
                "expires_after": {"anchor": "created_at", "seconds": 600},
            },
            id="expiry",
        ),
        pytest.param(
            '{"session":{"instructions":"Sprich über Straßen. 👋"}}'.encode(),
            None,
            {
                "session": {
                    "type": "realtime",
                    "instructions": "Sprich über Straßen. 👋",
                    "model": "upstream-model",
                }
            },
            id="unicode",
        ),
        # Synthetic
        pytest.param(
            b"", None, {"session": {"type": "realtime", "model": "upstream-model"}}, id="empty"
        ),
        pytest.param(
            b" \r\n", None, {"session": {"type": "realtime", "model": "upstream-model"}}, id="blank"
        ),
        pytest.param(
            b"{}", None, {"session": {"type": "realtime", "model": "upstream-model"}}, id="object"
        ),
        pytest.param(
            b'{"model":null,"session":null,"expires_after":null}',
            None,
            {"session": {"type": "realtime", "model": "upstream-model"}},
            id="nulls",
        ),
        pytest.param(
            b'{"model":"a","session":{"model":"a"}}',
            "a",
            {"session": {"type": "realtime", "model": "upstream-model"}},
            id="model-twice-the-same",
        ),
        pytest.param(
            b'{"session":{"model":null},"model":"a"}',
            "a",
            {"session": {"type": "realtime", "model": "upstream-model"}},
            id="model-null-and-root",
        ),
        pytest.param(
            b'{"expires_after":{"seconds":10}}',
            None,
            {
                "session": {"type": "realtime", "model": "upstream-model"},
                "expires_after": {"anchor": "created_at", "seconds": 10},
            },
            id="shortest-expiry",
        ),
        pytest.param(
            b'{"expires_after":{"seconds":7200}}',
            None,
            {
                "session": {"type": "realtime", "model": "upstream-model"},
                "expires_after": {"anchor": "created_at", "seconds": 7200},
            },
            id="longest-expiry",
        ),
        pytest.param(
            b'{"expires_after":{}}',
            None,
            {
                "session": {"type": "realtime", "model": "upstream-model"},
                "expires_after": {"anchor": "created_at"},
            },
            id="expiry-by-the-provider",
        ),
        pytest.param(
            b'{"session":{"n":12345678901234567890123,"f":0.1,"t":true}}',
            None,
            {
                "session": {
                    "type": "realtime",
                    "n": 12345678901234567890123,
                    "f": 0.1,
                    "t": True,
                    "model": "upstream-model",
                }
            },
            id="numbers",
        ),
    ],
)
def test_a_body_goes_upstream(body: bytes, model: str | None, sent: dict[str, Any]) -> None:
    """A provider receives the session with its own model name, and the expiry if there is one."""
    assert parse_mint_request(body).model == model
    assert upstream_body(parse_mint_request(body), DEPLOYMENT) == sent


EXPIRY = 'must be {"anchor":"created_at","seconds":<10 to 7200>}.'
MODEL = "must be the name of a model."
TYPE = 'must be "realtime" or "transcription".'
UNKNOWN = "there is no such parameter. Session settings belong into `session`."
DEEP = "is nested deeper than 32 levels."
DIGITS = "holds a number that is too long."
SECONDS = "expires_after.seconds"


@pytest.mark.parametrize(
    ("body", "param", "expected"),
    [
        # Realistic
        pytest.param(
            b"model=gpt-realtime",
            None,
            "is not JSON: Expecting value at line 1, column 1.",
            id="form",
        ),
        pytest.param(b'["gpt-realtime"]', None, "is not an object.", id="list"),
        pytest.param(
            b'{"model":"a","voice":"alloy"}',
            "voice",
            UNKNOWN,
            id="beta-body",
        ),
        pytest.param(
            b'{"model":"a","session":{"model":"b"}}',
            "session.model",
            "differs from `model`. Name the model once, in `session.model`.",
            id="two-models",
        ),
        pytest.param(b'{"session":{"type":"speech"}}', "session.type", TYPE, id="type"),
        pytest.param(
            b'{"session":{"input_audio_transcription":{"model":"hidden"}}}',
            "session.input_audio_transcription",
            "write it as `audio.input.transcription`.",
            id="model-in-its-old-place",
        ),
        pytest.param(
            b'{"expires_after":{"anchor":"created_at","seconds":9}}',
            SECONDS,
            EXPIRY,
            id="too-short",
        ),
        pytest.param(
            b'{"expires_after":{"anchor":"created_at","seconds":7201}}',
            SECONDS,
            EXPIRY,
            id="too-long",
        ),
        pytest.param(b'{"expires_after":600}', "expires_after", EXPIRY, id="expiry-number"),
        # Synthetic
        pytest.param(b'{"session":[]}', "session", "must be an object.", id="session-list"),
        pytest.param(b'{"session":"realtime"}', "session", "must be an object.", id="session-text"),
        pytest.param(b'{"session":{"type":null}}', "session.type", TYPE, id="type-null"),
        pytest.param(b'{"session":{"type":["realtime"]}}', "session.type", TYPE, id="type-list"),
        pytest.param(b'{"session":{"type":{}}}', "session.type", TYPE, id="type-object"),
        pytest.param(b'{"model":5}', "model", MODEL, id="model-number"),
        pytest.param(b'{"model":""}', "model", MODEL, id="model-empty"),
        pytest.param(b'{"session":{"model":["a"]}}', "session.model", MODEL, id="model-list"),
        pytest.param(b'{"model":"%s"}' % (b"a" * 257), "model", MODEL, id="model-long"),
        pytest.param(b'{"model":"a\\nb"}', "model", MODEL, id="model-line-break"),
        pytest.param(b'{"expires_after":{"anchor":"now"}}', "expires_after", EXPIRY, id="anchor"),
        pytest.param(b'{"expires_after":{"anchor":[]}}', "expires_after", EXPIRY, id="anchor-list"),
        pytest.param(
            b'{"expires_after":{"seconds":60,"x":1}}', "expires_after", EXPIRY, id="expiry-member"
        ),
        pytest.param(b'{"expires_after":{"seconds":true}}', SECONDS, EXPIRY, id="seconds-true"),
        pytest.param(b'{"expires_after":{"seconds":60.0}}', SECONDS, EXPIRY, id="seconds-float"),
        pytest.param(b'{"expires_after":{"seconds":"60"}}', SECONDS, EXPIRY, id="seconds-text"),
        pytest.param(b'{"expires_after":{"seconds":null}}', SECONDS, EXPIRY, id="seconds-null"),
        # Pathological
        pytest.param(
            b'{"model":"a","model":"b"}', None, "holds an object with a member twice.", id="twice"
        ),
        pytest.param(
            b'{"session":{"x":NaN}}', None, "holds NaN or an infinity, which are no JSON.", id="nan"
        ),
        pytest.param(
            b'{"session":{"x":1e999}}', None, "holds a number that is too large.", id="infinity"
        ),
        pytest.param(
            b'{"session":{"x":"\\udead"}}', None, "holds half of a surrogate pair.", id="surrogate"
        ),
        pytest.param(b'{"session":' + b"[" * 30_000, None, DEEP, id="deep"),
        pytest.param(b'{"session":{"x":' + b"1" * 5000 + b"}}", None, DIGITS, id="digits"),
        pytest.param(b"\xff\xfe{\0}\0", None, "is not UTF-8.", id="utf-16"),
        pytest.param(b'{"\\u0007":1}', "A parameter", UNKNOWN, id="control-name"),
        pytest.param(b'{"%s":1}' % (b"n" * 99), "n" * 64, UNKNOWN, id="long-name"),
    ],
)
def test_a_body_is_refused(body: bytes, param: str | None, expected: str) -> None:
    """What client_secrets does not take is 400, with the place and what to do."""
    with pytest.raises(InvalidBodyError) as refused:
        parse_mint_request(body)
    assert refused.value.http_status == 400
    assert refused.value.param == param
    assert str(refused.value) == f"{param or 'The request body'}: {expected}"


def test_the_first_unknown_parameter_is_named() -> None:
    """Of several unknown parameters the first one is named, every time."""
    with pytest.raises(InvalidBodyError) as refused:
        parse_mint_request(b'{"model":"a","zeta":1,"alpha":2,"beta":3}')
    assert refused.value.param == "zeta"


@given(st.binary(max_size=80) | BODIES.map(lambda body: json.dumps(body).encode()))
def test_any_bytes_are_refused_or_sent_as_a_session(body: bytes) -> None:
    """Whatever a caller sends is 400, or a provider's body of nothing but session and expiry."""
    try:
        request = parse_mint_request(body)
    except InvalidBodyError:
        return
    sent = upstream_body(request, DEPLOYMENT)
    assert {"session"} <= sent.keys() <= {"session", "expires_after"}
    assert sent["session"]["type"] == request.session_type
    if request.session_type == "realtime":
        assert sent["session"]["model"] == "upstream-model"


@pytest.mark.parametrize(
    ("fields", "expires_at"),
    [
        # Realistic
        pytest.param(
            {
                "value": EPHEMERAL_KEY,
                "expires_at": EXPIRES_AT,
                "session": {"model": "gpt-realtime"},
            },
            EXPIRES_AT,
            id="current-api",
        ),
        pytest.param(
            {"id": "sess_1", "client_secret": {"value": EPHEMERAL_KEY, "expires_at": EXPIRES_AT}},
            EXPIRES_AT,
            id="retired-api",
        ),
        pytest.param({"value": EPHEMERAL_KEY, "expires_at": None}, None, id="null-expiry"),
        pytest.param({"value": EPHEMERAL_KEY}, None, id="no-expiry"),
        # Synthetic
        pytest.param(
            {"value": EPHEMERAL_KEY, "expires_at": EXPIRES_AT, "client_secret": {"value": "x"}},
            EXPIRES_AT,
            id="both",
        ),
        pytest.param({"value": EPHEMERAL_KEY, "client_secret": None}, None, id="null-secret"),
        pytest.param({"value": EPHEMERAL_KEY, "expires_at": 0}, None, id="zero"),
        pytest.param({"value": EPHEMERAL_KEY, "expires_at": -1}, None, id="negative"),
        pytest.param({"value": EPHEMERAL_KEY, "expires_at": True}, None, id="true"),
        pytest.param({"value": EPHEMERAL_KEY, "expires_at": "1756310470"}, None, id="text"),
        pytest.param({"value": EPHEMERAL_KEY, "expires_at": 10**30}, 10**30, id="far"),
    ],
)
def test_what_a_provider_minted_is_read(fields: dict[str, Any], expires_at: int | None) -> None:
    """The ephemeral key is where either API has it; an expiry that is no time is none."""
    minted = parse_minted(json.dumps(fields).encode())
    assert minted == Minted(Secret(EPHEMERAL_KEY), expires_at, fields)
    assert EPHEMERAL_KEY not in repr(minted.ephemeral_key)


@pytest.mark.parametrize(
    "body",
    [
        # Realistic
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>Bad Gateway</html>", id="html"),
        pytest.param(b'{"session":{}}', id="no-key"),
        pytest.param(
            b'{"value":null,"client_secret":{"value":"%s"}}' % EPHEMERAL_KEY.encode(),
            id="null-first",
        ),
        pytest.param(b'{"error":{"message":"no"}}', id="error"),
        # Synthetic
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"value":5}', id="number"),
        pytest.param(b'{"value":""}', id="empty-key"),
        pytest.param(b'{"client_secret":[]}', id="list-secret"),
        pytest.param(b'{"value":"instructions"}', id="short-word"),
        pytest.param(b'{"value":"%s"}' % (b"k" * 15), id="too-short"),
        pytest.param(b'{"value":"%s"}' % (b"k" * 4001), id="too-long"),
        # Pathological
        pytest.param(b'{"value":"ek_0123456789\\r\\nx-evil: 1"}', id="line-break"),
        pytest.param(b'{"value":"ek_0123456789abcdef\\n"}', id="line-end"),
        pytest.param(b'{"value":"ek_0123456789 abcdef"}', id="space"),
        pytest.param(b'{"value":"ek_0123456789\\"abcdef"}', id="quote"),
        pytest.param(b'{"value":"ek_0123456789\\\\abcdef"}', id="backslash"),
        pytest.param(b'{"value":"ek_0123456789,abcdef"}', id="comma"),
        pytest.param('{"value":"ek_0123456789äbcdef"}'.encode(), id="not-ascii"),
        pytest.param(b'{"value":"ek_0123456789abcdef\\ud800"}', id="surrogate"),
        pytest.param(b'{"value":"ek_0123456789abcdef","x":NaN}', id="nan"),
        pytest.param(b'{"value":"ek_0123456789abcdef","value":"ek_0123456789abcdeg"}', id="twice"),
        pytest.param(b"[" * 50_000, id="deep"),
    ],
)
def test_an_answer_without_a_usable_key_is_refused(body: bytes) -> None:
    """A provider's success without an ephemeral key that could be sent as a bearer is 502."""
    with pytest.raises(UpstreamFailedError) as refused:
        parse_minted(body)
    assert refused.value.http_status == 502


def test_the_downstream_gets_the_token_in_both_places() -> None:
    """The answer keeps the provider's fields; token and expiry are where either API has them."""
    minted = parse_minted(
        b'{"value":"%s","expires_at":%d,"session":{"id":"sess_1","expires_at":0},"object":"x"}'
        % (EPHEMERAL_KEY.encode(), EXPIRES_AT)
    )
    assert minted.downstream_body(TOKEN, EXPIRES_AT - 9) == (
        b'{"value":"%s","expires_at":1756310461,"session":{"id":"sess_1","expires_at":0},'
        b'"object":"x","client_secret":{"value":"%s","expires_at":1756310461}}'
        % (TOKEN.encode(), TOKEN.encode())
    )


@pytest.mark.parametrize(
    ("field", "left"),
    [
        pytest.param({"client_secret": {"value": EPHEMERAL_KEY, "x": 1}}, {}, id="retired-place"),
        pytest.param({"echo": EPHEMERAL_KEY}, {"echo": TOKEN}, id="text"),
        pytest.param({"echo": f"a{EPHEMERAL_KEY}b"}, {"echo": f"a{TOKEN}b"}, id="inside-text"),
        pytest.param({"e": [{"x": [EPHEMERAL_KEY]}]}, {"e": [{"x": [TOKEN]}]}, id="deep"),
        pytest.param({EPHEMERAL_KEY: 1}, {TOKEN: 1}, id="name"),
        pytest.param(
            {"n": 1.5, "t": True, "z": None}, {"n": 1.5, "t": True, "z": None}, id="others"
        ),
    ],
)
def test_the_key_leaves_nowhere(field: dict[str, Any], left: dict[str, Any]) -> None:
    """In whatever place a provider repeats the ephemeral key, the token takes its place."""
    minted = parse_minted(json.dumps({"value": EPHEMERAL_KEY, **field}).encode())
    body = minted.downstream_body(TOKEN, EXPIRES_AT)
    assert EPHEMERAL_KEY.encode() not in body
    secret = {"value": TOKEN, "expires_at": EXPIRES_AT}
    assert json.loads(body) == {**secret, "client_secret": secret} | left


def test_no_second_key_leaves() -> None:
    """What is a secret by its name does not leave in the session either, and the rest does."""
    session = {"id": "sess_1", "client_secret": {"value": "ek_another_0123456789"}}
    minted = parse_minted(json.dumps({"value": EPHEMERAL_KEY, "session": session}).encode())
    assert json.loads(minted.downstream_body(TOKEN, EXPIRES_AT))["session"] == {"id": "sess_1"}
    assert minted.fields["session"] == session


@pytest.mark.parametrize(
    ("key", "field"),
    [
        pytest.param("1234567890123456", {"n": 91234567890123456}, id="in-a-number"),
        pytest.param("ek_eyJhbGciOiJkaXIifQ", {}, id="in-the-token"),
    ],
)
def test_a_key_that_cannot_be_kept_back_is_refused(key: str, field: dict[str, Any]) -> None:
    """If the ephemeral key would still be in the answer, there is none: 502."""
    minted = parse_minted(json.dumps({"value": key, **field}).encode())
    with pytest.raises(UpstreamFailedError):
        minted.downstream_body(TOKEN, EXPIRES_AT)


KEYS = st.from_regex(r"[A-Za-z0-9._~+/-]{16,24}={0,2}", fullmatch=True)


@given(KEYS, st.dictionaries(TEXT, JSON, max_size=3), st.data())
def test_no_answer_holds_the_key(key: str, fields: dict[str, Any], data: st.DataObject) -> None:
    """Whatever a provider answers, the downstream receives JSON without the ephemeral key."""
    place = data.draw(st.sampled_from(["echo", key, f"<{key}>", "client_secret"]))
    echo = data.draw(st.sampled_from([key, f"Bearer {key}", [key, {"k": f'"{key}\\'}], {key: key}]))
    try:
        minted = parse_minted(json.dumps({**fields, place: echo, "value": key}).encode())
        body = minted.downstream_body(TOKEN, EXPIRES_AT)
    except UpstreamFailedError:
        return
    assert key.encode() not in body
    assert json.loads(body)["value"] == TOKEN
