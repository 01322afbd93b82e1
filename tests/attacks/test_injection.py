"""Text that would like to become something else: a header, a line of a log, an address."""

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from helpers.attacks import (
    CALLS,
    ENDPOINTS,
    MINT,
    SESSION,
    check_answer,
    check_received,
    good,
    shoot,
)
from helpers.callforms import BOUNDARY, CONTENT_TYPE, form, part
from helpers.expect import check_refusal
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer, until
from helpers.gatewayfiles import KEY
from helpers.handles import sealed
from helpers.http11 import Header, Message, request_bytes, send
from helpers.recording import SDP_ANSWER, Reply, call_reply, error_reply, minted_reply

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

MARK: Final = "x-injected"
TEXTS: Final = {
    # Realistic
    "crlf": f"voice\r\n{MARK}: yes",
    "lf": f"voice\n{MARK}: yes",
    "cr": f"voice\r{MARK}: yes",
    "double-crlf": f"voice\r\n\r\nHTTP/1.1 200 OK\r\n{MARK}: yes\r\n\r\n",
    # Synthetic
    "json-line": 'voice"}\n{"listener":"ingress_http","status":200,"team":"x-injected"}',
    "nul": f"voice\0{MARK}",
    "unicode-lines": f"voice\u2028{MARK}\u2029{MARK}\u0085{MARK}",
    "folded": f"voice\r\n {MARK}: yes",
    "truncating": f"voice\u010d\u010a{MARK}: yes",
    "terminal": f"\x1b[2J\x1b]0;{MARK}\x07",
    "right-to-left": f"voice\u202e{MARK}",
    "envoy-format": f"%REQ(AUTHORIZATION)% {MARK} %DYNAMIC_METADATA(x)%",
    "python-format": f"{{0.__class__}} %s %n {MARK}",
    "lookup": f"${{jndi:ldap://127.0.0.1:1/{MARK}}}",
    "reference": "os.environ/PATH",
    # Pathological
    "long": "voice" + MARK * 2000,
    "utf8-cut": "voice\ufffd" + MARK,
}
ADDRESSES: Final = (
    "http://127.0.0.1:{evil}/v1",
    "http://127.0.0.1:9901/quitquitquit",
    "//127.0.0.1:{evil}",
    "upstream_http_127_0_0_1_{evil}",
    "openai/http://127.0.0.1:{evil}",
    "azure/../../elsewhere",
    "../elsewhere",
    "elsewhere@127.0.0.1:{evil}",
    "file:///etc/passwd",
    "unix:/tmp/x.sock",
    "gpt-realtime?api_base=http://127.0.0.1:{evil}",
    "elsewhere",
    "elsewhere-1",
    "*",
)


def check_nothing_injected(gateway: Gateway, answer: Message) -> None:
    """Check that the mark has become no header, and no line, of anything."""
    assert MARK not in answer.names
    check_received(gateway)
    for request in gateway.received:
        assert MARK not in request.names


async def check_lines(gateway: Gateway, answer: Message) -> None:
    """Check that the line of a request in the access log is one, and holds what it should."""
    entry = await gateway.logged(answer.header("x-request-id") or "")
    assert MARK not in json.dumps(entry)
    text = gateway.stack.logs("envoy")
    lines = [line for line in text.splitlines()[-3:] if line.startswith("{") and line[-1:] == "}"]
    assert all("listener" in json.loads(line) for line in lines)


@pytest.mark.parametrize("name", TEXTS)
async def test_text_in_bodies_stays_text(gateway: Gateway, name: str) -> None:
    """In each member of a session a text is refused or passed on as JSON, never as more."""
    text = TEXTS[name]
    bodies: list[dict[str, Any]] = [
        {"model": text},
        {"session": {**SESSION, "model": text}},
        {"session": {**SESSION, "type": text}},
        {"session": {**SESSION, "instructions": text}},
        {"session": {**SESSION, text: text}},
        {text: "voice"},
        {"model": "voice", "expires_after": {"anchor": text, "seconds": 60}},
        {"session": {**SESSION, "audio": {"input": {"transcription": {"model": text}}}}},
        {"session": {**SESSION, "voice": {"id": text}, "metadata": {text: [text, None]}}},
    ]
    for body in bodies:
        shot = replace(good(gateway, "mint"), body=json.dumps(body).encode())
        answer = await shoot(gateway, shot)
        check_nothing_injected(gateway, answer)
        shown = json.dumps(body.get("session", body)).encode()
        session_form = form(part("sdp", OFFER), part("session", shown))
        answer = await shoot(gateway, replace(good(gateway, "key_form"), body=session_form))
        check_nothing_injected(gateway, answer)
    await check_lines(gateway, answer)


