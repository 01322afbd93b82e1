"""The target ``istio``: a gateway of its own in a mesh, configured by Istio's resources."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from extauthz.deployments import DEFAULT_PORTS, Origin
from ringback.contract import AUTHZ_CLUSTER, PASSTHROUGH
from ringback.envoylint.parts import routes
from ringback.render.apart import SERVICES, ApartValues, UnservedError
from ringback.render.bootstrap import Changes, own_bootstrap
from ringback.render.documents import (
    Document,
    dump,
    load_template,
    load_text,
    resource,
    to_document,
)
from ringback.render.inputs import Inputs, Upstream, resource_name
from ringback.render.istio.envoyfilter import Patch, gateway_patches
from ringback.render.istio.services import (
    PROXY_CONFIG,
    Place,
    mesh_documents,
    places,
    service_documents,
)
from ringback.render.istio.upstreams import Egress, MeshUpstream, host_resources, in_mesh
from ringback.render.istio.virtualservice import NOWHERE, virtual_routes
from ringback.render.supervision import is_supervised
from ringback.render.values import Name, Values, Words

Json = dict[str, Any]

_NOWHERE_HOST: Final = "nowhere.ringback.internal"
_COMMENT_INDENT: Final = 2
_MESH_CONFIG: Final = "mesh-config/extension-providers.yaml"
_CONNECTION_LIMIT: Final = "overload.global_downstream_max_connections"


class IstioValues(ApartValues):
    """What can be set."""

    hosts: Words = ("*",)
    """Host names under which the gateway is reached, with commas between them."""

    tls_secret: str = "ringback-tls"
    """Secret with the gateway's certificate; empty where something in front of it does TLS."""

    cluster_domain: str = "cluster.local"
    """Domain of the cluster's Services."""

    egress: Egress = "direct"
    """Who does TLS for requests of extauthz itself: extauthz (direct), or its sidecar (mesh)."""

    istio_namespace: Name = "istio-system"
    """Namespace of istiod."""


VALUES = IstioValues


def render(inputs: Inputs, values: Values) -> Mapping[str, Sequence[Document]]:
    """Return the manifests.

    Raises:
        StartError: If something in the inputs cannot be said in a mesh.
    """
    assert isinstance(values, IstioValues)  # noqa: S101  the class of this module
    if inputs.settings.playground:
        raise UnservedError("playground", "Leave it out; `ringback up` serves the page.")
    if is_supervised(inputs) and values.egress == "mesh":
        raise UnservedError("supervision.mode", "Render with --set egress=direct.")
    upstreams = in_mesh(
        _all_upstreams(inputs),
        inputs.settings.upstream,
        values.egress,
        namespace=values.namespace,
        domain=values.cluster_domain,
    )
    bootstrap = _bootstrap(inputs, values.replicas)
    found = places(values.namespace, values.cluster_domain)
    # What protects calls is there before what lets them in.
    files = {
        "services.yaml": service_documents(inputs, values, values.egress, values.istio_namespace),
        "mesh.yaml": mesh_documents(
            bootstrap,
            found,
            values.egress,
            values.namespace,
            has_callkeeper=is_supervised(inputs),
        ),
        "upstreams.yaml": _upstreams(upstreams, inputs, values.egress),
        "filters.yaml": _filters(bootstrap, found),
        "authorization.yaml": load_template("istio", "authorization.yaml"),
        "routes.yaml": _routes(bootstrap, upstreams, inputs, values),
        "gateway.yaml": _gateway(values, inputs.settings.overload.max_connections),
    }
    for document in (document for documents in files.values() for document in documents):
        document["metadata"]["namespace"] = values.namespace
    # Elsewhere, for `kubectl apply -f` of the folder.
    return files | {_MESH_CONFIG: _mesh_config(found[AUTHZ_CLUSTER], values)}


def _bootstrap(inputs: Inputs, replicas: int) -> Json:
    settings = inputs.settings
    changes = Changes(
        # Limits are for all pods together; only the number counts.
        endpoints=dict.fromkeys(SERVICES, ("127.0.0.1:1",) * replicas),
        cors_origins=settings.cors_origins,
        websocket=settings.websocket,
        overload=settings.overload,
        # Only its routes are asked for.
        passthrough={"name": PASSTHROUGH} if settings.passthrough.url else None,
        passthrough_timeout_s=settings.passthrough.timeout_s,
    )
    return own_bootstrap(changes)


