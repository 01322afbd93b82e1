"""What both services count. Apart from the endpoint that shows it, so that pure code may count."""

from typing import Final

from prometheus_client import Counter, Gauge

JWK_SET_RELOADS: Final = Counter(
    "ringback_jwk_set_reloads", "Changes of the JWK set, by what became of them", ["result"]
)
# Alerts look for growth, which a counter that was not there before does not show.
for _result in ("taken_up", "refused"):
    JWK_SET_RELOADS.labels(_result)
CERTIFICATE_RELOADS: Final = Counter(
    "ringback_certificate_reloads", "Changes of services.tls, by what became of them", ["result"]
)
for _result in ("taken_up", "refused"):
    CERTIFICATE_RELOADS.labels(_result)
CERTIFICATE_EXPIRY: Final = Gauge(
    "ringback_certificate_expiry_timestamp_seconds", "When a certificate of ours ends", ["of"]
)
PEERS_REFUSED: Final = Counter(
    "ringback_peers_refused", "Requests of peers that services.tls.allowed_peers does not name"
)
# Of all processes together a key may seal 2^32 times.
SEALS: Final = Counter(
    "ringback_seals", "Tokens and handles that were sealed, by the id of the key", ["kind", "kid"]
)