@pytest.mark.parametrize("name", TEXTS)
async def test_text_in_heads_stays_text(gateway: Gateway, name: str) -> None:
    """In each header and parameter that is read, a text is refused or stays within its value."""
    raw = TEXTS[name].encode()
    escaped = "".join(f"%{byte:02x}" for byte in raw[:2000])
    wire = raw.decode("latin-1")
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint)
        for header in (
            "openai-safety-identifier",
            "sec-websocket-protocol",
            "origin",
            "user-agent",
        ):
            data = shot.with_((header, wire)).to_bytes()
            answer = await send(gateway.port, data)
            check_answer(answer)
            check_nothing_injected(gateway, answer)
    for target in (
        f"{CALLS}?model={escaped}",
        f"{CALLS}?webrtcfilter={escaped}&model=voice",
        f"{CALLS}?{escaped}={escaped}&model=voice",
    ):
        answer = await shoot(gateway, replace(good(gateway, "key_call"), target=target))
        check_nothing_injected(gateway, answer)
    for query in ("model", "call_id", "intent", escaped):
        shot = replace(good(gateway, "websocket"), target=f"/v1/realtime?{query}={escaped}")
        check_nothing_injected(gateway, await shoot(gateway, shot))
    for path in (f"{CALLS}/{escaped}/hangup", f"{CALLS}/{sealed()}/{escaped}"):
        answer = await shoot(gateway, replace(good(gateway, "hangup"), target=path))
        assert answer.status in {400, 404}
        check_nothing_injected(gateway, answer)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        # Synthetic: headers of parts
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER, f"application/sdp\r\n{MARK}: yes"), part("session", b"{}")),
            id="part-header",
        ),
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER, extra="x-ringback-cluster: x\r\n")), id="internal"
        ),
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER, filename=f"a\r\n{MARK}: yes")), id="filename"
        ),
        pytest.param(CONTENT_TYPE, form(part('sdp"; name="session', OFFER)), id="name-twice"),
        pytest.param(CONTENT_TYPE, form(part("sdp", OFFER), part("sdp", OFFER)), id="offer-twice"),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER), part("session", b'{"model":"voice"}'), part("model", b"x")),
            id="further-part",
        ),
        pytest.param(
            CONTENT_TYPE + f"; boundary=x\t; {MARK}=y",
            form(part("sdp", OFFER)),
            id="two-boundaries",
        ),
        pytest.param(f"multipart/form-data; boundary={'x' * 5000}", b"--x", id="long-boundary"),
        pytest.param("multipart/form-data; boundary*=utf-8''x", b"--x", id="extended-boundary"),
        pytest.param("multipart/form-data; boundary=", b"----", id="empty-boundary"),
        pytest.param("multipart/form-data", form(part("sdp", OFFER)), id="no-boundary"),
        pytest.param("multipart/mixed; boundary=x", b"--x--", id="mixed"),
        # Pathological
        pytest.param(CONTENT_TYPE, form(*[part("x", b"")] * 900), id="many-parts"),
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER, extra="x: y\r\n" * 8000)), id="many-headers"
        ),
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER, extra=f"x: {'y' * 50000}\r\n")), id="long-header"
        ),
        pytest.param(CONTENT_TYPE, b"--" * 32000, id="dashes"),
        pytest.param(CONTENT_TYPE, b"\r\n" * 32000, id="empty-lines"),
        pytest.param(CONTENT_TYPE, f"--{BOUNDARY}\r\n".encode() * 1500, id="boundaries"),
        pytest.param(CONTENT_TYPE, f"--{BOUNDARY}\r\n\r\n".encode() * 1500, id="empty-parts"),
        pytest.param(
            "multipart/form-data; boundary=a",
            b"--a\r\n" + b"\r\n--b" * 16000,
            id="almost-boundaries",
        ),
    ],
)
async def test_forms_are_read_strictly(gateway: Gateway, content_type: str, body: bytes) -> None:
    """A form of any other making is refused, with a key and with a token."""
    for credential in (KEY, gateway.seal()):
        lines = [bearer(credential), ("content-type", content_type)]
        answer = await gateway.post(f"{CALLS}?model=voice", lines, body)
        check_answer(answer)
        assert answer.status in {400, 413, 415, 201}
        check_nothing_injected(gateway, answer)
        for request in gateway.received:
            assert request.target == MINT or request.body == OFFER


