"""Metrics of extauthz. Labels have few values: outcomes and deployments, never keys or users."""

from typing import Final

from prometheus_client import Counter, Histogram

DECISIONS: Final = Counter(
    "ringback_authz_decisions", "Requests decided, by endpoint and outcome", ["endpoint", "outcome"]
)
MINT_SECONDS: Final = Histogram(
    "ringback_mint_upstream_seconds",
    "Time a provider took to mint an ephemeral key",
    ["deployment"],
    buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4),
)
TOKENS_REFUSED: Final = Counter(
    "ringback_tokens_refused", "Tokens that were not accepted at calls, by reason", ["reason"]
)
CDS_PUSHES: Final = Counter("ringback_cds_pushes", "Sets of clusters sent to Envoy")
CDS_NACKS: Final = Counter("ringback_cds_nacks", "Sets of clusters that Envoy refused")
RELOADS: Final = Counter(
    "ringback_config_reloads", "Changes of files, by what became of them", ["file", "result"]
)
