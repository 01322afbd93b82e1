import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer, until
from helpers.gatewayfiles import AZURE_KEY, KEY, KEYS, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET
from helpers.http11 import Message, request_bytes, send
from helpers.secretscan import find_secrets
from ringback.envoylint.parts import manager

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

ALWAYS: Final = {
    "time",
    "listener",
    "request_id",
    "method",
    "protocol",
    "route",
    "status",
    "details",
    "flags",
    "duration_ms",
    "bytes_received",
    "bytes_sent",
}
DECIDED: Final = {"outcome", "cluster"}
CALLER: Final = {"key_alias", "team", "user"}
CALL: Final = {"model", "deployment", "token_id"}
# What nobody but the caller and the provider should know of the noisy request below.
PRIVATE: Final = ("private-query", "private-cookie", "private-agent", "203.0.113.9")


async def entry_of(gateway: Gateway, answer: Message) -> dict[str, Any]:
    """Return the line that Envoy wrote about a request."""
    return await gateway.logged(str(answer.header("x-request-id")))


async def test_mint_is_one_line(gateway: Gateway) -> None:
    """A mint's line names who asked and what was given, and the token by its id."""
    entry = await entry_of(gateway, await gateway.mint())
    assert entry.keys() == ALWAYS | DECIDED | CALLER | CALL
    assert (entry["route"], entry["outcome"], entry["status"]) == ("client_secrets", "minted", 200)
    assert (entry["key_alias"], entry["team"], entry["user"]) == ("web-team", "web", "ada")
    assert (entry["model"], entry["deployment"]) == ("voice", "voice-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    assert type(entry["duration_ms"]) is int


async def test_call_is_one_line(gateway: Gateway) -> None:
    """A call's line names the same token, the upstream's cluster and its time."""
    minted = await gateway.mint("voice-azure")
    called = await gateway.call(minted.json()["value"])
    entry = await entry_of(gateway, called)
    assert entry.keys() - {"offer_edits", "answer_edits"} == (
        ALWAYS | DECIDED | CALLER | CALL | {"upstream_ms"}
    )
    assert (entry["route"], entry["outcome"], entry["status"]) == ("upstream", "call", 201)
    assert entry["cluster"] == f"upstream_https_localhost_{gateway.azure.port}"
    assert entry["bytes_received"] == len(OFFER)
    assert entry["token_id"] == (await entry_of(gateway, minted))["token_id"]


async def test_refusals_are_one_line_each(gateway: Gateway) -> None:
    """A refusal's line says which one it was, and of a known key whose."""
    unknown = await entry_of(gateway, await gateway.mint(key="sk-unknown"))
    assert unknown.keys() == ALWAYS | DECIDED
    assert unknown["outcome"] == "key_unknown"
    denied = await entry_of(gateway, await gateway.mint(key="sk-key-for-azure-alone"))
    assert (denied["outcome"], denied["key_alias"]) == ("model_denied", "azure-only")
    bad = await entry_of(gateway, await gateway.call(await gateway.token(), offer=b"v=1"))
    assert (bad["outcome"], bad["sdp_outcome"]) == ("call", "sdp_invalid_line")
    lost = await entry_of(gateway, await gateway.post("/nothing", [], b""))
    assert (lost["route"], lost["details"]) == ("not_found", "fault_filter_abort")


async def test_every_request_is_one_line(gateway: Gateway) -> None:
    """Each request leaves one line of the listener that it came to."""
    before = len(gateway.access_log()), len(gateway.access_log("egress_http"))
    minted = await gateway.mint()
    for answer in [minted, await gateway.call("ek_x"), await gateway.post("/nothing", [], b"")]:
        await entry_of(gateway, answer)
    await until(lambda: len(gateway.access_log("egress_http")) == before[1] + 1)
    assert len(gateway.access_log()) == before[0] + 3
    egress = gateway.access_log("egress_http")[-1]
    assert egress.keys() == {
        *("time", "listener", "method", "status", "details", "flags", "cluster"),
        *("duration_ms", "upstream_ms"),
    }


async def test_no_log_tells_a_secret(gateway: Gateway) -> None:
    """After requests full of secrets, good and bad, no process has written any of them.

    The same look is taken at the logs of all tests when the gateway ends.
    """
    noise = [("cookie", "private-cookie"), ("user-agent", "private-agent"), SDP_TYPE]
    noise.append(("x-forwarded-for", "203.0.113.9"))
    token = await gateway.token()
    target = "/v1/realtime/calls?private-query=1"
    for credential in (token, token[:-3], KEY, "sk-key-that-is-blocked"):
        for offer in (OFFER, OFFER.replace(b"m=audio", b"m=video"), OFFER[:900]):
            last = await gateway.post(target, [bearer(credential), *noise], offer)
    await gateway.mint(key="sk-unknown-but-secret")
    await entry_of(gateway, last)
    for name, text in gateway.logs().items():
        assert text, name
        assert find_secrets(text, *PRIVATE, *KEYS, MASTER_KEY, TOKEN_SECRET, token) == set(), name


@pytest.mark.parametrize(
    "text",
    [
        # Realistic
        *(pytest.param(key, id=f"key-{key[3:]}") for key in KEYS),
        pytest.param(f"api_key={OPENAI_KEY}", id="standard-key"),
        pytest.param('{"authorization": "Bearer x"}', id="header"),
        pytest.param("value: ek_68af296e8e408191a1120ab6383263c2", id="ephemeral-key"),
        pytest.param("Location: /v1/realtime/calls/rtc_u1_9c6574da", id="call-id"),
        pytest.param("/v1/realtime/calls?model=voice", id="query"),
        pytest.param("from 203.0.113.9", id="address"),
        pytest.param('"downstream": "10.1.2.3:4567"', id="address-and-port"),
        *(pytest.param(sdp.decode(), id=name) for name, sdp in (OFFERS | ANSWERS).items()),
        *(
            pytest.param(line, id=f"line-{number}")
            for number, line in enumerate(OFFER.decode().splitlines())
            if re.match(r"[vomc]=|a=(ice-[up]|finger|setup|mid)", line)
        ),
    ],
)
async def test_secrets_would_be_found(text: str) -> None:
    """The look at the logs sees each kind of secret if it is there."""
    assert find_secrets(text)
    assert find_secrets(json.dumps({"message": text}))


async def test_careless_access_log_would_be_found(gateway: Gateway, tmp_path: Path) -> None:
    """With a format that logs a header, a path or an address, the same look finds them."""
    nobody = {"extauthz": ["127.0.0.1:9"], "sdpfilter": ["127.0.0.1:9"]}
    bootstrap = local_bootstrap(endpoints=nobody, upstreams=[])
    (log,) = manager(bootstrap)["access_log"]
    careless = {
        "key": "%REQ(AUTHORIZATION)%",
        "path": "%REQ(:PATH)%",
        "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
    }
    log["typed_config"]["log_format"]["json_format"].update(careless)
    async with EnvoyProcess(bootstrap, tmp_path) as envoy:
        lines = [bearer(await gateway.token()), SDP_TYPE]
        data = request_bytes("POST", "/v1/realtime/calls?private-query=1", lines, OFFER)
        await send(envoy.port("ingress_http"), data)
        await until(lambda: "private-query" in envoy.log)
        (line,) = [line for line in envoy.log.splitlines() if line.startswith("{")]
    assert find_secrets(line) == {
        *("ephemeral key, token or call id", "credential", "address", "query string"),
    }
    assert AZURE_KEY not in line
