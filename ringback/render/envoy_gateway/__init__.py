"""The target ``envoy-gateway``: a Gateway of Envoy Gateway, and the two services behind it."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ringback.errors import StartError
from ringback.render.apart import UnservedError
from ringback.render.documents import Document, load_template, named, part, resource
from ringback.render.envoy_gateway.services import service_documents
from ringback.render.envoy_gateway.upstreams import duration, upstream_documents
from ringback.render.envoy_gateway.values import EnvoyGatewayValues
from ringback.render.inputs import Inputs
from ringback.render.values import Values
from ringback.settings import Settings

_ADVICE: Final = (
    "Leave it out, and attach an HTTPRoute of your own to the Gateway, with a SecurityPolicy of "
    "its own (docs/mesh/envoy-gateway.md)."
)
_TARGET: Final = "envoy-gateway"
# What Envoy Gateway can match: an origin, or one with a first label for which any labels may stand.
_ORIGIN: Final = re.compile(r"https?://(\*\.)?[\w.-]+(:[0-9]{1,5})?")
# On what Envoy says instead of somebody else; no filter puts them on any more.
_OVERRIDDEN: Final = (
    ("server", "ringback"),
    ("x-request-id", "%REQ(X-REQUEST-ID)%"),
    ("access-control-expose-headers", "location, x-request-id, retry-after"),
)
_ALLOW_ORIGIN: Final = "access-control-allow-origin"
# Envoy's own refusals are the same for everybody. A provider answers what extauthz has let pass,
# which names the page that may read it.
_ORIGINS: Final = {
    "Local": "%REQ(ORIGIN)%",
    "Backend": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:allowed_origin)%",
}


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


def render(inputs: Inputs, values: Values) -> Mapping[str, Sequence[Document]]:
    """Return the manifests.

    Raises:
        StartError: If Envoy Gateway has no means for what the configuration says.
    """
    assert isinstance(values, EnvoyGatewayValues)  # noqa: S101  by VALUES
    _check(inputs.settings)
    files: dict[str, list[Document]] = {
        "gateway.yaml": _gateway(inputs, values),
        "routes.yaml": load_template(_TARGET, "routes.yaml"),
        "policies.yaml": _policies(inputs, values),
        "upstreams.yaml": list(upstream_documents(inputs, values)),
        "services.yaml": service_documents(inputs, values),
    }
    for documents in files.values():
        for document in documents:
            document["metadata"]["namespace"] = values.namespace
    return files


def _check(settings: Settings) -> None:
    if settings.passthrough.url is not None:
        raise UnservedError("passthrough.url", _ADVICE)
    if settings.playground:
        raise UnservedError("playground", _ADVICE)


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
    cors = part(security, "spec", "cors")
    if "cors_origins" in inputs.settings.model_fields_set:
        cors["allowOrigins"] = [_origin(origin) for origin in inputs.settings.cors_origins]
    else:
        # The default is there for pages that are developed on the same machine.
        del cors["allowOrigins"]
    (proc,) = resource(documents, "EnvoyExtensionPolicy")["spec"]["extProc"]
    overload = inputs.settings.overload
    grpc = part(security, "spec", "extAuth", "grpc")
    _limit(grpc, overload.max_decisions + overload.max_mints, values)
    _limit(proc, overload.max_calls, values)
    if values.plaintext:
        for spec in (grpc, proc):
            (reference,) = spec["backendRefs"]
            reference |= {"group": "", "kind": "Service"}
    # The same, but for the body.
    without_body = resource(documents, "SecurityPolicy", "ringback-without-body")
    for name in ("cors", "extAuth", "authorization"):
        without_body["spec"][name] = copy.deepcopy(security["spec"][name])
    del without_body["spec"]["extAuth"]["bodyToExtAuth"]
    # Calls: with a token they wait for nobody, with a key for a provider.
    grpc = without_body["spec"]["extAuth"]["grpc"]
    _limit(grpc, overload.max_checks + overload.max_mints, values)
    traffic = resource(documents, "BackendTrafficPolicy", "ringback")["spec"]
    _limit_upstream(traffic["circuitBreaker"], inputs.settings.upstream.max_requests)
    traffic["timeout"]["tcp"]["connectTimeout"] = duration(
        inputs.settings.upstream.connect_timeout_s
    )
    websockets = resource(documents, "BackendTrafficPolicy", "ringback-websockets")["spec"]
    local = [rule for rule in traffic["responseOverride"] if rule["source"] == "Local"]
    websockets["responseOverride"] += copy.deepcopy(local)
    for rule in (*traffic["responseOverride"], *websockets["responseOverride"]):
        headers = rule["response"].setdefault("header", {}).setdefault("set", [])
        given = {header["name"] for header in headers}
        headers += [
            {"name": name, "value": value}
            for name, value in (*_OVERRIDDEN, (_ALLOW_ORIGIN, _ORIGINS[rule["source"]]))
            if name not in given
        ]
    return documents


def _limit(service: Any, of_one: int, values: EnvoyGatewayValues) -> None:
    breaker = part(service, "backendSettings", "circuitBreaker")
    breaker["maxPendingRequests"] = breaker["maxParallelRequests"] = of_one * values.replicas


def _limit_upstream(breaker: Any, requests: int) -> None:
    for name in ("maxConnections", "maxPendingRequests", "maxParallelRequests"):
        breaker[name] = requests


def _origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise OriginError(origin)
    return origin
