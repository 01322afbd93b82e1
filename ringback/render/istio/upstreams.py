"""How the mesh reaches upstreams: what they are called in it, and the resources that say so."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from extauthz.deployments import Origin
from extauthz.egressway import mesh_port
from ringback.errors import StartError
from ringback.render.documents import Document, copy_of, resource
from ringback.render.inputs import Upstream
from ringback.render.pods import flow
from ringback.settings import UpstreamSettings

Json = dict[str, Any]
Egress = Literal["mesh", "direct"]

# Between a port of an upstream and another one that stands for it.
_ASIDE: Final = 10_000


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


class ServiceTlsError(StartError):
    """A Service of the cluster with TLS, which a sidecar passes on as it comes.

    Args:
        origin: The Service.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def __str__(self) -> str:
        return (
            f"{self.origin} is a Service with TLS of its own, to which a sidecar adds none: "
            "render with --set egress=direct, or let the mesh do TLS there and write http."
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


def in_mesh(
    upstreams: Iterable[Upstream],
    settings: UpstreamSettings,
    egress: Egress,
    *,
    namespace: str,
    domain: str,
) -> list[MeshUpstream]:
    """Return upstreams as Istio knows them, in the order given.

    Args:
        upstreams: Where requests go.
        settings: With the port that stands for 443.
        egress: Who does TLS for extauthz.
        namespace: In which extauthz looks for a Service by its bare name.
        domain: Of the cluster: ``cluster.local``.

    Raises:
        PortConflictError: If two cannot be told apart.
        ServiceTlsError: If the mesh would have to do TLS to a Service.
    """
    found = []
    taken: dict[tuple[str, int], Origin] = {}
    for upstream in upstreams:
        origin = upstream.origin
        service = _service_host(origin.host, namespace, domain)
        if service and upstream.is_tls and egress == "mesh":
            raise ServiceTlsError(origin)
        port = origin.port if service else _plain_port(origin, settings, egress)
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


def _plain_port(origin: Origin, settings: UpstreamSettings, egress: Egress) -> int:
    """Return where the mesh takes plain HTTP for an origin."""
    port = mesh_port(origin, settings)
    if egress == "direct" and origin.scheme == "https" and port == origin.port:
        # At its own port is the TLS of extauthz; the gateway alone uses this one.
        return port + _ASIDE if port < _ASIDE else port - _ASIDE
    return port


def host_resources(
    upstreams: Sequence[MeshUpstream],
    settings: UpstreamSettings,
    egress: Egress,
    template: Sequence[Document],
) -> Iterator[Document]:
    """Give what Istio has to know of a host, of which it merges no two resources of a kind.

    Args:
        upstreams: All of one host.
        settings: Limits and authorities.
        egress: Who does TLS for extauthz.
        template: A ServiceEntry, a DestinationRule and a VirtualService.
    """
    first = upstreams[0]
    name = first.upstream.name
    if not first.is_service:
        fill = partial(_service_entry, egress=egress)
        yield _filled(template, "ServiceEntry", name, upstreams, fill)
    ruled = [upstream for upstream in upstreams if upstream.upstream.is_tls or not first.is_service]
    if ruled:
        fill = partial(_destination_rule, settings=settings)
        yield _filled(template, "DestinationRule", name, ruled, fill)
    asked = [upstream for upstream in upstreams if egress == "mesh" or not upstream.upstream.is_tls]
    if asked:
        yield _filled(template, "VirtualService", f"{name}-mesh", asked, _virtual_service)


def _filled(
    template: Sequence[Document],
    kind: str,
    name: str,
    upstreams: Sequence[MeshUpstream],
    fill: Callable[[Json, Sequence[MeshUpstream]], None],
) -> Document:
    document: Document = copy_of(resource(template, kind))
    document["metadata"]["name"] = name
    fill(document["spec"], upstreams)
    return document


def _service_entry(spec: Json, upstreams: Sequence[MeshUpstream], egress: Egress) -> None:
    upstream = upstreams[0].upstream
    spec["hosts"] = [upstreams[0].host]
    if upstream.is_address:
        spec["addresses"] = [upstream.origin.host]
        spec["resolution"] = "STATIC"
        spec["endpoints"] = [{"address": upstream.origin.host}]
    for port, one in _copies(spec, "ports", upstreams):
        port["name"] = f"http-{one.port}"
        port["number"] = one.port
        port["targetPort"] = one.upstream.origin.port
    if egress == "direct":
        spec["ports"] += [
            flow(f"{{name: tls-{port}, number: {port}, protocol: TLS}}")
            for port in (one.upstream.origin.port for one in upstreams if one.upstream.is_tls)
        ]


def _destination_rule(
    spec: Json, upstreams: Sequence[MeshUpstream], settings: UpstreamSettings
) -> None:
    spec["host"] = upstreams[0].host
    for policy, one in _copies(spec["trafficPolicy"], "portLevelSettings", upstreams):
        policy["port"]["number"] = one.port
        tcp, http = policy["connectionPool"]["tcp"], policy["connectionPool"]["http"]
        tcp["connectTimeout"] = f"{settings.connect_timeout_s:g}s"
        tcp["maxConnections"] = settings.max_requests
        http["http1MaxPendingRequests"] = http["http2MaxRequests"] = settings.max_requests
        if one.upstream.is_tls:
            _verify(policy["tls"], one.upstream, settings)
        else:
            policy["tls"] = {"mode": "DISABLE"}


def _verify(tls: Json, upstream: Upstream, settings: UpstreamSettings) -> None:
    if upstream.sni is None:
        del tls["sni"]
    else:
        tls["sni"] = upstream.sni
    tls["subjectAltNames"] = [upstream.origin.host]
    if settings.ca_file != UpstreamSettings().ca_file:
        tls["caCertificates"] = str(settings.ca_file)


def _virtual_service(spec: Json, upstreams: Sequence[MeshUpstream]) -> None:
    spec["hosts"] = [upstreams[0].host]
    for route, one in _copies(spec, "http", upstreams):
        route["match"][0]["port"] = one.port
        route["route"][0]["destination"] = one.destination


def _copies(
    parent: Json, name: str, upstreams: Sequence[MeshUpstream]
) -> Iterator[tuple[Json, MeshUpstream]]:
    """Turn the only item of a list into one for each upstream, and give them to be filled in."""
    (only,) = parent[name]
    for upstream in upstreams[1:]:
        written = copy_of(only)
        parent[name].append(written)
        yield written, upstream
    yield only, upstreams[0]


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
