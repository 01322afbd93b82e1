"""No secret is shown: in no log, metric, trace, error or dump, and on no command line.

One run of requests, good and bad, by every endpoint; then everything that anybody can read of it.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pytest
import pytest_asyncio

from helpers.attacks import CALLS, ENDPOINTS, MINT, good
from helpers.collector import Collector
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer, until
from helpers.gatewayfiles import KEY, MASTER_KEY, TOKEN_SECRET, Files, openai_entry
from helpers.http11 import Client, Message, read_message, request_bytes, send
from helpers.processes import command_line, ports_of, with_children
from helpers.recording import SDP, SDP_ANSWER, RecordingUpstream, Reply, error_reply
from helpers.secretcheck import ShownSecretError, check_shows_none
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# An address of this machine that nothing else here has.
CLIENT: Final = "127.9.8.7"
FORWARDED_FOR: Final = "203.0.113.77"
CANDIDATE: Final = "198.51.100.23"
UFRAG: Final = "Ufrag0fThisTest"
PASSWORD: Final = "Passw0rdOfIceInThisTest0"
FINGERPRINT: Final = ":".join(f"{byte:02X}" for byte in secrets.token_bytes(32))
EPHEMERAL: Final = "ek_upstream_of_this_test_68af296e8e40"
PROVIDER_KEY: Final = "sk-upstream-mounted-in-a-file"
NEXT_PROVIDER_KEY: Final = "sk-upstream-of-the-next-week"
CALL_ID: Final = "rtc_of_this_test_u2_b1946ac92492"
QUERY: Final = "a-query-of-this-test"
# What Envoy has to tell at its admin interface.
DUMPS: Final = (
    "/config_dump?include_eds",
    "/clusters",
    "/listeners",
    "/stats",
    "/stats/prometheus",
    "/server_info",
    "/certs",
    "/runtime",
    "/memory",
    "/contention",
    "/hot_restart_version",
)
OFFER_OF_OURS: Final = (
    OFFER.replace(b"ciyZ", UFRAG.encode())
    .replace(b"glRt8Fil7+T8Fm5MtEN1jnoa", PASSWORD.encode())
    .replace(OFFER.partition(b"fingerprint:sha-256 ")[2][:95], FINGERPRINT.encode())
    .replace(
        b"a=mid:0\r\n",
        f"a=mid:0\r\na=candidate:1 1 udp 1 {CANDIDATE} 40000 typ srflx raddr 0.0.0.0 rport 0\r\n"
        "".encode(),
    )
)


@dataclass(slots=True)
class Run:
    """What a run of requests has left behind.

    Attributes:
        secrets: By what they are.
        shown: By where it was found, what anybody can read.
        errors: Answers with a status of 4xx or 5xx.
    """

    gateway: Gateway
    secrets: dict[str, str]
    shown: dict[str, str]
    errors: list[Message]


async def shoot_from(port: int, data: bytes) -> Message:
    """Send a request from the client's address."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(CLIENT, 0), limit=256 * 1024
    )
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await read_message(reader, is_answer=True)
    finally:
        writer.transport.abort()


async def send_everything(gateway: Gateway, token: str) -> list[Message]:
    """Send requests to each endpoint, good and spoiled in each way, and return all errors."""
    forwarded = ("x-forwarded-for", FORWARDED_FOR)
    cookie = ("cookie", f"session={KEY}")
    shots = []
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint).with_(forwarded, cookie)
        body = shot.body.replace(OFFER, OFFER_OF_OURS)
        target = f"{shot.target}{'&' if '?' in shot.target else '?'}x={QUERY}"
        shot = replace(shot, body=body, target=target)
        if endpoint.startswith("call"):
            shot = replace(shot, credential=token)
        shots += [
            shot,
            replace(shot, credential=token[:-5] + "AAAAA"),
            replace(shot, credential=f"{KEY}, {MASTER_KEY}"),
            replace(shot, target=f"{shot.path}/nowhere?x={QUERY}"),
            replace(shot, method="PATCH"),
            replace(shot, body=body.replace(b"UDP", b"TCP")[:-9] + b"\0"),
            shot.with_(*[(f"x-{n}", KEY) for n in range(70)]),
            replace(shot, body=OFFER_OF_OURS * 40),
        ]
    answers = [await shoot_from(gateway.port, shot.to_bytes()) for shot in shots]
    # A provider that quotes what it was sent, and one that answers what is no SDP.
    quoting = f"Incorrect API key {PROVIDER_KEY} for {EPHEMERAL}: {OFFER_OF_OURS.decode()}"
    for status in (400, 401, 403, 404, 429, 500):
        reply = error_reply(status, {"message": quoting, "type": "x", "code": "y", "param": None})
        gateway.openai.script |= {"client_secrets": reply, "calls": reply, "hangup": reply}
        lines = [bearer(token), SDP_TYPE, forwarded]
        for data in (
            good(gateway, "mint").to_bytes(),
            good(gateway, "key_call").to_bytes(),
            good(gateway, "hangup").to_bytes(),
            request_bytes("POST", CALLS, lines, OFFER_OF_OURS),
        ):
            answers.append(await shoot_from(gateway.port, data))  # noqa: PERF401  reads better
    gateway.openai.script["calls"] = Reply(201, (SDP,), SDP_ANSWER.replace(b"a=", b"b="))
    data = request_bytes("POST", CALLS, [bearer(token), SDP_TYPE], OFFER_OF_OURS)
    answers.append(await shoot_from(gateway.port, data))
    return [answer for answer in answers if answer.status >= 400]


