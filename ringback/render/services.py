"""How Envoy reaches services on other machines: their addresses, and certificates on both sides.

Envoy reads its certificate and the authorities by SDS from two small files, since it looks only at
those again when they change: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/security/secret
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ringback.addresses import parse_host_port
from ringback.contract import AUTHZ_CLUSTERS, PROC_CLUSTER
from ringback.errors import StartError
from ringback.settings import ServiceSettings
from ringback.settings.services import EnvoyTlsSettings

Json = dict[str, Any]

_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_CERTIFICATE: Final = "services_certificate"
_AUTHORITIES: Final = "services_authorities"


class PlaintextServicesError(StartError):
    """Envoy would ask services on other machines in the clear.

    Args:
        address: Of one of them.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return (
            f"{self.address} is another machine, and whoever answers there decides what passes: "
            "set services.envoy, or services.plaintext: true where a mesh does mTLS between them."
        )


def place_services(clusters: Sequence[Json], settings: ServiceSettings) -> None:
    """Let all clusters of both services lead to where the settings say, over TLS if they say so.

    Args:
        clusters: Those of a bootstrap; changed in place.
        settings: Without addresses or certificates they stay as they are.

    Raises:
        PlaintextServicesError: If what is asked would go to another machine in the clear.
    """
    places = dict.fromkeys(AUTHZ_CLUSTERS, settings.extauthz)
    places[PROC_CLUSTER] = settings.sdpfilter
    for cluster in clusters:
        addresses = places.get(cluster["name"])
        if addresses is None:
            continue
        if addresses:
            _place(cluster, addresses)
        if settings.envoy.is_on:
            cluster["transport_socket"] = transport_socket(settings.envoy)
        elif not settings.plaintext:
            _check_local(addresses)


def transport_socket(settings: EnvoyTlsSettings) -> Json:
    """Return what speaks TLS to a service and believes it by its SPIFFE id."""
    common = {
        # Both ends are ours. As a client Envoy goes no further than 1.2 unless told so.
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [_secret(_CERTIFICATE, settings)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": _matcher(peer)}
                    for peer in settings.allowed_peers
                ]
            },
            "validation_context_sds_secret_config": _secret(_AUTHORITIES, settings),
        },
    }
    context = {"@type": f"{_TLS}.UpstreamTlsContext", "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def secret_files(settings: EnvoyTlsSettings) -> Mapping[str, Json]:
    """Return the files, by name, that belong into `EnvoyTlsSettings.folder`; none without TLS."""
    if not settings.is_on:
        return {}
    pair = {
        "certificate_chain": {"filename": str(settings.certificate_file)},
        "private_key": {"filename": str(settings.key_file)},
    }
    authorities = {"trusted_ca": {"filename": str(settings.ca_file)}}
    return {
        f"{name}.yaml": {"resources": [{"@type": f"{_TLS}.Secret", "name": name, kind: content}]}
        for name, kind, content in (
            (_CERTIFICATE, "tls_certificate", pair),
            (_AUTHORITIES, "validation_context", authorities),
        )
    }


def _secret(name: str, settings: EnvoyTlsSettings) -> Json:
    path = str(settings.folder / f"{name}.yaml")
    source = {"path_config_source": {"path": path}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _matcher(peer: str) -> Json:
    return {"prefix": peer[:-1]} if peer.endswith("/*") else {"exact": peer}


def _place(cluster: Json, addresses: Sequence[str]) -> None:
    parsed = [parse_host_port(address) for address in addresses]
    if any(_address(host) is None for host, _ in parsed):
        # A name may stand for several replicas, each of which is an endpoint.
        cluster |= {"type": "STRICT_DNS", "dns_lookup_family": "V4_PREFERRED"}
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in parsed
    ]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]


def _check_local(addresses: Sequence[str]) -> None:
    for address in addresses:
        found = _address(parse_host_port(address)[0])
        if found is None or not found.is_loopback:
            raise PlaintextServicesError(address)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
