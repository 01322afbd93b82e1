"""Names that meet in Envoy: what envoy/envoy.yaml, extauthz and sdpfilter must agree on.

Everything here is also written in ``envoy/envoy.yaml``; ``tests/dataplane/test_contract.py``
compares the two.
"""

import re
from typing import Final

# --- Dynamic metadata
# Envoy puts the metadata of a CheckResponse into the namespace of the filter; that of a
# ProcessingResponse names its own, which is not a filter's: Envoy Gateway lets nobody write there.
# Both services set CHECKED on success; the RBAC filter behind each one lets nothing else pass,
# because an empty reply or a stream that ends cleanly would otherwise count as consent.
# sdpfilter sets ANSWER_CHECKED when the upstream's answer may pass too; a Lua filter insists on it.
AUTHZ_NAMESPACE: Final = "envoy.filters.http.ext_authz"
PROC_NAMESPACE: Final = "ringback.sdpfilter"
# The Origin of a request, if the CORS policy allows it, is kept under this name: by Envoy, and by
# extauthz in its own namespace, for Envoys that others configure.
CORS_NAMESPACE: Final = "ringback"
ALLOWED_ORIGIN: Final = "allowed_origin"
# Beside it, for Envoy's own use: the upgrade that a request asks for.
UPGRADE: Final = "upgrade"
CHECKED: Final = "checked"
ANSWER_CHECKED: Final = "answer_checked"
# Set to true on every answer that a service makes itself, so that Envoy's local_reply_config
# leaves its body alone.
ANSWERED: Final = "answered"
# What access logs may show of a decision, and what extauthz tells sdpfilter about a call.
OUTCOME: Final = "outcome"
# Values of OUTCOME with which extauthz lets a stream go on to sdpfilter.
OUTCOME_CALL: Final = "call"
OUTCOME_KEY_CALL: Final = "key_call"
OUTCOME_READY: Final = "ready"
# And those with which it goes on as a WebSocket, without sdpfilter.
OUTCOME_WEBSOCKET: Final = "websocket"
OUTCOME_SIDEBAND: Final = "sideband"
KEY_ALIAS: Final = "key_alias"
KEY_HASH: Final = "key_hash"
TEAM: Final = "team"
USER: Final = "user"
MODEL: Final = "model"
DEPLOYMENT: Final = "deployment"
TOKEN_ID: Final = "token_id"
# The subprotocol of a WebSocket that the downstream is answered with.
SUBPROTOCOL: Final = "subprotocol"
# The SDP policy that the caller's key names, for sdpfilter.
SDP_POLICY: Final = "sdp_policy"
# What callkeeper is told of a call beyond that: who pays, where it is, its ephemeral key, sealed
# for extauthz, the name that the caller asked for, and `ringback.calllimits.CallLimits`.
ORGANIZATION: Final = "organization"
PROJECT: Final = "project"
UPSTREAM_ORIGIN: Final = "upstream_origin"
SEALED_KEY: Final = "sealed_key"
ASKED: Final = "asked"
CALL_LIMITS: Final = "call_limits"
# The id under which extauthz has taken the call's slots among those that may be open.
SLOT_ID: Final = "slot_id"
# JSON of the session lock of the call, as `ringback.sessionlock` reads it.
SESSION_LOCK: Final = "session_lock"
# Rules by which sdpfilter changed the offer and the answer, joined by commas, for access logs.
OFFER_EDITS: Final = "offer_edits"
ANSWER_EDITS: Final = "answer_edits"

# --- Headers
# Envoy removes every header with this prefix from downstream requests before anything reads them.
INTERNAL_HEADER_PREFIX: Final = "x-ringback-"
# Names the cluster of the upstream; routes use it as their cluster_header.
CLUSTER_HEADER: Final = "x-ringback-cluster"
# Tells routes what a request that goes upstream is; without it, a call.
ROUTE_HEADER: Final = "x-ringback-route"
ROUTE_WEBSOCKET: Final = "websocket"
# On answers that the egress listener makes itself, because an upstream cannot be reached.
EGRESS_MARK_HEADER: Final = "x-ringback-egress"

# --- Paths
# Prefixes under which the same endpoints are served: OpenAI's, LiteLLM's short form and Azure GA's.
API_PREFIXES: Final = ("/v1/realtime", "/realtime", "/openai/v1/realtime")
CLIENT_SECRETS: Final = "/client_secrets"
TRANSCRIPTION_SESSIONS: Final = "/transcription_sessions"
CALLS: Final = "/calls"
CLIENT_SECRETS_PATHS: Final = frozenset(prefix + CLIENT_SECRETS for prefix in API_PREFIXES)
TRANSCRIPTION_SESSIONS_PATHS: Final = frozenset(
    prefix + TRANSCRIPTION_SESSIONS for prefix in API_PREFIXES
)
CALLS_PATHS: Final = frozenset(prefix + CALLS for prefix in API_PREFIXES)
WEBSOCKET_PATHS: Final = frozenset(API_PREFIXES)
# Location of a call as the downstream sees it, whatever prefix it used.
CALL_LOCATION_PREFIX: Final = "/v1/realtime/calls/"
READY_PATH: Final = "/readyz"

# --- Envoy's own names
INGRESS_LISTENER: Final = "ingress_http"
EGRESS_LISTENER: Final = "egress_http"
METRICS_LISTENER: Final = "metrics_http"
ADMIN_CLUSTER: Final = "envoy_admin"
AUTHZ_CLUSTER: Final = "extauthz"
# The same workers, for what mints and for calls with a token: Envoy limits each by itself.
AUTHZ_MINTS_CLUSTER: Final = "extauthz_mints"
AUTHZ_CALLS_CLUSTER: Final = "extauthz_calls"
AUTHZ_CLUSTERS: Final = (AUTHZ_CLUSTER, AUTHZ_MINTS_CLUSTER, AUTHZ_CALLS_CLUSTER)
PROC_CLUSTER: Final = "sdpfilter"
# Package of the service that keeps calls. Envoy does not ask it.
CALLKEEPER: Final = "callkeeper"
# Route and cluster of what is not realtime.
PASSTHROUGH: Final = "passthrough"
UPSTREAM_CLUSTER_PREFIX: Final = "upstream_"

# --- Tokens
# Browser SDKs refuse a key that does not begin so.
TOKEN_PREFIX: Final = "ek_"
CALL_ID_PREFIX: Final = "rtc_"

# --- Sizes
# The largest request body, in bytes: Envoy answers 413 above it. A real offer has 1.3 to 6 kB.
MAX_REQUEST_BODY_BYTES: Final = 64 * 1024


def cluster_name(scheme: str, host: str, port: int) -> str:
    """Return the name of the cluster of one upstream origin.

    The name is safe in stats and headers: letters, digits, ``_`` and ``-`` only.

    Args:
        scheme: ``http`` or ``https``.
        host: Host name or address, without brackets.
        port: TCP port.
    """
    return f"{UPSTREAM_CLUSTER_PREFIX}{scheme}_{re.sub(r'[^a-z0-9-]', '_', host.lower())}_{port}"
