"""What Envoy Gateway's data plane does otherwise than our own; docs/mesh/envoy-gateway.md has it.

Not in a test each: what Envoy says itself to requests that no filter sees is plain text, and there
is no 405.
"""

from typing import Final

UNCHECKED_CONSENT: Final = "unchecked_consent"
BARE_REFUSALS: Final = "bare_refusals"
NAMELESS_STREAMS: Final = "nameless_streams"
SPLIT_HEADERS: Final = "split_headers"
HANDSHAKE_HEADERS: Final = "handshake_headers"
HANDSHAKE_REFUSALS: Final = "handshake_refusals"
LARGE_ANSWERS: Final = "large_answers"
ALIVE_TO_ALL: Final = "alive_to_all"
SLOW_RECOVERY: Final = "slow_recovery"

DIFFERENCES: Final = {
    UNCHECKED_CONSENT: "A consent of extauthz that is not marked as checked is refused as "
    "`unavailable` instead of `not_checked`: the interlock comes after sdpfilter, which is asked "
    "first and gives up, since extauthz told it nothing.",
    BARE_REFUSALS: "If sdpfilter fails on the way back, be it at an answer of the provider or at a "
    "refusal of extauthz, the 503 or 504 has no body: Envoy answers in its place, past all filters "
    "that could write one.",
    NAMELESS_STREAMS: "sdpfilter's log of a stream that ended early has no request id: an "
    "EnvoyExtensionPolicy cannot send one along.",
    SPLIT_HEADERS: "Envoy is not told to refuse line breaks in headers that extauthz sets "
    "(`validate_mutations`); extauthz refuses them itself.",
    HANDSHAKE_HEADERS: "A WebSocket handshake keeps headers of the provider's that "
    "ClientTrafficPolicy and HTTPRoute do not name: Envoy Gateway removes by name and prefix, and "
    "cannot keep some and remove the rest.",
    HANDSHAKE_REFUSALS: "A WebSocket that the provider refuses has no `retry-after`, and one whose "
    "provider cannot be reached no CORS headers; pages can read neither.",
    ALIVE_TO_ALL: "`/healthz` answers every method, and says the name of Envoy's cluster.",
    SLOW_RECOVERY: "A service that comes back is found after up to 60 s if nobody has called in "
    "the meantime: how often Envoy looks without traffic cannot be set. If all pods were away, "
    "requests go to them at once all the same.",
    LARGE_ANSWERS: "An answer of a provider of more than 1 MiB is 500 in plain text instead of "
    "502: Envoy answers past all filters.",
}
