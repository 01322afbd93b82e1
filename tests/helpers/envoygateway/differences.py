"""What the data plane of Envoy Gateway does otherwise than our own Envoy, and why."""

from typing import Final

UNCHECKED_CONSENT: Final = "Code of a consent that extauthz did not mean"
BARE_REFUSALS: Final = "Refusals after the provider has answered"
NAMELESS_STREAMS: Final = "Request id in sdpfilter's log"
SPLIT_HEADERS: Final = "Header values with line breaks"

DIFFERENCES: Final = {
    UNCHECKED_CONSENT: (
        "`unavailable`, not `not_checked`: RBAC comes after sdpfilter, which is asked first and "
        "gives up because extauthz told it nothing"
    ),
    BARE_REFUSALS: (
        "503 or 504 without a body: Envoy answers for sdpfilter without passing any filter that "
        "Envoy Gateway could be told to write one"
    ),
    NAMELESS_STREAMS: (
        "none for streams that ended early: an EnvoyExtensionPolicy has no initial metadata"
    ),
    SPLIT_HEADERS: (
        "Envoy is not told to look (`validate_mutations`); extauthz looks before it answers"
    ),
}
