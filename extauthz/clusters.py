"""Envoy clusters, one for each upstream origin."""

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

from envoyapi.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoyapi.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoyapi.config.core.v3.address_pb2 import Address, SocketAddress, TcpKeepalive
from envoyapi.config.core.v3.base_pb2 import (
    DEFAULT,
    HIGH,
    DataSource,
    RoutingPriority,
    TransportSocket,
)
from envoyapi.config.core.v3.protocol_pb2 import Http1ProtocolOptions, HttpProtocolOptions
from envoyapi.config.endpoint.v3.endpoint_components_pb2 import (
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoyapi.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoyapi.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from envoyapi.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    UpstreamTlsContext,
)
from envoyapi.extensions.upstreams.http.v3 import http_protocol_options_pb2 as upstreams_http
from envoyapi.type.matcher.v3.string_pb2 import StringMatcher
from extauthz.deployments import Origin
from ringback.settings import UpstreamSettings

# A message as its JSON form: https://protobuf.dev/programming-guides/json/
Json = dict[str, object]

# Connections that nobody used for so long are closed by us: before the provider does it while a
# request is under way.
_IDLE_TIMEOUT_S: Final = 50
# Errors of a provider can be long; everything we read of an answer has far less.
_BUFFER_BYTES: Final = 1024 * 1024
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CLUSTER_TYPE_URL: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Clusters as CDS serves them.

    Attributes:
        version: Hash of the content: replicas with the same configuration agree on it.
        resources: Serialised ``envoy.config.cluster.v3.Cluster`` messages, sorted by name.
    """

    version: str
    resources: tuple[bytes, ...]


def snapshot_of(origins: Iterable[Origin], settings: UpstreamSettings) -> Snapshot:
    """Return what CDS serves for these origins."""
    clusters = build_clusters(origins, settings)
    resources = tuple(cluster.SerializeToString(deterministic=True) for cluster in clusters)
    digest = hashlib.sha256()
    for resource in resources:
        digest.update(len(resource).to_bytes(4, "big") + resource)
    return Snapshot(digest.hexdigest()[:16], resources)


def build_clusters(origins: Iterable[Origin], settings: UpstreamSettings) -> list[Cluster]:
    """Return a cluster for each origin, sorted by name.

    Args:
        origins: Where upstreams listen; repetitions are dropped.
        settings: Timeouts, limits and certificate authorities.
    """
    return [_build(origin, settings) for origin in sorted(set(origins), key=lambda o: o.cluster)]


def as_json(cluster: Cluster) -> Json:
    """Return a cluster in the JSON form that bootstraps have."""
    # Not MessageToDict: YAML has no form for its OrderedDict.
    written: Json = json.loads(MessageToJson(cluster, preserving_proto_field_name=True))
    return written


def _build(origin: Origin, settings: UpstreamSettings) -> Cluster:
    address = _parse_address(origin.host)
    return Cluster(
        name=origin.cluster,
        type=Cluster.STATIC if address else Cluster.LOGICAL_DNS,
        connect_timeout=_duration(settings.connect_timeout_s),
        # The caller already waits; a second address is tried while the first one is silent.
        dns_lookup_family=Cluster.ALL,
        per_connection_buffer_limit_bytes=UInt32Value(value=_BUFFER_BYTES),
        load_assignment=ClusterLoadAssignment(
            cluster_name=origin.cluster,
            endpoints=[LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=_endpoint(origin))])],
        ),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                _limits(DEFAULT, settings.max_requests),
                _limits(HIGH, settings.max_websockets),
            ]
        ),
        upstream_connection_options=UpstreamConnectionOptions(
            tcp_keepalive=TcpKeepalive(
                keepalive_time=UInt32Value(value=30), keepalive_interval=UInt32Value(value=10)
            )
        ),
        typed_extension_protocol_options={_HTTP_OPTIONS: _http_options()},
        transport_socket=_tls(origin, settings, address) if origin.scheme == "https" else None,
    )


def _limits(priority: RoutingPriority.ValueType, requests: int) -> CircuitBreakers.Thresholds:
    """Return the limits of one priority; WebSockets, which last, have the high one to themselves.

    What comes on top gets 503 at once instead of a place in a queue. However many WebSockets there
    are, mints and calls find a connection.
    """
    number = UInt32Value(value=requests)
    return CircuitBreakers.Thresholds(
        priority=priority,
        max_connections=number,
        max_pending_requests=number,
        max_requests=number,
        # A call is never sent twice.
        max_retries=UInt32Value(value=0),
    )


def _endpoint(origin: Origin) -> Endpoint:
    socket = SocketAddress(address=origin.host, port_value=origin.port)
    return Endpoint(address=Address(socket_address=socket), hostname=origin.host)


def _http_options() -> Any:
    return _packed(
        upstreams_http.HttpProtocolOptions(
            common_http_protocol_options=HttpProtocolOptions(
                idle_timeout=_duration(_IDLE_TIMEOUT_S)
            ),
            # HTTP/1.1: the sideband WebSocket of providers knows nothing else.
            explicit_http_config=upstreams_http.HttpProtocolOptions.ExplicitHttpConfig(
                http_protocol_options=Http1ProtocolOptions()
            ),
        )
    )


def _tls(origin: Origin, settings: UpstreamSettings, address: str | None) -> TransportSocket:
    # A name may match a wildcard of the certificate, an address only itself as Envoy writes it.
    san_type = SubjectAltNameMatcher.IP_ADDRESS if address else SubjectAltNameMatcher.DNS
    return TransportSocket(
        name="envoy.transport_sockets.tls",
        typed_config=_packed(
            UpstreamTlsContext(
                # RFC 6066 section 3: an address is no server name.
                sni="" if address else origin.host,
                common_tls_context=CommonTlsContext(
                    tls_params=TlsParameters(tls_minimum_protocol_version=TlsParameters.TLSv1_2),
                    alpn_protocols=["http/1.1"],
                    validation_context=CertificateValidationContext(
                        trusted_ca=DataSource(filename=str(settings.ca_file)),
                        match_typed_subject_alt_names=[
                            SubjectAltNameMatcher(
                                san_type=san_type,
                                matcher=StringMatcher(exact=address or origin.host),
                            )
                        ],
                    ),
                ),
            )
        ),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _parse_address(host: str) -> str | None:
    """Return an address in its canonical form, None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
