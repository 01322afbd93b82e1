"""Descriptions that would like to cost a lot, or to lead somewhere else."""

import json
import re
from dataclasses import replace
from typing import Final

import pytest

from helpers.attacks import SESSION, good, shoot
from helpers.callforms import form, part
from helpers.gateway import OFFER, Gateway, until

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

HEAD, AUDIO, DATA = re.split(rb"(?m)^(?=m=)", OFFER)
MARK: Final = b"x-injected"


def fill(unit: bytes, total: int = 60_000) -> bytes:
    """Return as many of a unit as come near the limit of a body."""
    return unit * ((total - len(OFFER)) // len(unit))


def within(offer: bytes, line: bytes, other: bytes) -> bytes:
    """Return an offer with all lines that begin so replaced."""
    return re.sub(rb"(?m)^" + re.escape(line) + rb".*?(?=\r?$)", lambda _: other, offer)


BOMBS: Final[dict[str, bytes]] = {
    # Realistic: what is large in good faith
    "many-candidates": OFFER + fill(b"a=candidate:1 1 udp 1 203.0.113.1 9 typ host\r\n"),
    "many-sections": HEAD + AUDIO + fill(DATA),
    "many-codecs": HEAD + AUDIO + fill(b"a=rtpmap:96 opus/48000/2\r\n") + DATA,
    "many-parameters": HEAD + AUDIO + b"a=fmtp:111 " + fill(b"a=1;") + b"\r\n" + DATA,
    # Synthetic: one thing without end
    "empty": b"",
    "one-line": b"v=" + b"0" * 60_000,
    "line-ends": b"\r\n" * 30_000,
    "line-feeds": b"\n" * 60_000,
    "carriage-returns": b"\r" * 60_000,
    "nuls": b"\0" * 60_000,
    "spaces": b"v=0\r\no=-" + b" " * 60_000 + b"\r\n",
    "equals": b"=" * 60_000,
    "attributes": HEAD + AUDIO + fill(b"a=\r\n") + DATA,
    "attributes-of-the-session": HEAD + fill(b"a=x:y\r\n") + AUDIO + DATA,
    "long-attribute": HEAD + AUDIO + b"a=" + b"x" * 55_000 + b"\r\n" + DATA,
    "media-lines": HEAD + fill(b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"),
    "formats": within(OFFER, b"m=audio", b"m=audio 9 UDP/TLS/RTP/SAVPF" + b" 111" * 14_000),
    "group-of-thousands": within(OFFER, b"a=group:BUNDLE", b"a=group:BUNDLE" + b" 0" * 28_000),
    "groups": HEAD + fill(b"a=group:BUNDLE 0 1\r\n") + AUDIO + DATA,
    "fingerprints": HEAD + AUDIO + fill(b"a=fingerprint:sha-256 " + b"AA:" * 31 + b"AA\r\n") + DATA,
    "ufrag-of-thousands": within(OFFER, b"a=ice-ufrag:", b"a=ice-ufrag:" + b"u" * 25_000),
    "times": HEAD + fill(b"t=0 0\r\nr=1 1 0\r\n") + AUDIO + DATA,
    "crypto": HEAD + AUDIO + fill(b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n") + DATA,
    "mids": HEAD + fill(AUDIO.replace(b"a=mid:0", b"a=mid:0\r\na=mid:1")) + DATA,
    # Synthetic: what a number or a character can be
    "large-numbers": within(OFFER, b"o=", b"o=- " + b"9" * 25_000 + b" 2 IN IP4 127.0.0.1"),
    "large-port": within(OFFER, b"m=audio", b"m=audio 99999999999 UDP/TLS/RTP/SAVPF 111"),
    "minus-port": within(OFFER, b"m=audio", b"m=audio -1 UDP/TLS/RTP/SAVPF 111"),
    "many-ports": within(OFFER, b"m=audio", b"m=audio 9/4294967295 UDP/TLS/RTP/SAVPF 111"),
    "exponent": within(OFFER, b"m=audio", b"m=audio 1e9 UDP/TLS/RTP/SAVPF 111"),
    "other-digits": within(OFFER, b"m=audio", "m=audio \u0669 UDP/TLS/RTP/SAVPF 111".encode()),
    "no-utf-8": OFFER.replace(b"s=-", b"s=\xff\xfe\xc0\xaf"),
    "utf-16": OFFER.decode().encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf" + OFFER,
    "unicode-lines": OFFER.replace(b"s=-", "s=a\u2028a=x\u2029\u0085b".encode()),
    "vertical-tabs": OFFER.replace(b"s=-", b"s=a\x0bb=x\x0cc\x1cd"),
    "nul-inside": OFFER.replace(b"s=-", b"s=a\0b"),
    "cr-inside": OFFER.replace(b"s=-", b"s=a\rm=audio 9 x 0"),
    "bare-line-feeds": OFFER.replace(b"\r\n", b"\n"),
    "no-end": OFFER.rstrip(b"\r\n"),
    "two-descriptions": OFFER + OFFER,
    # Pathological: other languages
    "json": b'{"type":"offer","sdp":"v=0"}',
    "xml": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
    "gzip": bytes.fromhex("1f8b0800000000000203") + b"\xed\xc1\x01" * 9000,
    "http": b"POST /v1/smuggled HTTP/1.1\r\nhost: evil\r\n\r\n",
    "header": MARK + b": yes\r\n\r\n" + OFFER,
    "header-inside": OFFER.replace(b"s=-", b"s=-\r\n" + MARK + b": yes\r\n\r\n"),
}
WAYS: Final = ("call", "call_form", "key_call", "key_form")


def with_offer(endpoint: str, offer: bytes) -> bytes:
    """Return the body of a request that brings an offer."""
    if endpoint == "call_form":
        return form(part("sdp", offer, "application/sdp"))
    if endpoint == "key_form":
        session = part("session", json.dumps(SESSION).encode(), "application/json")
        return form(part("sdp", offer, "application/sdp"), session)
    return offer


@pytest.mark.parametrize("name", BOMBS)
async def test_descriptions_do_not_go_off(gateway: Gateway, name: str) -> None:
    """However an offer comes, a large or odd one is 4xx soon, or passes as what it is: SDP."""
    assert len(BOMBS[name]) <= 65_536
    for endpoint in WAYS:
        shot = good(gateway, endpoint)
        gateway.openai.received.clear()
        answer = await shoot(gateway, replace(shot, body=with_offer(endpoint, BOMBS[name])))
        assert answer.status == 201 or 400 <= answer.status < 500, (endpoint, answer.raw)
        calls = [request for request in gateway.received if request.target.endswith("/calls")]
        assert len(calls) == (answer.status == 201)
        for request in calls:
            assert request.body.startswith(b"v=0")
            assert MARK.decode() not in request.names


PLACES: Final = (
    # Realistic: the network of the operator, as a candidate that the provider would send to
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "fd00::1",
    "::1",
    "fe80::1",
    # Synthetic
    "::ffff:10.0.0.1",
    "0.0.0.0",
    "metadata.internal",
    "d3b07384-d9a0-4c9b-8f3e-1c2d3e4f5a6b.local",
    "0x0a000001",
    "167772161",
    "010.0.0.1",
)


@pytest.mark.parametrize("place", PLACES)
async def test_a_candidate_leads_nowhere_private(gateway: Gateway, place: str) -> None:
    """Where a candidate points into a private network, it or the offer stays here."""
    line = f"a=candidate:1 1 udp 2122260223 {place} 40000 typ host generation 0\r\n".encode()
    answer = await shoot(gateway, replace(good(gateway, "call"), body=HEAD + AUDIO + line + DATA))
    assert answer.status in {201, 400, 403}
    for request in gateway.received:
        assert line not in request.body
        assert f" {place} 40000".encode() not in request.body


async def test_no_line_of_an_offer_is_logged(gateway: Gateway) -> None:
    """Offers that are refused leave their reason in the log and nothing of their text."""
    ids = []
    for name in ("cr-inside", "header-inside", "large-port", "nul-inside", "no-utf-8"):
        answer = await shoot(gateway, replace(good(gateway, "call"), body=BOMBS[name]))
        ids.append(answer.header("x-request-id"))
    await until(lambda: {e.get("request_id") for e in gateway.access_log()} >= {*ids})
    for text in gateway.logs().values():
        assert "ciyZ" not in text
        assert MARK.decode() not in text
