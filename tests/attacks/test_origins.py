"""Pages of other origins: no endpoint gives them anything to read."""

from typing import Final

import pytest

from helpers.attacks import ENDPOINTS, check_answer, check_received, good
from helpers.expect import ORIGIN
from helpers.gateway import Gateway
from helpers.http11 import Header, request_bytes, send

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

EVIL: Final = {
    # Realistic
    "another-site": "https://evil.example",
    "null": "null",
    "file": "file://",
    "extension": "chrome-extension://abcdefghijklmnop",
    "https-no-port": "https://localhost",
    "https": "https://localhost:3000",
    # Synthetic
    "longer-host": "http://localhost.evil.example:3000",
    "host-before": "http://evil-localhost:3000",
    "user": "http://localhost:3000@evil.example",
    "path": "http://localhost:3000/",
    "longer-port": "http://localhost:3000x",
    "two": "http://localhost:3000 https://evil.example",
    "comma": "http://localhost:3000,https://evil.example",
    "space-behind": "http://localhost:3000\x0b",
    "upper-case": "HTTP://LOCALHOST:3000",
    "dot-behind": "http://localhost.:3000",
    "address-6": "http://[::1]:3000",
    "address-number": "http://2130706433:3000",
    "address-short": "http://127.1:3000",
    "address-longer": "http://127.0.0.1.evil.example:3000",
    "any-for-dots": "http://127x0x0x1:3000",
    # Pathological
    "star": "*",
    "long": "http://localhost:" + "3" * 5000 + "x",
    "latin-1": "http://localhost:3000\xe9",
    "quote": 'http://localhost:3000"',
}

CONSENT: Final = {
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-private-network",
}


def with_origin(lines: list[Header], *origins: str) -> list[Header]:
    """Return headers with other origins."""
    return [*(line for line in lines if line[0] != "origin"), *(("origin", o) for o in origins)]


@pytest.mark.parametrize("name", EVIL)
async def test_other_origins_read_nothing(gateway: Gateway, name: str) -> None:
    """At every endpoint, with a credential and without, no consent is given; WebSockets fail."""
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint)
        for lines in (shot.lines(), list(shot.headers)):
            data = request_bytes(
                shot.method, shot.target, with_origin(lines, EVIL[name]), shot.body
            )
            answer = await send(gateway.port, data)
            check_answer(answer)
            assert not [n for n in answer.names if n.startswith("access-control-")], endpoint
            assert answer.status != 101
    check_received(gateway)
    assert not [request for request in gateway.received if request.method == "GET"]


@pytest.mark.parametrize("name", EVIL)
async def test_other_origins_get_no_preflight(gateway: Gateway, name: str) -> None:
    """No preflight of theirs is answered with consent, whatever it asks for."""
    for endpoint in ENDPOINTS:
        path = good(gateway, endpoint).path
        for method in ("POST", "GET", "DELETE", "*", "POST, GET"):
            lines = [
                ("origin", EVIL[name]),
                ("access-control-request-method", method),
                ("access-control-request-headers", "authorization, x-ringback-cluster"),
                ("access-control-request-private-network", "true"),
            ]
            answer = await send(gateway.port, request_bytes("OPTIONS", path, lines))
            assert answer.status in {200, 405, 400}
            # What may be sent is no secret; that they may send it is what is not said.
            assert not answer.names & CONSENT, answer.raw
    assert gateway.received == []


async def test_two_origins_are_none(gateway: Gateway) -> None:
    """A request with an allowed origin and another, in either order, is of neither."""
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint)
        for origins in ((ORIGIN, "https://evil.example"), ("https://evil.example", ORIGIN)):
            lines = with_origin(shot.lines(), *origins)
            answer = await send(
                gateway.port, request_bytes(shot.method, shot.target, lines, shot.body)
            )
            check_answer(answer)
            assert "evil" not in (answer.header("access-control-allow-origin") or "")
            assert answer.status != 101


async def test_allowed_origin_gets_no_more_than_it_needs(gateway: Gateway) -> None:
    """Consent names the origin itself, never all, and never credentials or private networks."""
    for endpoint in ENDPOINTS:
        lines = [
            ("origin", ORIGIN),
            ("access-control-request-method", "POST"),
            ("access-control-request-private-network", "true"),
        ]
        path = good(gateway, endpoint).path
        answer = await send(gateway.port, request_bytes("OPTIONS", path, lines))
        assert answer.header("access-control-allow-origin") == ORIGIN
        assert "access-control-allow-credentials" not in answer.names
        assert "access-control-allow-private-network" not in answer.names
        assert "x-ringback" not in (answer.header("access-control-allow-headers") or "")
