"""Paths in every spelling: each means one endpoint in one spelling, or none at all."""

import asyncio
from dataclasses import replace
from typing import Final

import pytest

from helpers.attacks import (
    CALLS,
    ENDPOINTS,
    Shot,
    check_answer,
    check_received,
    check_unharmed,
    good,
    shoot,
)
from helpers.gateway import Gateway
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Message, send

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# Spellings of a path, as patterns of the good one: {p} is the path, {q} the query with its mark,
# {h} the path's first part and {t} the rest.
SAME: Final = {
    "as-it-is": "{p}{q}",
    "double-slash": "/{h}//{t}{q}",
    "many-slashes": "//////{h}///{t}{q}",
    "dot": "/./{h}/./{t}{q}",
    "dots": "/x/../{h}/{t}{q}",
    "dots-above-the-root-of-a-part": "/{h}/x/../{t}{q}",
    "escaped-dots": "/x/%2e%2e/{h}/{t}{q}",
    "escaped-dots-in-capitals": "/x/%2E%2E/{h}/%2E/{t}{q}",
    "half-escaped-dots": "/x/.%2e/{h}/{t}{q}",
    "dots-too-many": "/../..{p}{q}",
    # Envoy takes what stands behind a semicolon after two dots for a parameter, as some servers do.
    "dots-semicolon": "/x/..;/{h}/{t}{q}",
    "dots-parameter": "/{h}/..;x=y/{h}/{t}{q}",
    "absolute": "http://evil.example{p}{q}",
    "absolute-with-port": "http://evil.example:81{p}{q}",
    "escaped-letter": "/%{hex}{rest}{q}",
    "backslash": "/{h}\\{t}{q}",
    "backslash-dots": "/x\\..\\{h}/{t}{q}",
}
OTHER: Final = {
    # Realistic
    "slash-behind": "{p}/{q}",
    "upper-case": "{U}{q}",
    "prefix": "/api{p}{q}",
    "version": "/v2/{t}{q}",
    "index": "{p}/index.html{q}",
    # Synthetic
    "semicolon": "{p};jsessionid=1{q}",
    "semicolon-inside": "/{h};x/{t}{q}",
    "dot-semicolon": "/x/.;/{h}/{t}{q}",
    "three-dots-semicolon": "/x/...;/{h}/{t}{q}",
    "escaped-slash": "/{h}%2f{t}{q}",
    "escaped-slash-in-capitals": "/{h}%2F{t}{q}",
    "escaped-backslash": "/{h}%5c{t}{q}",
    "escaped-twice": "/{h}%252f{t}{q}",
    "escaped-dots-twice": "/x/%252e%252e/{h}/{t}{q}",
    "escaped-question": "{p}%3fmodel=voice",
    "escaped-hash": "{p}%23{q}",
    "escaped-space-behind": "{p}%20{q}",
    "escaped-nul": "{p}%00{q}",
    "escaped-nul-and-more": "{p}%00.json{q}",
    "escaped-crlf": "{p}%0d%0ax-injected:%20yes{q}",
    "escaped-tab": "{p}%09{q}",
    "escaped-utf8": "{p}%c3%a9{q}",
    "overlong-slash": "/{h}%c0%af{t}{q}",
    "overlong-dots": "/x/%c0%ae%c0%ae/{h}/{t}{q}",
    "full-width": "/%ef%bd%96{rest}{q}",
    "bad-escape": "{p}%zz{q}",
    "cut-escape": "{p}%",
    "percent-u": "/{h}%u002f{t}{q}",
    "fragment": "{p}{q}#x",
    "fragment-first": "/#/..{p}{q}",
    "comma": "{p},x{q}",
    "colon": "{p}:443{q}",
    "star": "{p}*{q}",
    "dots-behind": "{p}/..{q}",
    "dots-to-elsewhere": "/../../../../etc/passwd",
    "public-first": "/healthz/..{p}/x{q}",
    "ready-first": "/readyz{p}{q}",
    "control": "/v1/realtime/calls/../hangup{q}",
    # Pathological
    "no-slash": "{p1}{q}",
    "nothing": "",
    "star-form": "*",
    "authority-form": "evil.example:443",
    "authority-with-user": "http://{p1}@evil.example/{q}",
    "absolute-https": "https://evil.example{p}{q}",
    "other-scheme": "gopher://evil.example{p}{q}",
    "file-scheme": "file:///etc/passwd",
    "scheme-relative": "//evil.example{p}{q}",
    "absolute-without-path": "http://evil.example{q}",
    "absolute-twice": "http://evil.example/http://evil.example{p}{q}",
    "raw-nul": "{p}\0{q}",
    "raw-tab": "/{h}\t/{t}{q}",
    "raw-space": "{p} x{q}",
    "raw-latin-1": "{p}\xe9{q}",
    "raw-del": "{p}\x7f{q}",
    "raw-escape": "{p}\x1b[2J{q}",
    "raw-cr": "{p}\rx{q}",
    "raw-lf": "{p}\nx: y{q}",
    "long": "{p}/{long}{q}",
    "longer": "{p}/{longer}{q}",
    "many-dots": "{dots}{p}/x{q}",
    "many-parts": "{parts}{p}{q}",
}


