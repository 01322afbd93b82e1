"""Backends, routes and limits of upstreams."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ringback.errors import StartError
from ringback.render.documents import Document, load_template, resource
from ringback.render.envoy_gateway.values import EnvoyGatewayValues
from ringback.render.inputs import Inputs, Upstream

# The upstream of the template.
_NAME: Final = "https-api-openai-com-443"
_CLUSTER: Final = "upstream_https_api_openai_com_443"


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


def upstream_documents(inputs: Inputs, values: EnvoyGatewayValues) -> Iterator[Document]:
    """Give the manifests of every upstream that takes calls; extauthz reaches others itself.

    Raises:
        UnverifiableError: If one speaks TLS and has no name.
    """
    for upstream in inputs.upstreams:
        if upstream.takes_calls:
            yield from _upstream(upstream, inputs, values)


def duration(seconds: float) -> str:
    """Return a duration of the Gateway API."""
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{round(seconds)}s"


def _upstream(upstream: Upstream, inputs: Inputs, values: EnvoyGatewayValues) -> Iterable[Document]:
    if upstream.is_tls and upstream.sni is None:
        raise UnverifiableError(upstream)
    documents = load_template("envoy-gateway", "upstream.yaml")
    for document in documents:
        _rename(document, _NAME, upstream.name)
        _rename(document, _CLUSTER, upstream.origin.cluster)
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
    policy = resource(documents, "BackendTrafficPolicy")["spec"]
    breaker, timeout = policy["circuitBreaker"], policy["timeout"]
    for name in ("maxConnections", "maxPendingRequests", "maxParallelRequests"):
        breaker[name] = inputs.settings.upstream.max_websockets
    timeout["tcp"]["connectTimeout"] = duration(inputs.settings.upstream.connect_timeout_s)
    limits = inputs.settings.websocket
    timeout["http"]["streamIdleTimeout"] = duration(limits.idle_timeout_s)
    timeout["http"]["maxStreamDuration"] = duration(limits.max_duration_s)
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
