"""What only Envoy Gateway's data plane has; the rest of the suite runs through it where marked."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.apart import Apart, free_ports, server_tls
from helpers.dataplanes import OWN, DataPlane
from helpers.envoygateway import plane
from helpers.envoygateway.bootstrap import translate
from helpers.envoygateway.resources import Resources
from helpers.envoyproc import EnvoyProcess, local_changes, validate
from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import SDP_TYPE, CallerAt, Gateway, bearer
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.http11 import request_bytes, send
from helpers.manifests import read_manifests
from helpers.recording import RecordingUpstream
from helpers.svids import Authority, Identity
from ringback.render.inputs import load_inputs

pytestmark = pytest.mark.dataplane

MINT: Final = "/v1/realtime/client_secrets"
CALLS: Final = "/v1/realtime/calls"
ORIGIN_LINE: Final = ("origin", ORIGIN)
EXAMPLE: Final = Path(__file__).parents[2] / "deploy/envoy-gateway"
SERVICES: Final = ("extauthz", "sdpfilter")
# As `ringback render envoy-gateway` names them.
PEERS: Final = "spiffe://cluster.local/ns/ringback/sa/ringback-"


def secret(authority: Authority, *names: str) -> dict[str, str]:
    """Return the content of a Secret with a certificate."""
    chain, key = authority.issue(*names)
    content = {"tls.crt": chain, "tls.key": key, "ca.crt": authority.pem}
    return {name: pem.decode() for name, pem in content.items()}


def test_the_committed_manifests_make_a_configuration_of_envoys(tmp_path: Path) -> None:
    """Envoy takes what Envoy Gateway makes of the example, with TLS on all sides."""
    authority = Authority()
    manifests = [
        document
        for file in sorted(EXAMPLE.glob("*.yaml"))
        for document in read_manifests(file.read_text())
    ]
    resources = Resources(
        manifests,
        services={f"ringback-{service}": ["192.0.2.1:9001"] for service in SERVICES},
        secrets={
            "ringback-tls": secret(authority, "voice.example.com"),
            "ringback-gateway-tls": secret(authority, f"{PEERS}gateway"),
        },
    )
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(translate(resources)))

    result = validate(file)
    assert result.returncode == 0, result.stderr


@pytest.mark.asyncio(loop_scope="session")
async def test_envoy_and_the_services_believe_each_other_by_certificate(tmp_path: Path) -> None:
    """With the rendered certificates calls pass; with another name on one side nothing does."""
    authority, ports, files = Authority(), free_ports(), Files(tmp_path)
    identity = Identity(tmp_path / "services")
    identity.write(authority.issue(*(f"{PEERS}{service}" for service in SERVICES)), authority)
    async with RecordingUpstream() as upstream:
        files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
        files.write_keys()
        files.write_settings(
            cors_origins=[ORIGIN],
            upstream={"egress": "direct"},
            services={"tls": server_tls(identity, f"{PEERS}gateway")},
        )

        def envoy(name: str, **values: Any) -> EnvoyProcess:
            resources = Resources(
                plane.manifests(
                    load_inputs(files.config, files.settings, {}), plaintext=False, **values
                ),
                services={f"ringback-{s}": [f"127.0.0.1:{ports[s][0]}"] for s in SERVICES},
                secrets={"ringback-gateway-tls": secret(authority, name)},
            )
            folder = tmp_path / f"envoy-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return EnvoyProcess(plane.serve(resources, local_changes()), folder)

        async with Apart(files, tmp_path, ports):
            async with envoy(f"{PEERS}gateway") as process:
                caller = CallerAt(process.port(plane.LISTENER))
                await caller.until_ready()
                token = await caller.token()
                assert (await caller.call(token)).status == 201
            upstream.reset()
            # Another client, and services that are expected to be others.
            others = (
                envoy("spiffe://cluster.local/ns/ringback/sa/another-gateway"),
                envoy(f"{PEERS}gateway", trust_domain="elsewhere.example"),
            )
            for other in others:
                async with other as process:
                    caller = CallerAt(process.port(plane.LISTENER))
                    check_refusal(await caller.mint(), 503, "unavailable")
                    # sdpfilter, which is asked about every answer here, cannot be reached either.
                    assert (await caller.call(token)).status in {503, 504}
            assert upstream.received == []


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.dataplanes("envoy-gateway")
@pytest.mark.parametrize(
    ("request_", "own", "there"),
    [
        pytest.param(request_bytes("PUT", MINT, [ORIGIN_LINE]), 405, 404, id="another-method"),
        pytest.param(
            request_bytes("GET", "/v1/realtime", [ORIGIN_LINE]), 426, 404, id="no-upgrade"
        ),
        pytest.param(
            request_bytes("POST", CALLS, [ORIGIN_LINE, bearer(KEY), SDP_TYPE], b"v" * 70_000),
            413,
            400,
            id="large-offer",
        ),
        pytest.param(
            request_bytes("POST", MINT, [ORIGIN_LINE, ("x_y", "z")]), 400, 400, id="underscore"
        ),
    ],
)
async def test_refusals_that_have_another_status_or_form(
    gateway: Gateway, dataplane: DataPlane, request_: bytes, own: int, there: int
) -> None:
    """What docs/mesh/envoy-gateway.md says of refusals beside those that other tests meet."""
    answer = await send(gateway.port, request_)
    is_plain = dataplane != OWN and there == own
    assert answer.status == (own if dataplane == OWN else there)
    assert answer.header("content-type") == ("text/plain" if is_plain else "application/json")
    assert gateway.received == []
