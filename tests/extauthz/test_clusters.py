import json
import random
import ssl
import subprocess
from pathlib import Path
from typing import Any

import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3
import envoy_data_plane.envoy.extensions.upstreams.http.v3  # noqa: F401  what an Any may hold
import pytest
import trustme
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as Upstream

from envoyapi.config.cluster.v3.cluster_pb2 import Cluster
from extauthz.clusters import as_json, build_clusters, snapshot_of
from extauthz.deployments import Origin
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.http11 import Message, request_bytes, send
from helpers.recording import RecordingUpstream
from ringback.paths import find_envoy
from ringback.settings import UpstreamSettings

Json = dict[str, Any]

SETTINGS = UpstreamSettings(ca_file=Path("/etc/ssl/ca.pem"), connect_timeout_s=2.5)
OPENAI = Origin("https", "api.openai.com", 443)
AZURE = Origin("https", "res.openai.azure.com", 443)
EMULATOR = Origin("http", "127.0.0.1", 8080)


def cluster_of(origin: Origin) -> Json:
    """Return the cluster of an origin, read again from the bytes that CDS sends."""
    (resource,) = snapshot_of([origin], SETTINGS).resources
    cluster = Upstream.parse(resource)
    assert Cluster.FromString(bytes(cluster)) == Cluster.FromString(resource)
    return cluster.to_dict()


def plain_cluster(name: str, kind: str, host: str, port: int) -> Json:
    """Return what every cluster has, as JSON."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    address = {"socketAddress": {"address": host, "portValue": port}}
    endpoint = {"endpoint": {"address": address, "hostname": host}}
    # Of mints and calls, and of WebSockets.
    calls, websockets = (
        {"maxConnections": n, "maxPendingRequests": n, "maxRequests": n, "maxRetries": 0}
        for n in (192, 4096)
    )
    return {
        "name": name,
        "type": kind,
        "connectTimeout": "2.500s",
        "perConnectionBufferLimitBytes": 1048576,
        "loadAssignment": {"clusterName": name, "endpoints": [{"lbEndpoints": [endpoint]}]},
        "circuitBreakers": {"thresholds": [calls, {"priority": "HIGH", **websockets}]},
        "typedExtensionProtocolOptions": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "commonHttpProtocolOptions": {"idleTimeout": "50s"},
                "explicitHttpConfig": {"httpProtocolOptions": {}},
            }
        },
        "dnsLookupFamily": "ALL",
        "upstreamConnectionOptions": {
            "tcpKeepalive": {"keepaliveTime": 30, "keepaliveInterval": 10}
        },
    }


def tls_socket(san_type: str, san: str, sni: Json) -> Json:
    """Return the TLS socket of a cluster, as JSON."""
    matcher = {"sanType": san_type, "matcher": {"exact": san}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typedConfig": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "commonTlsContext": {
                "tlsParams": {"tlsMinimumProtocolVersion": "TLSv1_2"},
                "validationContext": {
                    "trustedCa": {"filename": "/etc/ssl/ca.pem"},
                    "matchTypedSubjectAltNames": [matcher],
                },
                "alpnProtocols": ["http/1.1"],
            },
            **sni,
        },
    }


@pytest.mark.parametrize(
    ("origin", "cluster"),
    [
        # Realistic
        pytest.param(
            EMULATOR,
            plain_cluster("upstream_http_127_0_0_1_8080", "STATIC", "127.0.0.1", 8080),
            id="emulator",
        ),
        # Synthetic
        pytest.param(
            Origin("http", "::1", 80),
            plain_cluster("upstream_http___1_80", "STATIC", "::1", 80),
            id="ipv6",
        ),
        pytest.param(
            Origin("http", "1.2.3.4.example", 80),
            plain_cluster("upstream_http_1_2_3_4_example_80", "LOGICAL_DNS", "1.2.3.4.example", 80),
            id="name-like-an-address",
        ),
    ],
)
def test_an_http_origin_is_a_plain_cluster(origin: Origin, cluster: Json) -> None:
    """A name is resolved, an address is not; no default of Envoy decides about limits."""
    assert cluster_of(origin) == cluster


@pytest.mark.parametrize(
    ("host", "name", "kind", "socket"),
    [
        # Realistic
        pytest.param(
            "api.openai.com",
            "upstream_https_api_openai_com_443",
            "LOGICAL_DNS",
            tls_socket("DNS", "api.openai.com", {"sni": "api.openai.com"}),
            id="name",
        ),
        # Synthetic
        pytest.param(
            "192.0.2.7",
            "upstream_https_192_0_2_7_443",
            "STATIC",
            tls_socket("IP_ADDRESS", "192.0.2.7", {}),
            id="ipv4",
        ),
        pytest.param(
            "2001:db8:0:0:0:0:0:1",
            "upstream_https_2001_db8_0_0_0_0_0_1_443",
            "STATIC",
            tls_socket("IP_ADDRESS", "2001:db8::1", {}),
            id="ipv6-in-full",
        ),
    ],
)
def test_an_https_origin_is_verified(host: str, name: str, kind: str, socket: Json) -> None:
    """The certificate must be of a known authority and of this host; TLS is 1.2 at least."""
    plain = plain_cluster(name, kind, host, 443)
    assert cluster_of(Origin("https", host, 443)) == plain | {"transportSocket": socket}


def test_clusters_are_sorted_and_occur_once() -> None:
    """The order of the configuration does not matter, nor how many deployments share an origin."""
    clusters = build_clusters([OPENAI, EMULATOR, AZURE, OPENAI], SETTINGS)
    assert [cluster.name for cluster in clusters] == [
        EMULATOR.cluster,
        OPENAI.cluster,
        AZURE.cluster,
    ]
    assert build_clusters([], SETTINGS) == []


def test_the_version_is_the_content() -> None:
    """Replicas agree on a version; it changes when a cluster does, and only then."""
    origins = [OPENAI, AZURE, EMULATOR]
    snapshot = snapshot_of(origins, SETTINGS)
    for _ in range(5):
        random.shuffle(origins)
        assert snapshot_of([*origins, OPENAI], SETTINGS) == snapshot
    others = [
        snapshot_of([], SETTINGS),
        snapshot_of([OPENAI, AZURE], SETTINGS),
        snapshot_of([OPENAI, AZURE, Origin("http", "127.0.0.1", 8081)], SETTINGS),
        snapshot_of(origins, SETTINGS.model_copy(update={"connect_timeout_s": 3})),
        snapshot_of(origins, SETTINGS.model_copy(update={"ca_file": Path("/other.pem")})),
    ]
    assert len({snapshot.version, *(other.version for other in others)}) == 6


@pytest.mark.dataplane
def test_envoy_accepts_them(tmp_path: Path) -> None:
    """The real Envoy accepts every kind of cluster, and refuses what it cannot use."""
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    settings = SETTINGS.model_copy(update={"ca_file": ca_file})
    origins = [
        OPENAI,
        EMULATOR,
        Origin("https", "2001:db8::1", 8443),
        Origin("https", "192.0.2.7", 443),
        Origin("http", "under_score.example", 80),
    ]
    accepted = validate(build_clusters(origins, settings), tmp_path)
    assert accepted.returncode == 0, accepted.stderr
    ca_file.write_text("no certificate")
    assert validate(build_clusters([OPENAI], settings), tmp_path).returncode != 0


def validate(clusters: list[Cluster], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Let the real Envoy check a bootstrap with these clusters."""
    parsed = [Upstream.parse(cluster.SerializeToString()) for cluster in clusters]
    bootstrap = Bootstrap(static_resources=BootstrapStaticResources(clusters=parsed))
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap.to_dict()))
    return subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", file],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.dataplane