def spell(shot: Shot, pattern: str) -> Shot:
    """Return a request whose target is spelled otherwise."""
    path, mark, query = shot.target.partition("?")
    first, _, rest = path[1:].partition("/")
    target = pattern.format(
        p=path,
        p1=path[1:],
        U=path.upper(),
        q=mark + query,
        h=first,
        t=rest,
        hex=f"{ord(path[1]):02x}",
        rest=path[2:],
        long="x" * 8000,
        longer="x" * 40000,
        dots="/.." * 3000,
        parts="/x" * 5000,
    )
    return replace(shot, target=target)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("name", SAME)
async def test_spelling_means_the_endpoint(gateway: Gateway, endpoint: str, name: str) -> None:
    """What normalises to a path is that path, and the upstream sees the one spelling of its own."""
    shot = good(gateway, endpoint)
    answer = await shoot(gateway, spell(shot, SAME[name]))
    assert answer.status == shot.status, answer.raw
    assert 1 <= len(gateway.received) <= 2


@pytest.mark.dataplanes(
    "istio",
    only=("escaped-slash-in-capitals", "escaped-twice", "fragment", "dots-behind", "public-first"),
)
@pytest.mark.parametrize("name", OTHER)
async def test_spelling_means_nothing(gateway: Gateway, name: str) -> None:
    """Every other spelling is refused at each endpoint, with all credentials there."""
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint)
        answer = await send(gateway.port, spell(shot, OTHER[name]).to_bytes(), timeout_s=5)
        check_answer(answer)
        assert answer.status >= 400, (endpoint, answer.raw)
    assert gateway.received == []


@pytest.mark.parametrize("endpoint", ["mint", "call", "key_form", "hangup"])
async def test_spelling_over_http2(gateway: Gateway, endpoint: str) -> None:
    """HTTP/2 knows the same paths, and no further ones."""
    shot = good(gateway, endpoint)
    for spellings, statuses in ((SAME, {shot.status}), (OTHER, {400, 401, 404, 405, 413, 431})):
        targets = [spell(shot, pattern).target for pattern in spellings.values()]
        # HTTP/2 has a path and no absolute form (RFC 9113 section 8.3.1).
        targets = [target for target in targets if not target.startswith("http")]
        answers = await asyncio.gather(*(_answer_of(gateway, shot, t) for t in targets))
        assert {answer.status for answer in answers if answer} <= statuses
        check_received(gateway)
        assert (gateway.received == []) is (spellings is OTHER)
        gateway.openai.received.clear()


async def _answer_of(gateway: Gateway, shot: Shot, target: str) -> Message | None:
    """Return the answer over HTTP/2, or None if the stream was reset instead."""
    lines = [(name.lower(), value) for name, value in shot.lines()]
    try:
        return await send_h2(gateway.port, shot.method, target, lines, shot.body)
    except ResetError:
        return None


async def test_odd_methods_are_refused(gateway: Gateway) -> None:
    """A method that is none, or is spelled otherwise, reaches no endpoint in either version."""
    for method in ("post", "Post", "POSTX", "P0ST", "PRI", "*", "LINK", "M-SEARCH"):
        for endpoint in ENDPOINTS:
            shot = replace(good(gateway, endpoint), method=method)
            answer = await send(gateway.port, shot.to_bytes(), timeout_s=5)
            check_answer(answer)
            assert answer.status >= 400
    shot = good(gateway, "call")
    odd = ("post", "LINK", "POST\r\nx: y", "POST /x HTTP/1.1\r\n", "", "P\0ST", 'P"OST', "\xe9")
    answers = await asyncio.gather(
        *(_answer_of(gateway, replace(shot, method=method), CALLS) for method in odd)
    )
    assert {answer.status for answer in answers if answer} <= {400, 404, 405}
    assert gateway.received == []


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:99999",
        "127.0.0.1:9901",
        "localhost, evil.example",
        "a@b",
        "ringback.example/x",
        "[::1]",
        "xn--",
        "a" * 5000,
        "host\x01",
    ],
)
async def test_host_decides_nothing(gateway: Gateway, host: str) -> None:
    """Whatever host a request names, it goes where its credential says, or nowhere."""
    for endpoint in ENDPOINTS:
        gateway.reset()
        shot = good(gateway, endpoint)
        answer = await shoot(gateway, shot.with_(("host", host)))
        assert answer.status == shot.status or 400 <= answer.status < 500, answer.raw
        for request in gateway.received:
            assert not host or host.encode() not in request.raw


async def test_unharmed_is_noticed_when_it_is_not(gateway: Gateway) -> None:
    """The check after each test fails if a request went upstream that is none of ours."""
    await check_unharmed(gateway)
    await send(gateway.openai.port, b"POST /v1/secrets HTTP/1.1\r\nhost: x\r\n\r\n")
    with pytest.raises(AssertionError):
        check_received(gateway)