def _all_upstreams(inputs: Inputs) -> list[Upstream]:
    passthrough = _passthrough_origin(inputs)
    known = {upstream.origin for upstream in inputs.upstreams}
    further = {passthrough} - known - {None}
    return [*inputs.upstreams, *(Upstream(o, resource_name(o)) for o in further if o)]


def _passthrough_origin(inputs: Inputs) -> Origin | None:
    if inputs.settings.passthrough.url is None:
        return None
    url = urlsplit(inputs.settings.passthrough.url)
    return Origin(url.scheme, url.hostname or "", url.port or DEFAULT_PORTS[url.scheme])


def _gateway(values: IstioValues, max_connections: int) -> list[Document]:
    documents = load_template("istio", "gateway.yaml")
    deployment = resource(documents, "Deployment")["spec"]["template"]
    annotations = deployment["metadata"]["annotations"]
    proxy = load_text(annotations[PROXY_CONFIG])
    proxy["runtimeValues"][_CONNECTION_LIMIT] = DoubleQuotedScalarString(str(max_connections))
    annotations[PROXY_CONFIG] = LiteralScalarString(dump([proxy]))
    server = resource(documents, "Gateway")["spec"]["servers"][0]
    server["hosts"] = [f"./{host}" for host in values.hosts]
    if values.tls_secret:
        server["tls"]["credentialName"] = values.tls_secret
    else:
        del server["tls"]
        server["port"] = to_document({"name": "http", "number": 80, "protocol": "HTTP"})
        (port,) = resource(documents, "Service")["spec"]["ports"]
        port |= {"name": "http", "port": 80, "targetPort": 8080}
    return documents


def _routes(
    bootstrap: Json, upstreams: Iterable[MeshUpstream], inputs: Inputs, values: IstioValues
) -> list[Document]:
    documents = load_template("istio", "routes.yaml")
    service = resource(documents, "VirtualService")
    service["spec"]["hosts"] = list(values.hosts)
    passthrough = _passthrough_origin(inputs)
    known = {origin for upstream in inputs.upstreams for origin in (upstream.origin,)}
    to_upstreams = {
        upstream.upstream.origin.cluster: upstream.destination
        for upstream in upstreams
        if upstream.upstream.origin in known
    }
    destinations = {NOWHERE: {"host": _NOWHERE_HOST, "port": {"number": 80}}}
    for upstream in upstreams:
        if upstream.upstream.origin == passthrough:
            destinations[PASSTHROUGH] = upstream.destination
    service["spec"]["http"] = to_document(
        list(virtual_routes(routes(bootstrap), to_upstreams, destinations))
    )
    return documents


def _filters(bootstrap: Json, found: Mapping[str, Place]) -> list[Document]:
    documents = load_template("istio", "filters.yaml")
    patches = gateway_patches(bootstrap, found)
    resource(documents, "EnvoyFilter")["spec"]["configPatches"] = _commented(patches)
    return documents


def _commented(patches: Iterable[Patch]) -> Any:
    patches = list(patches)
    written = to_document([patch.value for patch in patches])
    for index, patch in enumerate(patches):
        written.yaml_set_comment_before_after_key(
            index, before=patch.comment, indent=_COMMENT_INDENT
        )
    return written


def _upstreams(upstreams: Iterable[MeshUpstream], inputs: Inputs, egress: Egress) -> list[Document]:
    template = load_template("istio", "upstreams.yaml")
    by_host: dict[str, list[MeshUpstream]] = {}
    for upstream in upstreams:
        by_host.setdefault(upstream.host, []).append(upstream)
    return [
        document
        for of_host in by_host.values()
        for document in host_resources(of_host, inputs.settings.upstream, egress, template)
    ]


def _mesh_config(place: Place, values: IstioValues) -> list[Document]:
    documents = load_template("istio", "mesh-config.yaml")
    (provider,) = documents[0]["meshConfig"]["extensionProviders"]
    provider["envoyExtAuthzGrpc"]["service"] = f"{values.namespace}/{place.host}"
    provider["envoyExtAuthzGrpc"]["port"] = place.port
    return documents
