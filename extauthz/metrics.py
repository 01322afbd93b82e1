"""Metrics of extauthz. Labels have few values: outcomes and deployments, never keys or users."""

from contextlib import suppress
from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

DECISIONS: Final = Counter(
    "ringback_authz_decisions", "Requests decided, by endpoint and outcome", ["endpoint", "outcome"]
)
UNDECIDED: Final = Counter(
    "ringback_authz_undecided", "Requests that nothing could be said about: a fault of the gateway"
)
UPSTREAM_ERRORS: Final = Counter(
    "ringback_upstream_errors",
    "Requests of the gateway's own to an upstream that failed: no answer, or 5xx",
    ["cluster", "error"],
)
UNDER_WAY: Final = Gauge("ringback_authz_under_way", "Requests being decided, by lane", ["lane"])
MINT_SECONDS: Final = Histogram(
    "ringback_mint_upstream_seconds",
    "Time a provider took to mint an ephemeral key",
    ["deployment"],
    buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4),
)
MINT_ATTEMPTS: Final = Counter(
    "ringback_mint_attempts",
    "Requests for an ephemeral key, by deployment and result: minted, or the code of an error",
    ["deployment", "result"],
)
COOLDOWNS: Final = Counter(
    "ringback_deployment_cooldowns",
    "Cooldowns of deployments that began, by what failed",
    ["deployment", "reason"],
)
COOLED: Final = Gauge(
    "ringback_deployment_cooled",
    "Whether a deployment is left alone after failures (1) or not (0)",
    ["deployment"],
)
TOKENS_OPENED: Final = Counter("ringback_tokens_opened", "Tokens that were authentic and in time")
TOKENS_REFUSED: Final = Counter(
    "ringback_tokens_refused", "Tokens that were not accepted, by reason", ["reason"]
)
SLOTS: Final = Counter(
    "ringback_call_slots",
    "Calls that asked for a slot among those that may be open, by result: taken, full, or failed "
    "where callkeeper did not answer",
    ["result"],
)
CDS_VERSION: Final = Gauge(
    "ringback_cds_version",
    "1 for the version of the clusters that this worker serves, and that its Envoy has accepted",
    ["version", "state"],
)
CDS_STREAMS: Final = Gauge("ringback_cds_streams", "Envoys that get their clusters here")
CDS_PUSHES: Final = Counter("ringback_cds_pushes", "Sets of clusters sent to Envoy")
CDS_NACKS: Final = Counter("ringback_cds_nacks", "Sets of clusters that Envoy refused")
RELOADS: Final = Counter(
    "ringback_config_reloads", "Changes of files, by what became of them", ["file", "result"]
)
# Alerts look for growth, which a counter that was not there before does not show.
for _file in ("config", "keys", "revoked"):
    for _result in ("taken_up", "refused"):
        RELOADS.labels(_file, _result)
KEY_CACHE: Final = Counter(
    "ringback_key_cache_requests", "Keys asked for, by what became of it", ["source", "outcome"]
)
KEY_CACHE_ENTRIES: Final = Gauge(
    "ringback_key_cache_entries", "Keys that are remembered", ["source", "kind"]
)
KEY_CACHE_BYTES: Final = Gauge(
    "ringback_key_cache_bytes", "What the known ones of them take", ["source"]
)
KEY_LOOKUPS: Final = Counter(
    "ringback_key_lookups", "Questions to a source, by its answer", ["source", "outcome"]
)
JWTS_REFUSED: Final = Counter("ringback_jwts_refused", "JWTs not accepted, by reason", ["reason"])


@cache
def decisions(endpoint: str, outcome: str) -> Counter:
    """Return the counter of one outcome: finding it by its labels costs more than counting."""
    return DECISIONS.labels(endpoint, outcome)


def show_version(state: str, version: str) -> None:
    """Show one version of the clusters as ``served`` or ``accepted``, and no other one."""
    with suppress(KeyError):
        CDS_VERSION.remove(_shown[state], state)
    _shown[state] = version
    CDS_VERSION.labels(version, state).set(1)


# By state.
_shown: Final = {"served": "", "accepted": ""}
