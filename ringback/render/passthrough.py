"""Passthrough: routes and the cluster that bring everything but realtime to a LiteLLM proxy."""

from typing import Any, Final
from urllib.parse import urlsplit

from ringback.contract import PASSTHROUGH
from ringback.settings import Settings, UpstreamSettings

Json = dict[str, Any]

# Whatever has such a part is realtime, wherever LiteLLM might serve it: nothing gets past extauthz
# by another prefix or by the case of a letter. Nor by a slash or a letter that is escaped twice,
# which LiteLLM would pass on to a provider escaped once; honest paths escape no letter.
_REALTIME_PATH: Final = (
    "(?i).*(/|%(25)+(2f|5c))realtime.*|.*%(25)+(4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a]).*"
)
_TYPES: Final = "type.googleapis.com/envoy.extensions.filters.http"
_NO_INTERLOCK: Final = {"@type": f"{_TYPES}.rbac.v3.RBACPerRoute"}
# Answers of chats stream for minutes.
_MAX_REQUESTS: Final = 1024
# LiteLLM checks keys, answers preflights and streams as it likes.
_UNTOUCHED: Final[Json] = {
    "envoy.filters.http.cors": {
        "@type": f"{_TYPES}.cors.v3.CorsPolicy",
        "filter_enabled": {"default_value": {"numerator": 0}},
    },
    "answer_interlock": {"@type": f"{_TYPES}.lua.v3.LuaPerRoute", "disabled": True},
    "envoy.filters.http.buffer": {"@type": f"{_TYPES}.buffer.v3.BufferPerRoute", "disabled": True},
    "envoy.filters.http.ext_authz": {
        "@type": f"{_TYPES}.ext_authz.v3.ExtAuthzPerRoute",
        "disabled": True,
    },
    "authz_interlock": _NO_INTERLOCK,
    "proc_interlock": _NO_INTERLOCK,
}


def passthrough_routes(timeout_s: float, not_found: Json) -> list[Json]:
    """Return what stands before the route for paths that lead nowhere.

    Args:
        timeout_s: How long nothing may move.
        not_found: That route.
    """
    realtime = not_found | {"match": {"safe_regex": {"regex": _REALTIME_PATH}}}
    # NOTE: no timeout of the whole: an answer may stream for as long as something moves.
    route = {"cluster": PASSTHROUGH, "timeout": "0s", "idle_timeout": f"{timeout_s:g}s"}
    return [
        realtime,
        {
            "name": PASSTHROUGH,
            "match": {"prefix": "/"},
            "route": route,
            # Envoy's own word about the caller.
            "request_headers_to_remove": ["x-envoy-external-address"],
            "typed_per_filter_config": _UNTOUCHED,
        },
    ]


def passthrough_cluster(settings: Settings, upstream: UpstreamSettings) -> Json | None:
    """Return the cluster of the proxy, None if there is none.

    Args:
        settings: With ``passthrough.url``.
        upstream: Who may vouch for the proxy, and how long a connection to it may take.
    """
    if settings.passthrough.url is None:
        return None
    from extauthz.clusters import as_json, build_clusters  # noqa: PLC0415  imports Envoy's types
    from extauthz.deployments import DEFAULT_PORTS, Origin  # noqa: PLC0415  as above

    url = urlsplit(settings.passthrough.url)
    origin = Origin(url.scheme, url.hostname or "", url.port or DEFAULT_PORTS[url.scheme])
    limits = {"max_requests": _MAX_REQUESTS}
    (cluster,) = build_clusters([origin], upstream.model_copy(update=limits))
    cluster.name = cluster.load_assignment.cluster_name = PASSTHROUGH
    return as_json(cluster)
