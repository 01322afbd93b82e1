"""How the mesh reaches upstreams: what they are called in it, and the resources that say so."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extauthz.deployments import Origin
from extauthz.egressway import mesh_port
from ringback.errors import StartError
from ringback.render.documents import Document
from ringback.render.inputs import Upstream
from ringback.settings import UpstreamSettings

Json = dict[str, Any]


class PortConflictError(StartError):
    """Two origins of one host that a mesh cannot tell apart.

    Args:
        one: An origin.
        other: The other one.
        port: What both would have.
    """

    def __init__(self, one: Origin, other: Origin, port: int) -> None:
        self.one, self.other, self.port = one, other, port

    def __str__(self) -> str:
        return (
            f"{self.one} and {self.other} are both port {self.port} of one host in the mesh. "
            "Set upstream.mesh_port to a port that neither of them has."
        )


@dataclass(frozen=True, slots=True)
class MeshUpstream:
    """An upstream as Istio knows it.

    Attributes:
        upstream: Where it really is.
        host: Its name in Istio's registry.
        port: Its port there, at which the mesh takes plain HTTP.
        is_service: Whether the registry has it already, because it is a Service of Kubernetes.
    """

    upstream: Upstream
    host: str
    port: int
    is_service: bool

    @property
    def destination(self) -> Json:
        """What a route of a VirtualService names."""
        return {"host": self.host, "port": {"number": self.port}}

    @property
    def names(self) -> list[str]:
        """What a request's ``Host`` may say."""
        return [self.host]


def in_mesh(
    upstreams: Iterable[Upstream], settings: UpstreamSettings, namespace: str, domain: str
) -> list[MeshUpstream]:
    """Return upstreams as Istio knows them, in the order given.

    Args:
        upstreams: Where requests go.
        settings: With the port that stands for 443.
        namespace: In which extauthz looks for a Service by its bare name.
        domain: Of the cluster: ``cluster.local``.

    Raises:
        PortConflictError: If two cannot be told apart.
    """
    found = []
    taken: dict[tuple[str, int], Origin] = {}
    for upstream in upstreams:
        origin = upstream.origin
        service = _service_host(origin.host, namespace, domain)
        port = origin.port if service else mesh_port(origin, settings)
        if upstream.is_address:
            # The registry takes names only.
            host = f"{upstream.name}.ringback.internal"
        else:
            host = service or origin.host
        if other := taken.get((host, port)):
            raise PortConflictError(other, origin, port)
        taken[host, port] = origin
        found.append(MeshUpstream(upstream, host, port, is_service=service is not None))
    return found


def upstream_resources(
    upstream: MeshUpstream,
    settings: UpstreamSettings,
    entry: Document,
    rule: Document,
    service: Document,
) -> Iterator[Document]:
    """Give what Istio has to know of an upstream.

    Args:
        upstream: The upstream.
        settings: Limits and authorities.
        entry: A ServiceEntry to be filled in.
        rule: A DestinationRule to be filled in.
        service: A VirtualService to be filled in, for requests of extauthz itself.
    """
    if not upstream.is_service:
        yield _service_entry(upstream, entry)
    if not upstream.is_service or upstream.upstream.is_tls:
        yield _destination_rule(upstream, settings, rule)
    yield _virtual_service(upstream, service)


def _service_entry(upstream: MeshUpstream, entry: Document) -> Document:
    origin = upstream.upstream.origin
    entry["metadata"]["name"] = upstream.upstream.name
    spec = entry["spec"]
    spec["hosts"] = [upstream.host]
    port = spec["ports"][0]
    port["number"] = upstream.port
    if origin.port == upstream.port:
        del port["targetPort"]
    else:
        port["targetPort"] = origin.port
    if upstream.upstream.is_address:
        spec["addresses"] = [origin.host]
        spec["resolution"] = "STATIC"
        spec["endpoints"] = [{"address": origin.host}]
    return entry


def _destination_rule(
    upstream: MeshUpstream, settings: UpstreamSettings, rule: Document
) -> Document:
    origin = upstream.upstream.origin
    rule["metadata"]["name"] = upstream.upstream.name
    rule["spec"]["host"] = upstream.host
    policy = rule["spec"]["trafficPolicy"]["portLevelSettings"][0]
    policy["port"]["number"] = upstream.port
    tcp, http = policy["connectionPool"]["tcp"], policy["connectionPool"]["http"]
    tcp["connectTimeout"] = f"{settings.connect_timeout_s:g}s"
    tcp["maxConnections"] = settings.max_requests
    http["http1MaxPendingRequests"] = http["http2MaxRequests"] = settings.max_requests
    tls = policy["tls"]
    if not upstream.upstream.is_tls:
        policy["tls"] = {"mode": "DISABLE"}
        return rule
    if upstream.upstream.sni is None:
        del tls["sni"]
    else:
        tls["sni"] = upstream.upstream.sni
    tls["subjectAltNames"] = [origin.host]
    if settings.ca_file != _default_ca_file():
        tls["caCertificates"] = str(settings.ca_file)
    return rule


def _virtual_service(upstream: MeshUpstream, service: Document) -> Document:
    service["metadata"]["name"] = f"{upstream.upstream.name}-mesh"
    spec = service["spec"]
    spec["hosts"] = upstream.names
    (route,) = spec["http"]
    route["match"][0]["port"] = upstream.port
    route["route"][0]["destination"] = upstream.destination
    return service


def _default_ca_file() -> Path:
    return UpstreamSettings().ca_file


def _service_host(host: str, namespace: str, domain: str) -> str | None:
    """Return the full name of a Service, None if the host is something else.

    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
    """
    if host.endswith(f".svc.{domain}"):
        return host
    if host.endswith(".svc"):
        return f"{host}.{domain}"
    if "." not in host and ":" not in host:
        return f"{host}.{namespace}.svc.{domain}"
    return None