@pytest.mark.parametrize("address", ADDRESSES)
async def test_no_text_is_an_address(gateway: Gateway, address: str) -> None:
    """A model, session, query or part that names a place takes nobody there."""
    text = address.replace("{evil}", str(gateway.azure.port))
    ways = ("api_base", "base_url", "url", "server_url", "host", "deployment", "cluster", "proxy")
    session: dict[str, Any] = {**SESSION, **dict.fromkeys(ways, text)}
    tools = [{"type": "mcp", "server_label": "x", "server_url": text, "authorization": "y"}]
    bodies: list[dict[str, Any]] = [
        {"model": text},
        {"session": {"type": "realtime", "model": text}},
        {"session": session},
        {"session": {**SESSION, "tools": tools}},
        {"model": "voice", **dict.fromkeys(ways, text)},
    ]
    for body in bodies:
        shot = replace(good(gateway, "mint"), body=json.dumps(body).encode())
        assert (await shoot(gateway, shot)).status in {200, 400, 403}
    for way in ("model", *ways):
        for endpoint in ("key_call", "websocket", "call", "mint"):
            shot = good(gateway, endpoint)
            glue = "&" if "?" in shot.target and way != "model" else "?"
            target = f"{shot.target if glue == '&' else shot.path}{glue}{way}={text}"
            await shoot(gateway, replace(shot, target=target))
    called = form(part("sdp", OFFER), part("session", json.dumps(session).encode()))
    await shoot(gateway, replace(good(gateway, "key_form"), body=called))
    check_received(gateway)


BOMBS: Final = {
    "deep-arrays": b'{"a":' + b"[" * 60000,
    "deep-and-closed": b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}",
    "deep-objects": b'{"a":' * 10000 + b"1" + b"}" * 10000,
    "many-digits": b'{"expires_after":{"seconds":' + b"9" * 60000 + b"}}",
    "many-decimals": b'{"session":{"x":0.' + b"1" * 60000 + b"}}",
    "large-exponent": b'{"session":{"x":1e999999999}}',
    "small-exponent": b'{"model":"voice","session":{"x":1e-999999999}}',
    "minus-zero": b'{"model":"voice","session":{"x":-0.0}}',
    "nan": b'{"session":{"x":NaN}}',
    "infinity": b'{"session":{"x":-Infinity}}',
    "many-members": json.dumps({"session": {f"k{n}": n for n in range(4500)}}).encode(),
    "many-equal-members": b'{"session":{' + b'"a":1,' * 9000 + b'"a":1}}',
    "colliding-hashes": json.dumps(
        {"session": {str(n * (2**61 - 1)): 0 for n in range(1500)}}
    ).encode(),
    "escapes": b'{"model":"' + b"\\u0061" * 10000 + b'"}',
    "half-pairs": b'{"model":"\\ud800","session":{"\\udfff":"\\ud800"}}',
    "utf-16": '{"model":"voice"}'.encode("utf-16"),
    "utf-32": '{"model":"voice"}'.encode("utf-32"),
    "utf-8-bom": b'\xef\xbb\xbf{"model":"voice"}',
    "utf-7": b"+AHsAIg-",
    "no-utf-8": b'{"model":"\xff\xfe"}',
    "overlong": b'{"model":"\xc0\xaf"}',
    "spaces": b" " * 65536,
    "strings-without-end": b'"' * 65535,
    "commas": b"{" + b"," * 65000,
    "zeros": b"\0" * 65536,
    "proto": b'{"model":"voice","session":{"__proto__":{"x":1},"constructor":{}}}',
    "comments": b'{/* x */"model":"voice"}',
    "two-values": b'{"model":"voice"}{"model":"voice"}',
    "billion-laughs": b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
    "yaml": b"model: &a voice\nsession: *a\n",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_do_not_go_off(gateway: Gateway, name: str) -> None:
    """Large, deep and odd bodies get their 4xx at once, wherever JSON is read."""
    for endpoint in ("mint", "transcription", "accept"):
        await shoot(gateway, replace(good(gateway, endpoint), body=BOMBS[name]))
    shot = replace(
        good(gateway, "key_form"), body=form(part("sdp", OFFER), part("session", BOMBS[name]))
    )
    await shoot(gateway, shot)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity", "x"])
async def test_compressed_bodies_are_not_unpacked(gateway: Gateway, coding: str) -> None:
    """A Content-Encoding is never applied, and never leaves: bodies are what they are."""
    bomb = bytes.fromhex("1f8b0800000000000203") + b"\xed\xc1\x01" * 9000
    for endpoint in ("mint", "transcription", "call", "key_form", "accept"):
        shot = good(gateway, endpoint).with_(("content-encoding", coding))
        refused = await shoot(gateway, replace(shot, body=bomb))
        assert refused.status in {400, 415}
        gateway.openai.received.clear()
        await shoot(gateway, shot)