async def collect(gateway: Gateway, collector: Collector, last: str) -> dict[str, str]:
    """Return all that can be read of a gateway from outside and inside, at its defaults.

    Args:
        gateway: The gateway.
        collector: Of its traces.
        last: The id of the last request, whose trace has everything before it.
    """
    shown = {f"log of {name}": text for name, text in gateway.logs().items()}
    wanted = {"ingress_http", "extauthz.check", "sdpfilter.process"}
    await until(
        lambda: wanted <= {span.name for span in collector.spans()} and last in collector.text()
    )
    shown["traces"] = collector.text()
    for name in ("extauthz-0", "sdpfilter-0"):
        (port,) = ports_of(gateway.stack.pid_of(name))
        scraped = await send(port, request_bytes("GET", "/metrics"))
        assert b"python_info" in scraped.body
        shown[f"metrics of {name}"] = scraped.body.decode()
    admin = int(gateway.stack.admin_url.rpartition(":")[2])
    for path in DUMPS:
        dumped = await send(admin, request_bytes("GET", path))
        assert dumped.status == 200, path
        shown[f"admin {path}"] = dumped.body.decode()
    return shown


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    """One run, from the start of the gateway on."""
    files = Files(tmp_path_factory.mktemp("secrets"))
    provider_key = files.folder / "provider-key"
    provider_key.write_text(f"{PROVIDER_KEY}\n")
    async with (
        Collector() as collector,
        RecordingUpstream() as openai,
        RecordingUpstream() as unused,
    ):
        entry = openai_entry("voice", f"{openai.url()}/v1")
        entry["litellm_params"]["api_key"] = "os.environ/PROVIDER_KEY"
        files.write_config([entry])
        files.write_keys()
        files.write_settings(
            metrics_address="127.0.0.1:0",
            tracing={"endpoint": collector.url, "sample_ratio": 1},
        )
        environ = {"PROVIDER_KEY_FILE": str(provider_key)}
        async with Stack(replace(files.options(), environ=environ)) as stack:
            gateway = Gateway(stack, files, openai, unused)
            minted = json.dumps({"value": EPHEMERAL, "expires_at": 4_102_444_800})
            openai.script["client_secrets"] = Reply(200, (), minted.encode())
            location = ("Location", f"/v1/realtime/calls/{CALL_ID}")
            openai.script["calls"] = Reply(201, (SDP, location), SDP_ANSWER)
            token = await gateway.token()
            handle = str((await gateway.call(token)).header("location")).rpartition("/")[2]
            errors = await send_everything(gateway, token)
            last = await gateway.post(MINT, [], b"")
            last_id = last.header("x-request-id") or ""
            await gateway.logged(last_id)
            found = {
                "virtual key": KEY,
                "master key": MASTER_KEY,
                "provider's key": PROVIDER_KEY,
                "sealing secret": TOKEN_SECRET,
                "ephemeral key": EPHEMERAL,
                "token": token,
                "handle": handle,
                "provider's call id": CALL_ID,
                "ufrag": UFRAG,
                "pwd": PASSWORD,
                "fingerprint": FINGERPRINT,
                "ufrag of the answer": _of_answer("ice-ufrag:"),
                "pwd of the answer": _of_answer("ice-pwd:"),
                "fingerprint of the answer": _of_answer("fingerprint:sha-256 "),
                "client address": CLIENT,
                "forwarded address": FORWARDED_FOR,
                "candidate": CANDIDATE,
                "query": QUERY,
            }
            yield Run(gateway, found, await collect(gateway, collector, last_id), errors)


