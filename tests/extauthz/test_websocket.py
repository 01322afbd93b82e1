import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.decision import Labels, RequestFacts
from extauthz.websocket import (
    InvalidQueryError,
    OriginDeniedError,
    WebSocketQuery,
    allow_websocket,
    check_origin,
    is_sideband,
    is_websocket,
    parse_query,
    with_credential,
)
from helpers.authz import OPENAI
from ringback.secrets import Secret

PREFIX = "openai-insecure-api-key."
NO_VALUES = ["", " ", "%20x", "%00", "a%0d%0ab", "a%7f", "%ff", "%c2%85", "a" * 8193]


def facts(query: str = "", **headers: str) -> RequestFacts:
    """Return a handshake; headers with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestFacts("GET", "/v1/realtime", {"upgrade": "WebSocket"} | named, b"", query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # Realistic
        ("", WebSocketQuery()),
        ("model=gpt-realtime", WebSocketQuery(model="gpt-realtime")),
        ("call_id=rtc_a.b..c", WebSocketQuery(call_id="rtc_a.b..c")),
        (
            "intent=transcription&model=voice",
            WebSocketQuery(model="voice", intent="transcription"),
        ),
        ("model=my%20voice+2", WebSocketQuery(model="my voice 2")),
        ("api-version=x&model=a&deployment=b", WebSocketQuery(model="a")),
        ("api-version=x&deployment=b", WebSocketQuery(model="b")),
        # Synthetic
        ("model=%C3%A9t%C3%A9", WebSocketQuery(model="\u00e9t\u00e9")),
        ("m%6Fdel=a", WebSocketQuery(model="a")),
        ("MODEL=a", WebSocketQuery()),
        ("model=a=b", WebSocketQuery(model="a=b")),
        ("&&x&=&", WebSocketQuery()),
        (f"model={'a' * 8192}", WebSocketQuery(model="a" * 8192)),
    ],
)
def test_query(query: str, expected: WebSocketQuery) -> None:
    """The query is read as browsers write it; what is not known stays behind."""
    assert parse_query(query) == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        # Realistic
        ("model=a&model=a", "model"),
        ("call_id=a&model=b", "call_id"),
        ("call_id=a&intent=transcription", "call_id"),
        ("intent=conversation", "intent"),
        # Synthetic
        ("call_id=a&call%5fid=b", "call_id"),
        ("deployment=a&deployment=b", "model"),
        ("call_id=a&deployment=b", "call_id"),
        *((f"model={value}", "model") for value in NO_VALUES),
    ],
)
def test_query_is_refused(query: str, param: str) -> None:
    """What means two things, or nothing that could be, is 400 and names the parameter."""
    with pytest.raises(InvalidQueryError) as caught:
        parse_query(query)
    assert (caught.value.http_status, caught.value.param) == (400, param)


@given(st.text())
def test_query_is_read_or_refused(query: str) -> None:
    """Whatever comes, nothing else happens, and no control character gets through."""
    try:
        wanted = parse_query(query)
    except InvalidQueryError:
        return
    for value in (wanted.model, wanted.call_id):
        assert not any(ord(character) < 32 for character in value or "")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Realistic
        ({"sec_websocket_protocol": f"realtime, {PREFIX}sk-1"}, "Bearer sk-1"),
        ({"sec_websocket_protocol": f"{PREFIX}sk-1,realtime"}, "Bearer sk-1"),
        ({"sec_websocket_protocol": "realtime"}, None),
        (
            {"authorization": "Bearer sk-2", "sec_websocket_protocol": f"{PREFIX}sk-1"},
            "Bearer sk-2",
        ),
        ({"api_key": "sk-2", "sec_websocket_protocol": f"{PREFIX}sk-1"}, None),
        # Synthetic
        ({"authorization": " ", "sec_websocket_protocol": f"{PREFIX}sk-1"}, "Bearer sk-1"),
        ({"sec_websocket_protocol": f"{PREFIX}a,{PREFIX}b"}, "Bearer a,b"),
        ({"sec_websocket_protocol": f"{PREFIX}"}, "Bearer "),
        ({"sec_websocket_protocol": f"x{PREFIX}sk-1"}, None),
    ],
)
def test_credential_of_a_subprotocol(headers: dict[str, str], expected: str | None) -> None:
    """A key in a subprotocol counts where no header holds one."""
    assert with_credential(facts(**headers)).headers.get("authorization") == expected


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        # Realistic
        (None, True),
        ("https://app.example.com", True),
        ("http://localhost:3000", True),
        ("https://app.example.com.evil.example", False),
        ("https://evil.example", False),
        # Synthetic
        ("", False),
        ("null", False),
        ("https://app.example.com\n", False),
        ("https://app.example.com, https://evil.example", False),
        ("HTTPS://APP.EXAMPLE.COM", False),
    ],
)
def test_origin(origin: str | None, allowed: bool) -> None:
    """Only pages of the settings' origins may; who has no Origin is no page."""
    headers = {} if origin is None else {"origin": origin}
    patterns = ["https://app.example.com", "http://localhost:*"]
    if allowed:
        check_origin(headers, patterns)
        return
    with pytest.raises(OriginDeniedError):
        check_origin(headers, patterns)


@pytest.mark.parametrize(
    ("request_facts", "websocket", "sideband"),
    [
        # Realistic
        pytest.param(facts("model=a"), True, False, id="conversation"),
        pytest.param(facts("call_id=a"), True, True, id="sideband"),
        pytest.param(facts("model=a&call%5Fid="), True, True, id="encoded"),
        # Synthetic
        pytest.param(facts("x=call_id"), True, False, id="value"),
        pytest.param(facts("call_id=a", upgrade="h2c"), False, False, id="h2c"),
        pytest.param(RequestFacts("GET", "/v1/realtime", {}), False, False, id="no-upgrade"),
        pytest.param(
            RequestFacts("POST", "/v1/realtime", {"upgrade": "websocket"}), False, False, id="post"
        ),
        pytest.param(
            RequestFacts("GET", "/v1/realtime/", {"upgrade": "websocket"}), False, False, id="path"
        ),
    ],
)
def test_what_is_a_websocket(request_facts: RequestFacts, websocket: bool, sideband: bool) -> None:
    """A handshake is a GET of one of the paths that asks for the upgrade."""
    assert (is_websocket(request_facts), is_sideband(request_facts)) == (websocket, sideband)


def test_only_listed_headers_leave() -> None:
    """Of the caller's headers the handshake's leave, without any subprotocol."""
    request = facts(
        "model=a",
        connection="upgrade",
        sec_websocket_key="k",
        sec_websocket_version="13",
        sec_websocket_protocol=f"realtime, {PREFIX}sk-1",
        openai_beta="realtime=v1",
        cookie="a=b",
        authorization="Bearer sk-1",
        origin="https://app.example.com",
    )
    credentials = {"authorization": Secret("Bearer sk-upstream")}
    allowed = allow_websocket(
        request, OPENAI.origin, "/v1/realtime?model=m", credentials, Labels("websocket")
    )
    assert set(allowed.removed) == {"sec-websocket-protocol", "openai-beta", "cookie", "origin"}
    assert {name: value.reveal() for name, value in allowed.headers.items()} | {
        "user-agent": ""
    } == {
        "authorization": "Bearer sk-upstream",
        "user-agent": "",
        "x-ringback-cluster": "upstream_https_api_openai_com_443",
        "x-ringback-route": "websocket",
        ":authority": "api.openai.com",
        ":path": "/v1/realtime?model=m",
    }
    assert allowed.labels.subprotocol == "realtime"
