"""What several policies mean together, and the policies that everybody has."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from ringback.sdppolicy import (
    HELPER_CODECS,
    AnswerCandidates,
    AudioLimits,
    ForbiddenMedia,
    Network,
    OfferCandidates,
    Policy,
    merge_networks,
)

_Switches = TypeVar("_Switches", Policy, AudioLimits)


class PolicyConflictError(Exception):
    """Two policies that apply together cannot be satisfied both.

    Args:
        switch: The name of the switch, such as ``audio_codecs``.
        values: What the two demand of it.
    """

    def __init__(self, switch: str, *values: str) -> None:
        self.switch, self.values = switch, values

    def __str__(self) -> str:
        return f"{self.switch}: nothing satisfies both {' and '.join(self.values)}"


def strictest(a: Policy, b: Policy) -> Policy:
    """Return the policy that satisfies both: what it passes unchanged, each of the two does.

    A switch that only one of the two sets has that value. Where both do, the stricter is:

    - of numbers, bitrates and bandwidths: the lower one
    - ``media``, ``audio_codecs``, ``answer_addresses``: what is in both
    - ``audio_codec_order``: the longer one, if it begins with the other
    - ``forbidden_media``: ``refuse``
    - ``offer_candidates``: ``drop_all``
    - ``mask_related_addresses``: masked
    - ``min_fingerprint_hash``: the longer hash
    - ``answer_candidates``, ``direction``, ``use_inband_fec``, ``use_dtx``, ``stereo``: neither is;
      the two have to be equal

    The result does not depend on the order or the grouping in which policies are merged.

    Raises:
        PolicyConflictError: If nothing can satisfy both.
    """
    return _merge(a, b, "")


def _merge(a: _Switches, b: _Switches, place: str) -> _Switches:
    merged: dict[str, Any] = {}
    for name, field in type(a).model_fields.items():
        one, other = getattr(a, name), getattr(b, name)
        if isinstance(one, AudioLimits):
            merged[name] = _merge(one, other, f"{name}.")
        elif other in (one, field.default):
            merged[name] = one
        elif one == field.default:
            merged[name] = other
        else:
            # Neither is the default: a switch of two values cannot come here.
            merged[name] = _STRICTER.get(name, _neither)(one, other)
            if merged[name] is None:
                raise PolicyConflictError(place + name, _show(one), _show(other))
    return type(a)(**merged)


def _neither(_one: object, _other: object) -> None:
    """Tell that no value is stricter than another one."""


def _common_codecs(one: frozenset[str], other: frozenset[str]) -> frozenset[str] | None:
    common = one & other
    return None if common <= HELPER_CODECS else common


def _longer(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    short, long = sorted((one, other), key=len)
    return long if long[: len(short)] == short else None


def _common_networks(
    one: tuple[Network, ...], other: tuple[Network, ...]
) -> tuple[Network, ...] | None:
    # Two ranges either have nothing in common, or one is within the other.
    return (
        merge_networks(
            narrow
            for wide, narrows in ((one, other), (other, one))
            for narrow in narrows
            if any(_is_within(narrow, network) for network in wide)
        )
        or None
    )


def _is_within(narrow: Network, wide: Network) -> bool:
    return (
        narrow.version == wide.version
        and narrow.prefixlen >= wide.prefixlen
        and narrow.network_address in wide
    )


_STRICTER: Final[Mapping[str, Callable[[Any, Any], Any]]] = MappingProxyType(
    {
        # Audio is in every set of kinds.
        "media": frozenset.intersection,
        "max_data_sections": min,
        "audio_codecs": _common_codecs,
        "audio_codec_order": _longer,
        # Neither is to keep them.
        "offer_candidates": lambda _one, _other: OfferCandidates.DROP_ALL,
        "answer_addresses": _common_networks,
        # The names sort like the hashes.
        "min_fingerprint_hash": max,
        "max_bytes": min,
        "max_lines": min,
        "max_line_bytes": min,
        "max_media_sections": min,
        "max_candidates": min,
        "max_average_bitrate": min,
        "bandwidth_as_kbps": min,
        "bandwidth_tias_bps": min,
    }
)


def _show(value: Any) -> str:
    if isinstance(value, frozenset):
        value = sorted(value)
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# Speech in wideband (RFC 7587, section 3.1.1), with error correction and no packets in silence.
# Headers add 20 kbit/s to the 20 of Opus.
_NARROW: Final = AudioLimits(
    max_average_bitrate=20_000,
    use_inband_fec=True,
    use_dtx=True,
    stereo=False,
    bandwidth_as_kbps=40,
)

PRESETS: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        # The upstream learns no address that the downstream has behind its NAT. A server with a
        # public address needs none of them: it answers the checks that reach it.
        "privacy": Policy(
            offer_candidates=OfferCandidates.DROP_PRIVATE,
            mask_related_addresses=True,
        ),
        # One voice, one data channel's section, and no more, whatever the page offers.
        "kiosk": Policy(
            media=frozenset({"audio", "application"}),
            forbidden_media=ForbiddenMedia.REJECT,
            max_data_sections=1,
            audio_codecs=frozenset({"opus", "pcmu", "pcma"}),
            offer_candidates=OfferCandidates.DROP_PRIVATE,
            mask_related_addresses=True,
            min_fingerprint_hash="sha-256",
            max_media_sections=4,
            max_candidates=64,
        ),
        # Only TCP to port 443 leaves the network. Candidates of the offer go as well: an upstream
        # could otherwise open a path over UDP by itself.
        "strict_firewall": Policy(
            offer_candidates=OfferCandidates.DROP_ALL,
            answer_candidates=AnswerCandidates.TCP_443_ONLY,
        ),
        "low_bandwidth": Policy(
            media=frozenset({"audio", "application"}),
            audio_codecs=frozenset({"opus"}),
            offer_audio=_NARROW,
            answer_audio=_NARROW,
        ),
    }
)
"""Policies that may be named without being defined."""
