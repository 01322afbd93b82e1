"""The target ``envoy-gateway``: a Gateway of Envoy Gateway, and the two services behind it."""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from ringback.errors import StartError
from ringback.render.documents import Document, load_template, named, part, resource
from ringback.render.inputs import Inputs, Upstream
from ringback.render.values import Name, Values

_TARGET: Final = "envoy-gateway"
_PREFIX: Final = "ringback-"
# The upstream of the template.
_PLACEHOLDER: Final = "https-api-openai-com-443"
# What Envoy Gateway can match: an origin, or one with a first label for which any labels may stand.
_ORIGIN: Final = re.compile(r"https?://(\*\.)?[\w.-]+(:[0-9]{1,5})?")
# On what Envoy says instead of somebody else; no filter puts them on any more.
_OVERRIDDEN: Final = (
    ("server", "ringback"),
    ("x-request-id", "%REQ(X-REQUEST-ID)%"),
    ("access-control-allow-origin", "%REQ(ORIGIN)%"),
    ("access-control-expose-headers", "location, x-request-id, retry-after"),
)


class EnvoyGatewayValues(Values):
    """What can be set."""

    gateway_class: Name = "eg"
    """GatewayClass of Envoy Gateway."""

    tls_secret: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$")] = (
        "ringback-tls"
    )
    """Secret with the certificate of the listener. Empty: HTTP on port 80, behind something that
    ends TLS."""

    upstream_ca: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$")] = ""
    """ConfigMap whose ca.crt may vouch for upstreams. Empty: Envoy's own authorities."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods of each service, each with one worker."""


VALUES = EnvoyGatewayValues


class OriginError(StartError):
    """Envoy Gateway cannot match an entry of ``cors_origins``.

    Args:
        origin: The entry.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def __str__(self) -> str:
        return (
            f"cors_origins: {self.origin}: Envoy Gateway takes * for the first label of the host "
            "alone. Name each origin, with its port."
        )


class UnverifiableError(StartError):
    """An upstream's certificate cannot be checked.

    Args:
        upstream: The upstream, at an IP address.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def __str__(self) -> str:
        return (
            f"{self.upstream.origin}: Envoy Gateway checks certificates by name, and this upstream "
            "has an address alone. Give it a name in DNS."
        )


def render(inputs: Inputs, values: Values) -> Mapping[str, Sequence[Document]]:
    """Return the manifests.

    Raises:
        StartError: If Envoy Gateway has no means for what the configuration says.
    """
    assert isinstance(values, EnvoyGatewayValues)  # noqa: S101  by VALUES
    files: dict[str, list[Document]] = {
        "gateway.yaml": _gateway(inputs, values),
        "routes.yaml": load_template(_TARGET, "routes.yaml"),
        "policies.yaml": _policies(inputs, values),
        "upstreams.yaml": [
            document
            for upstream in inputs.upstreams
            for document in _upstream(upstream, inputs, values)
        ],
    }
    for documents in files.values():
        for document in documents:
            document["metadata"]["namespace"] = values.namespace
    return files


def _gateway(inputs: Inputs, values: EnvoyGatewayValues) -> list[Document]:
    documents = load_template(_TARGET, "gateway.yaml")
    gateway = resource(documents, "Gateway")["spec"]
    gateway["gatewayClassName"] = values.gateway_class
    listener = named(gateway["listeners"], "https")
    if values.tls_secret:
        part(listener, "tls", "certificateRefs", 0)["name"] = values.tls_secret
    else:
        listener.update(name="http", protocol="HTTP", port=80)
        del listener["tls"]
    client = resource(documents, "ClientTrafficPolicy")["spec"]
    limit = part(client, "connection", "connectionLimit")
    limit["value"] = inputs.settings.overload.max_connections
    return documents


