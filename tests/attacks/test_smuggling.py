"""Two requests in the clothes of one: what an upstream receives was authorised, and only that."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from helpers.attacks import CALLS, ENDPOINTS, Shot, check_answer, check_received, good
from helpers.gateway import OFFER, Gateway, bearer
from helpers.gatewayfiles import KEY
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Client, Header, Message, request_bytes

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# What an attacker would like to put behind the request of somebody else.
HIDDEN: Final = (
    b"POST /v1/smuggled HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer x\r\n"
    b"content-length: 0\r\n\r\n"
)
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
# Lines of framing, by what is odd about them. {n} is the length of the body and what is behind it.
FRAMINGS: Final = {
    # Realistic: what two servers in a row read otherwise
    "length-and-chunks": b"content-length: {n}\r\ntransfer-encoding: chunked\r\n",
    "chunks-and-length": b"transfer-encoding: chunked\r\ncontent-length: {n}\r\n",
    "length-twice": b"content-length: {n}\r\ncontent-length: 0\r\n",
    "zero-first": b"content-length: 0\r\ncontent-length: {n}\r\n",
    "same-length-twice": b"content-length: {n}\r\ncontent-length: {n}\r\n",
    "lengths-in-one": b"content-length: {n}, {n}\r\n",
    "other-lengths-in-one": b"content-length: 0, {n}\r\n",
    # Synthetic: codings that only one of them takes for chunked
    "xchunked": b"transfer-encoding: xchunked\r\n",
    "space-before-colon": b"transfer-encoding : chunked\r\n",
    "tab-before-colon": b"transfer-encoding\t: chunked\r\n",
    "space-before-name": b" transfer-encoding: chunked\r\n",
    "quoted": b'transfer-encoding: "chunked"\r\n',
    "in-capitals": b"Transfer-Encoding: CHUNKED\r\ncontent-length: {n}\r\n",
    "tab": b"transfer-encoding:\tchunked\r\ncontent-length: {n}\r\n",
    "vertical-tab": b"transfer-encoding:\x0bchunked\r\ncontent-length: {n}\r\n",
    "nul": b"transfer-encoding: chunked\x00\r\ncontent-length: {n}\r\n",
    "identity-first": b"transfer-encoding: identity, chunked\r\n",
    "identity": b"transfer-encoding: identity\r\ncontent-length: {n}\r\n",
    "twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "twice-otherwise": b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
    "chunked-chunked": b"transfer-encoding: chunked, chunked\r\n",
    "chunked-last-not": b"transfer-encoding: chunked, gzip\r\n",
    "parameter": b"transfer-encoding: chunked;x=y\r\n",
    "comma": b"transfer-encoding: ,chunked\r\ncontent-length: {n}\r\n",
    "empty": b"transfer-encoding:\r\ncontent-length: {n}\r\n",
    "folded": b"transfer-encoding:\r\n chunked\r\ncontent-length: {n}\r\n",
    "folded-length": b"content-length: 0\r\n {n}\r\n",
    "underscore": b"transfer_encoding: chunked\r\ncontent-length: {n}\r\n",
    "te-line-feed": b"x: y\ntransfer-encoding: chunked\r\ncontent-length: {n}\r\n",
    "te-carriage-return": b"x: y\rtransfer-encoding: chunked\r\ncontent-length: {n}\r\n",
    "cl-line-feed": b"content-length: 0\ncontent-length: {n}\r\n",
    # Synthetic: lengths that are none
    "plus": b"content-length: +{n}\r\n",
    "minus": b"content-length: -1\r\n",
    "hex": b"content-length: 0x10\r\n",
    "zeros": b"content-length: 000000{n}\r\n",
    "space-inside": b"content-length: 1 {n}\r\n",
    "overflow": b"content-length: 18446744073709551617\r\n",
    "exponent": b"content-length: 1e3\r\n",
    "float": b"content-length: {n}.0\r\n",
    "length-empty": b"content-length:\r\n",
    "length-nul": b"content-length: {n}\x00\r\n",
    "length-with-colon": b"content-length:: {n}\r\n",
    "hop-by-hop-length": b"connection: content-length\r\ncontent-length: {n}\r\n",
    "hop-by-hop-coding": b"connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
    "none": b"",
}
# Bodies in chunks, by what is odd about them: no length stands beside them.
CHUNKS: Final = {
    # Realistic
    "extension": b"%x;name=value\r\n%s\r\n0\r\n\r\n",
    "extension-quoted": b'%x;a="b;c"\r\n%s\r\n0;x\r\n\r\n',
    "trailers": b"%x\r\n%s\r\n0\r\nx-trailer: y\r\n\r\n",
    # Synthetic
    "zeros": b"00000%x\r\n%s\r\n0\r\n\r\n",
    "trailer-authorization": b"%x\r\n%s\r\n0\r\nauthorization: Bearer x\r\nhost: evil\r\n\r\n",
    "trailer-length": b"%x\r\n%s\r\n0\r\ncontent-length: 0\r\ntransfer-encoding: x\r\n\r\n",
    "trailer-cluster": b"%x\r\n%s\r\n0\r\nx-ringback-cluster: upstream_x\r\n\r\n",
    "extension-line-feed": b"%x;\nx\r\n%s\r\n0\r\n\r\n",
    "extension-carriage-return": b"%x;\rx\r\n%s\r\n0\r\n\r\n",
    "line-feeds": b"%x\n%s\n0\n\n",
    "size-space": b"%x \r\n%s\r\n0\r\n\r\n",
    "size-first-space": b" %x\r\n%s\r\n0\r\n\r\n",
    "size-0x": b"0x%x\r\n%s\r\n0\r\n\r\n",
    "size-plus": b"+%x\r\n%s\r\n0\r\n\r\n",
    "size-minus": b"-%x\r\n%s\r\n0\r\n\r\n",
    "size-overflow": b"1000000000000000%x\r\n%s\r\n0\r\n\r\n",
    "size-long": b"0000000000000000000000000%x\r\n%s\r\n0\r\n\r\n",
    "size-none": b"\r\n%x%s\r\n0\r\n\r\n",
    "no-line-end-behind": b"%x\r\n%s0\r\n\r\n",
    "more-behind": b"%x\r\n%sXX\r\n0\r\n\r\n",
    "last-not-empty": b"%x\r\n%s\r\n0\r\nx\r\n\r\n",
    "last-in-many-zeros": b"%x\r\n%s\r\n0000000000\r\n\r\n",
    # Pathological
    "extension-long": b"%x;" + b"y" * 40000 + b"\r\n%s\r\n0\r\n\r\n",
    "trailer-long": b"%x\r\n%s\r\n0\r\nx: " + b"y" * 80000 + b"\r\n\r\n",
    "trailers-many": b"%x\r\n%s\r\n0\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
}

NO_REQUESTS: Final = {
    "empty-lines-first": b"\r\n" * 100 + HIDDEN,
    "no-host": b"GET http://evil.example/ HTTP/1.1\r\n\r\n",
    "two-hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "line-feeds": b"GET / HTTP/1.1\nhost: a\n\n",
    "carriage-returns": b"GET / HTTP/1.1\rhost: a\r\r",
    "folded": b"GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n",
    "space-first": b"GET / HTTP/1.1\r\n host: a\r\n\r\n",
    "no-name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "no-colon": b"GET / HTTP/1.1\r\nhost a\r\n\r\n",
    "nul-in-name": b"GET / HTTP/1.1\r\nho\x00st: a\r\n\r\n",
    "version-9.9": b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    "version-0.9": b"GET / HTTP/0.9\r\n\r\n",
    "simple-request": b"GET /\r\n",
    "other-protocol": b"GET / XTTP/1.1\r\nhost: a\r\n\r\n",
    "version-twice": b"GET / HTTP/1.1 HTTP/1.1\r\nhost: a\r\n\r\n",
    "http2-preface-alone": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "almost-http2": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + HIDDEN,
    "proxy-protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + HIDDEN,
    "smtp": b"EHLO evil.example\r\nMAIL FROM:<a@b>\r\n",
    "zeros": b"\x00" * 5000,
    "tls": b"\x16\x03\x01" + b"\xff" * 500,
    "letters": b"A" * 70000,
    "long-line": b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n",
}

# What becomes framing when HTTP/2 is written as HTTP/1.1.
DOWNGRADES: Final[dict[str, list[Header]]] = {
    "coding": [("transfer-encoding", "chunked")],
    "length-too-short": [("content-length", "0")],
    "length-too-long": [("content-length", "99999")],
    "length-twice": [("content-length", "5"), ("content-length", "6")],
    "line-end-in-value": [("x", "y\r\ntransfer-encoding: chunked")],
    "line-end-in-name": [("x\r\ntransfer-encoding", "chunked")],
    "colon-in-name": [("x: y", "z")],
    "nul": [("x", "y\0")],
    "connection": [("connection", "transfer-encoding")],
    "host-beside-authority": [("host", "evil.example")],
    "path-twice": [(":path", "/v1/smuggled")],
    "authority-twice": [(":authority", "evil.example")],
    "status": [(":status", "200")],
    "te": [("te", "chunked")],
    "upgrade": [("upgrade", "websocket")],
}


def unframed(shot: Shot) -> bytes:
    """Return the head of a request up to where lines about its body belong."""
    data = request_bytes(shot.method, shot.target, [*shot.lines(), ("content-length", "0")])
    return data.removesuffix(b"content-length: 0\r\n\r\n")


async def answers_to(gateway: Gateway, data: bytes) -> list[Message]:
    """Send bytes over a connection of their own and return all answers that come soon."""
    answers: list[Message] = []
    async with Client(gateway.port) as client:
        await client.write(data)
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            while True:
                answers.append(await client.read(timeout_s=0.5 if answers else 4))
    return answers


def check_all(gateway: Gateway, answers: list[Message]) -> None:
    """Check all answers, and that nothing hidden has become a request upstream."""
    for answer in answers:
        check_answer(answer)
    check_received(gateway)
    for request in gateway.received:
        assert b"smuggled" not in request.raw
        assert b"evil" not in request.raw
        assert request.body in {b"", OFFER} or request.json() is not None
        assert "transfer-encoding" not in request.names
        assert "trailer" not in request.names


async def fire(gateway: Gateway, attacks: Mapping[str, bytes]) -> None:
    """Send all at once, and check that of each only the first request may have been obeyed."""
    found = await asyncio.gather(*(answers_to(gateway, data) for data in attacks.values()))
    for name, answers in zip(attacks, found, strict=True):
        check_all(gateway, answers)
        # The hidden one is a request of its own at most: refused like any stranger's.
        assert all(answer.status >= 400 for answer in answers[1:]), name


@pytest.mark.parametrize("behind", [b"", b"0\r\n\r\n"], ids=["as-length", "as-chunks"])
@pytest.mark.parametrize("endpoint", ["mint", "call", "key_form", "hangup"])
async def test_framing_hides_nothing(gateway: Gateway, endpoint: str, behind: bytes) -> None:
    """Of an odd framing, the upstream gets the request that it was for, framed anew, or nothing."""
    shot = good(gateway, endpoint)
    body = (behind or shot.body) + HIDDEN
    length = str(len(body)).encode()
    await fire(
        gateway,
        {
            name: unframed(shot) + lines.replace(b"{n}", length) + b"\r\n" + body
            for name, lines in FRAMINGS.items()
        },
    )


@pytest.mark.parametrize("endpoint", ["mint", "call", "key_form"])
async def test_chunks_hide_nothing(gateway: Gateway, endpoint: str) -> None:
    """A chunked body arrives upstream with a length and nothing but its content, or not at all."""
    shot = good(gateway, endpoint)
    head = unframed(shot) + CHUNKED + b"\r\n"
    await fire(
        gateway,
        {
            name: head + chunks % (len(shot.body), shot.body) + HIDDEN
            for name, chunks in CHUNKS.items()
        },
    )


async def test_body_too_long_is_no_request(gateway: Gateway) -> None:
    """What stands behind a body in the same packet is a request of its own, checked for itself."""
    for endpoint in ENDPOINTS[:-2]:
        shot = good(gateway, endpoint)
        async with Client(gateway.port) as client:
            await client.write(shot.to_bytes() + HIDDEN)
            answers = [await client.read(), await client.read()]
        check_all(gateway, answers)
        assert [answer.status for answer in answers] == [shot.status, 404]


async def test_pipeline_mixes_no_credentials(gateway: Gateway) -> None:
    """Of requests in one packet each stands for itself: no credential serves for its neighbours."""
    mine, none = good(gateway, "call"), replace(good(gateway, "call"), credential=None)
    unknown = replace(mine, credential="ek_unknown")
    row = [mine, none, good(gateway, "mint"), unknown, mine, none, mine]
    async with Client(gateway.port) as client:
        await client.write(b"".join(shot.to_bytes() for shot in row))
        answers = [await client.read() for _ in row]
    assert [answer.status for answer in answers] == [201, 401, 200, 401, 201, 401, 201]
    check_all(gateway, answers)
    assert len(gateway.received) == 4


async def test_what_is_no_request(gateway: Gateway) -> None:
    """Bytes that are no request are refused or hung up on, and nothing goes upstream."""
    await fire(gateway, NO_REQUESTS)
    assert gateway.received == []


async def test_downgrade_hides_nothing(gateway: Gateway) -> None:
    """What HTTP/2 carries and HTTP/1.1 would read otherwise is refused, or leaves framed anew."""
    shot = good(gateway, "call")

    async def status_of(lines: list[Header]) -> int:
        head = [(name.lower(), value) for name, value in [*shot.lines(), *lines]]
        try:
            return (await send_h2(gateway.port, "POST", CALLS, head, OFFER)).status
        except ResetError:
            return 400

    statuses = await asyncio.gather(*(status_of(lines) for lines in DOWNGRADES.values()))
    for name, status in zip(DOWNGRADES, statuses, strict=True):
        assert status == 201 or 400 <= status < 500, name
    check_all(gateway, [])


async def test_smuggling_would_be_noticed(gateway: Gateway) -> None:
    """The checks above fail on a hidden request: sent past the gateway, they find it."""
    async with Client(gateway.openai.port) as client:
        await client.write(request_bytes("POST", CALLS, [bearer(KEY)]) + HIDDEN)
        await client.read()
    with pytest.raises(AssertionError):
        check_all(gateway, [])
