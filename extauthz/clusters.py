"""Envoy clusters, one for each upstream origin."""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from betterproto2 import Message
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    Http1ProtocolOptions,
    HttpProtocolOptions,
    RoutingPriority,
    SocketAddress,
    TcpKeepalive,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from extauthz.deployments import Origin
from ringback.settings import UpstreamSettings

# WebSockets of one upstream; beyond it callers get 503 at once instead of a place in a queue.
_MAX_WEBSOCKETS: Final = 1024
# Connections that nobody used for so long are closed by us: before the provider does it while a
# request is under way.
_IDLE_TIMEOUT: Final = timedelta(seconds=50)
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
    resources = tuple(bytes(cluster) for cluster in build_clusters(origins, settings))
    digest = hashlib.sha256()
    for resource in resources:
        digest.update(len(resource).to_bytes(4, "big") + resource)
    return Snapshot(digest.hexdigest()[:16], resources)


def build_clusters(origins: Iterable[Origin], settings: UpstreamSettings) -> list[Cluster]:
    """Return a cluster for each origin, sorted by name.

    Args:
        origins: Where upstreams listen; repetitions are dropped.
        settings: Timeouts and certificate authorities.
    """
    return [_build(origin, settings) for origin in sorted(set(origins), key=lambda o: o.cluster)]


def _build(origin: Origin, settings: UpstreamSettings) -> Cluster:
    address = _parse_address(origin.host)
    return Cluster(
        name=origin.cluster,
        type=ClusterDiscoveryType.STATIC if address else ClusterDiscoveryType.LOGICAL_DNS,
        connect_timeout=timedelta(seconds=settings.connect_timeout_s),
        # The caller already waits; a second address is tried while the first one is silent.
        dns_lookup_family=ClusterDnsLookupFamily.ALL,
        per_connection_buffer_limit_bytes=_BUFFER_BYTES,
        load_assignment=ClusterLoadAssignment(
            cluster_name=origin.cluster,
            endpoints=[LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=_endpoint(origin))])],
        ),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                _limits(RoutingPriority.DEFAULT, settings.max_requests),
                _limits(RoutingPriority.HIGH, _MAX_WEBSOCKETS),
            ]
        ),
        upstream_connection_options=UpstreamConnectionOptions(
            tcp_keepalive=TcpKeepalive(keepalive_time=30, keepalive_interval=10)
        ),
        typed_extension_protocol_options={_HTTP_OPTIONS: _http_options()},
        transport_socket=_tls(origin, settings, address) if origin.scheme == "https" else None,
    )


def _limits(priority: RoutingPriority, requests: int) -> CircuitBreakersThresholds:
    """Return the limits of one priority; WebSockets, which last, have the high one to themselves.

    However many there are, mints and calls find a connection.
    """
    return CircuitBreakersThresholds(
        priority=priority,
        max_connections=requests,
        max_pending_requests=requests,
        max_requests=requests,
        # A call is never sent twice.
        max_retries=0,
    )


def _endpoint(origin: Origin) -> Endpoint:
    socket = SocketAddress(address=origin.host, port_value=origin.port)
    return Endpoint(address=Address(socket_address=socket), hostname=origin.host)


def _http_options() -> Any:
    return _packed(
        UpstreamHttpProtocolOptions(
            common_http_protocol_options=HttpProtocolOptions(idle_timeout=_IDLE_TIMEOUT),
            # HTTP/1.1: the sideband WebSocket of providers knows nothing else.
            explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
                http_protocol_options=Http1ProtocolOptions()
            ),
        )
    )


def _tls(origin: Origin, settings: UpstreamSettings, address: str | None) -> TransportSocket:
    # A name may match a wildcard of the certificate, an address only itself as Envoy writes it.
    san_type = (
        SubjectAltNameMatcherSanType.IP_ADDRESS if address else SubjectAltNameMatcherSanType.DNS
    )
    return TransportSocket(
        name="envoy.transport_sockets.tls",
        typed_config=_packed(
            UpstreamTlsContext(
                # RFC 6066 section 3: an address is no server name.
                sni="" if address else origin.host,
                common_tls_context=CommonTlsContext(
                    tls_params=TlsParameters(
                        tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2
                    ),
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


def _packed(message: Message) -> Any:
    return Any.pack(message)


def _parse_address(host: str) -> str | None:
    """Return an address in its canonical form, None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