def _policies(inputs: Inputs, values: EnvoyGatewayValues) -> list[Document]:
    documents = load_template(_TARGET, "policies.yaml")
    security = resource(documents, "SecurityPolicy", "ringback")
    part(security, "spec", "cors")["allowOrigins"] = [
        _origin(origin) for origin in inputs.settings.cors_origins
    ]
    (proc,) = resource(documents, "EnvoyExtensionPolicy")["spec"]["extProc"]
    overload = inputs.settings.overload
    _limit(part(security, "spec", "extAuth", "grpc"), overload.max_decisions, values)
    _limit(proc, overload.max_calls, values)
    # The same, but for the body.
    without_body = resource(documents, "SecurityPolicy", "ringback-without-body")
    for name in ("cors", "extAuth", "authorization"):
        without_body["spec"][name] = copy.deepcopy(security["spec"][name])
    del without_body["spec"]["extAuth"]["bodyToExtAuth"]
    traffic = resource(documents, "BackendTrafficPolicy", "ringback")["spec"]
    _limit_upstream(traffic["circuitBreaker"], inputs.settings.upstream.max_requests)
    traffic["timeout"]["tcp"]["connectTimeout"] = _duration(
        inputs.settings.upstream.connect_timeout_s
    )
    websockets = resource(documents, "BackendTrafficPolicy", "ringback-websockets")["spec"]
    local = [rule for rule in traffic["responseOverride"] if rule["source"] == "Local"]
    websockets["responseOverride"] += copy.deepcopy(local)
    for rule in (*traffic["responseOverride"], *websockets["responseOverride"]):
        headers = rule["response"].setdefault("header", {}).setdefault("set", [])
        headers += [{"name": name, "value": value} for name, value in _OVERRIDDEN]
    return documents


def _limit(service: Any, of_one: int, values: EnvoyGatewayValues) -> None:
    breaker = part(service, "backendSettings", "circuitBreaker")
    breaker["maxPendingRequests"] = breaker["maxParallelRequests"] = of_one * values.replicas


def _limit_upstream(breaker: Any, requests: int) -> None:
    for name in ("maxConnections", "maxPendingRequests", "maxParallelRequests"):
        breaker[name] = requests


def _upstream(upstream: Upstream, inputs: Inputs, values: EnvoyGatewayValues) -> Iterable[Document]:
    if upstream.is_tls and upstream.sni is None:
        raise UnverifiableError(upstream)
    documents = load_template(_TARGET, "upstream.yaml")
    for document in documents:
        _rename(document, _PLACEHOLDER, upstream.name)
        _rename(document, "upstream_https_api_openai_com_443", upstream.origin.cluster)
    backend = resource(documents, "Backend")
    host, port = upstream.origin.host, upstream.origin.port
    backend["spec"]["endpoints"] = [
        {"ip": {"address": host, "port": port}}
        if upstream.is_address
        else {"fqdn": {"hostname": host, "port": port}}
    ]
    if upstream.is_tls:
        backend["spec"]["tls"]["sni"] = host
        validation = resource(documents, "BackendTLSPolicy")["spec"]["validation"]
        validation["hostname"] = host
        if values.upstream_ca:
            for holder in (backend["spec"]["tls"], validation):
                del holder["wellKnownCACertificates"]
                reference = {"group": "", "kind": "ConfigMap", "name": values.upstream_ca}
                holder["caCertificateRefs"] = [reference]
    else:
        del backend["spec"]["tls"]
        documents.remove(resource(documents, "BackendTLSPolicy"))
    timeout = resource(documents, "BackendTrafficPolicy")["spec"]["timeout"]
    timeout["tcp"]["connectTimeout"] = _duration(inputs.settings.upstream.connect_timeout_s)
    limits = inputs.settings.websocket
    timeout["http"]["streamIdleTimeout"] = _duration(limits.idle_timeout_s)
    timeout["http"]["maxStreamDuration"] = _duration(limits.max_duration_s)
    return documents


def _rename(value: Any, old: str, new: str) -> None:
    """Replace a text in all values below a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if isinstance(item, str):
            if old in item:
                value[key] = item.replace(old, new)
        elif isinstance(item, dict | list):
            _rename(item, old, new)


def _origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise OriginError(origin)
    return origin


def _duration(seconds: float) -> str:
    """Return a duration of the Gateway API."""
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{round(seconds)}s"