async def test_certificates_are_checked(tmp_path: Path) -> None:
    """A certificate for the host or for all hosts of its domain opens a connection, no other."""
    ca, foreign = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = SETTINGS.model_copy(update={"ca_file": tmp_path / "ca.pem"})
    certificates = {
        "res.azure.test": ca.issue_cert("res.azure.test"),
        "wildcard.azure.test": ca.issue_cert("*.azure.test"),
        "other.azure.test": ca.issue_cert("res.azure.test"),
        "two.labels.azure.test": ca.issue_cert("*.azure.test"),
        "foreign.azure.test": foreign.issue_cert("foreign.azure.test"),
        "127.0.0.1": ca.issue_cert("127.0.0.1"),
    }
    upstreams = {}
    for host, certificate in certificates.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        upstreams[host] = RecordingUpstream(tls=context)
        await upstreams[host].start()
    try:
        origins = [Origin("https", host, up.port) for host, up in upstreams.items()]
        clusters = [on_loopback(cluster) for cluster in build_clusters(origins, settings)]
        async with EnvoyProcess(local_bootstrap(upstreams=clusters), tmp_path) as envoy:
            answers = [await ask(envoy, origin) for origin in origins]
    finally:
        for upstream in upstreams.values():
            await upstream.stop()
    reached = dict(zip(certificates, (answer.status for answer in answers), strict=True))
    assert reached == {
        "res.azure.test": 200,
        "wildcard.azure.test": 200,
        "other.azure.test": 503,
        "two.labels.azure.test": 503,
        "foreign.azure.test": 503,
        "127.0.0.1": 200,
    }
    assert {answer.header("x-ringback-egress") for answer in answers} == {None, "UF"}


def on_loopback(cluster: Cluster) -> Json:
    """Return a cluster whose name needs no resolver."""
    (locality,) = cluster.load_assignment.endpoints
    locality.lb_endpoints[0].endpoint.address.socket_address.address = "127.0.0.1"
    cluster.type = Cluster.STATIC
    return as_json(cluster)


async def ask(envoy: EnvoyProcess, origin: Origin) -> Message:
    """Send a request upstream as the service does."""
    headers = {"x-ringback-cluster": origin.cluster, "host": origin.authority}
    request = request_bytes("POST", "/v1/realtime/client_secrets", headers, b"{}")
    return await send(envoy.port("egress_http"), request, timeout_s=10)