HOSTILE: Final[dict[str, tuple[Header, ...]]] = {
    # Synthetic: what a provider, or whoever sits in its place, may answer with
    "location-elsewhere": (("Location", f"https://evil.example/{MARK}?x=y#z"),),
    "location-escaped": (("Location", f"/v1/realtime/calls/x%0d%0a{MARK}:yes"),),
    "location-twice": (("Location", "/a/rtc_1"), ("Location", "/a/rtc_2")),
    "location-script": (("Location", "javascript:alert(1)//rtc_1"),),
    "location-latin-1": (("Location", "/v1/realtime/calls/rtc_\xe9"),),
    "retry-after-text": (("Retry-After", f"0, {MARK}"),),
    "retry-after-huge": (("Retry-After", "9" * 5000),),
    "retry-after-minus": (("Retry-After", "-1"),),
    "retry-after-twice": (("Retry-After", "1"), ("Retry-After", "2")),
    "retry-after-digits-of-others": (("Retry-After", "\xb2"),),
    "metadata": (("x-envoy-upstream-alt-stat-name", "x"), ("x-ringback-egress", "UF")),
    "marked-as-ours": (("x-ringback-egress", "UF,URX"), ("x-envoy-ratelimited", "true")),
    "cors": (("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")),
    "cookies": (("Set-Cookie", "a=b"), ("Clear-Site-Data", '"*"'), ("Refresh", "0;url=x")),
    "gzip": (("Content-Encoding", "gzip"),),
    "type": (("Content-Disposition", "attachment; filename=x.html"),),
    "many": tuple((f"x-{n}", "y") for n in range(80)),
    "large": (("x-large", "y" * 50000),),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_upstream_speaks_for_itself(gateway: Gateway, name: str) -> None:
    """Whatever headers a provider answers with, the caller sees ours, and 5xx at the worst."""
    headers = HOSTILE[name]
    sdp = ("Content-Type", "application/sdp")
    token = gateway.seal()
    location = headers if name.startswith("location") else call_reply("rtc_x").headers + headers
    for reply in (
        Reply(201, (sdp, *location), SDP_ANSWER),
        error_reply(429, {"message": f"no\r\n{MARK}: x", "code": MARK, "type": MARK}, *headers),
        error_reply(400, {"message": MARK, "param": ["x"], "code": {"a": 1}}, *headers),
        error_reply(503, [MARK], *headers),
        Reply(307, (("Location", gateway.azure.url()), *headers)),
        Reply(204, headers),
        Reply(299, headers, b"\xff" * 1000),
    ):
        gateway.openai.script |= {"calls": reply, "client_secrets": reply, "hangup": reply}
        for answer in (
            await gateway.call(token),
            await gateway.mint(),
            await gateway.post(f"{CALLS}/{sealed()}/hangup", [bearer(KEY)], b""),
        ):
            check_answer(answer, most=504)
            assert MARK not in answer.names
            assert answer.header("access-control-allow-origin") == "http://localhost:3000"
    assert gateway.azure.received == []
    gateway.openai.script["client_secrets"] = minted_reply(f"ek_x\r\n{MARK}: yes{'z' * 20}")
    answer = await gateway.mint()
    check_refusal(answer, 502, "upstream_failed")


async def test_log_of_all_of_this_is_whole(gateway: Gateway) -> None:
    """After requests with marks in every place, the log has one line for each and no mark."""
    before = len(gateway.access_log())
    shots = [
        request_bytes(
            "POST",
            f"{MINT}?{MARK}=%0a%7b%22listener%22:1%7d",
            [bearer(KEY), JSON_TYPE, (MARK, '"}'), ("user-agent", MARK), ("referer", MARK)],
            json.dumps({"model": f'{MARK}"}}\n{{"listener":"x"}}'}).encode(),
        ),
        request_bytes("POST", f"{CALLS}/{MARK}%0a/hangup", [bearer(KEY)]),
        request_bytes("POST", CALLS, [bearer(f"ek_{MARK}"), SDP_TYPE], OFFER),
        request_bytes("PATCH", f"/{MARK}", [("host", MARK)]),
    ]
    for data in shots:
        await send(gateway.port, data)
    await until(lambda: len(gateway.access_log()) >= before + len(shots))
    assert not [name for name, text in gateway.logs().items() if MARK in text]