def _of_answer(name: str) -> str:
    return SDP_ANSWER.decode().partition(name)[2].partition("\r\n")[0]


def check(shown: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Check that nothing that is shown holds a secret.

    Raises:
        ShownSecretError: If it does; says where.
    """
    for place, text in shown.items():
        try:
            check_shows_none(text, found.values())
        except ShownSecretError as error:
            raise ShownSecretError(f"{place}: {error}") from None


async def test_nothing_shows_a_secret(run: Run) -> None:
    """No log, metric, trace or dump of Envoy's admin interface holds a key, SDP or an address."""
    check(run.shown, run.secrets)
    for place, text in run.shown.items():
        if place.startswith("log of"):
            assert find_secrets(text) == set(), place
    assert "provider_key" not in run.shown["log of extauthz-0"]


async def test_no_error_shows_a_secret(run: Run) -> None:
    """Neither do errors, heads and all: not even the caller's own credential comes back."""
    assert len(run.errors) > 50
    assert {error.status for error in run.errors} >= {400, 401, 404, 405, 413, 431, 502}
    for error in run.errors:
        check({f"{error.status}": error.raw.decode("latin-1")}, run.secrets)


@pytest.mark.parametrize("form", ["plain", "as JSON", "in a URL", "in base64", "in hex"])
async def test_the_check_finds_each_secret_everywhere(run: Run, form: str) -> None:
    """Planted in any log, metric or dump, in any form, each of them is found."""
    from helpers.secretcheck import _disguises  # noqa: PLC0415  white-box

    for what, secret in run.secrets.items():
        disguised = _disguises(secret)[form]
        for place, text in run.shown.items():
            middle = len(text) // 2
            planted = text[:middle] + disguised + text[middle:]
            with pytest.raises(ShownSecretError):
                check({place: planted}, {what: secret})


async def test_a_log_that_tells_too_much_is_found(run: Run) -> None:
    """Envoy's log at debug level holds keys, tokens and addresses, and the check finds them."""
    admin = int(run.gateway.stack.admin_url.rpartition(":")[2])
    token = run.secrets["token"]
    before = len(run.gateway.stack.logs("envoy"))
    await send(admin, request_bytes("POST", "/logging?level=debug"))
    try:
        for credential in (KEY, token):
            data = request_bytes("POST", CALLS, [bearer(credential), SDP_TYPE], OFFER_OF_OURS)
            await shoot_from(run.gateway.port, data)
        await until(lambda: token in run.gateway.stack.logs("envoy"))
    finally:
        await send(admin, request_bytes("POST", "/logging?level=warning"))
    told = {"debug log": run.gateway.stack.logs("envoy")[before:]}
    for what in ("virtual key", "token", "client address"):
        with pytest.raises(ShownSecretError, match="debug log"):
            check(told, {what: run.secrets[what]})


async def test_no_command_line_shows_a_secret(run: Run) -> None:
    """Of all processes of the gateway, and of those that they start, everybody may see this."""
    stack = run.gateway.stack
    pids = with_children(stack.pid_of(name) for name in stack.supervisor.names)
    assert len(pids) >= 3
    check({f"process {pid}": command_line(pid) for pid in pids}, run.secrets)
    shell = [sys.executable, "-c", "input()", KEY]
    with subprocess.Popen(shell, stdin=subprocess.PIPE) as careless:  # noqa: ASYNC220  it sleeps
        seen = {str(pid): command_line(pid) for pid in with_children([os.getpid()])}
        with pytest.raises(ShownSecretError):
            check(seen, {"virtual key": KEY})
        careless.communicate(b"\n")


async def test_a_mounted_key_changes_without_a_restart(run: Run) -> None:
    """The provider gets the new key soon after the file has changed; no request fails meanwhile."""
    gateway = run.gateway
    gateway.reset()
    assert (await gateway.mint()).status == 200
    assert gateway.received[0].header("authorization") == f"Bearer {PROVIDER_KEY}"
    temporary = gateway.files.folder / "new"
    temporary.write_text(NEXT_PROVIDER_KEY)
    temporary.replace(gateway.files.folder / "provider-key")
    async with asyncio.timeout(30), Client(gateway.port):
        while gateway.received[-1].header("authorization") != f"Bearer {NEXT_PROVIDER_KEY}":
            assert (await gateway.mint()).status == 200
