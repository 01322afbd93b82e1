"""What operators may say about session descriptions: the section ``sdp:`` of ``ringback.yaml``.

Values only; sdpfilter does what they say. Every switch defaults to changing and refusing nothing.
"""

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
)

Network = IPv4Network | IPv6Network

# Codecs that carry no voice of their own: redundancy, comfort noise and key presses.
HELPER_CODECS: Final = frozenset({"cn", "red", "telephone-event"})


class ForbiddenMedia(StrEnum):
    """What becomes of a media section that the policy does not allow; the last one is strictest."""

    REJECT = "reject"
    """It gets port 0, for both sides: the call goes on without it (RFC 3264, section 6)."""

    REFUSE = "refuse"
    """The whole offer is refused."""


class OfferCandidates(StrEnum):
    """Which candidates of an offer the upstream sees; the last one is strictest."""

    KEEP = "keep"
    DROP_PRIVATE = "drop_private"
    """All but those with a public IP address: private, link-local, loopback and carrier-grade NAT
    addresses go, and names, which are mDNS ones."""

    DROP_ALL = "drop_all"


class AnswerCandidates(StrEnum):
    """Which candidates of an answer the downstream sees; the last two exclude each other."""

    KEEP = "keep"
    UDP_ONLY = "udp_only"
    TCP_443_ONLY = "tcp_443_only"


def _list(values: Any) -> Any:
    if not isinstance(values, (list, tuple, frozenset)):
        raise ValueError("expected a list")  # noqa: TRY004  pydantic reports it
    return [value.lower() if isinstance(value, str) else value for value in values]


def _with_audio(kinds: frozenset[str]) -> frozenset[str]:
    if "audio" not in kinds:
        raise ValueError("audio must be among them: without it every offer would be refused")
    return kinds


def _with_voice(names: frozenset[str]) -> frozenset[str]:
    if names <= HELPER_CODECS:
        raise ValueError("name at least one codec for voice: opus, g722, pcmu or pcma")
    return names


def _without_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("name each codec once")
    return names


def _network(text: Any) -> Network:
    try:
        return ip_network(text)
    except ValueError as exc:
        raise ValueError(
            "expected a range of addresses such as 20.0.0.0/8 or 2001:db8::/32, with no bits set "
            "behind the prefix"
        ) from exc


def _some_networks(networks: tuple[Network, ...]) -> tuple[Network, ...]:
    if not networks:
        raise ValueError("name at least one range: with none every answer would be refused")
    return merge_networks(networks)


def merge_networks(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the shortest list of the same addresses, IPv4 first; equal sets give equal lists."""
    networks = list(networks)
    return (
        *collapse_addresses(network for network in networks if isinstance(network, IPv4Network)),
        *collapse_addresses(network for network in networks if isinstance(network, IPv6Network)),
    )


MediaKind = Literal["audio", "application", "video"]
Codec = Literal["opus", "g722", "pcmu", "pcma", "red", "cn", "telephone-event"]
FingerprintHash = Literal["sha-256", "sha-384", "sha-512"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AudioLimits(_Section):
    """What one side is made to say about the audio that it wants to receive.

    The other side obeys when it sends (RFC 7587, section 7; RFC 8866, section 5.8).
    """

    max_average_bitrate: Annotated[int, Field(ge=6_000, le=510_000)] | None = None
    """Opus, in bit/s: ``maxaveragebitrate``, unless it is lower already."""

    use_inband_fec: bool | None = None
    """Opus: ``useinbandfec``, forward error correction."""

    use_dtx: bool | None = None
    """Opus: ``usedtx``, no packets in silence."""

    stereo: bool | None = None
    """Opus: ``stereo``."""

    bandwidth_as_kbps: Annotated[int, Field(ge=8, le=100_000)] | None = None
    """``b=AS`` in kbit/s, headers of IP, UDP and RTP included, unless it is lower already."""

    bandwidth_tias_bps: Annotated[int, Field(ge=6_000, le=100_000_000)] | None = None
    """``b=TIAS`` in bit/s (RFC 3890), without these headers, unless it is lower already."""

    @property
    def is_set(self) -> bool:
        """Whether anything is to be said at all."""
        return any(value is not None for value in self.__dict__.values())


class Policy(_Section):
    """What sdpfilter allows and changes in an offer and in the answer to it."""

    media: (
        Annotated[frozenset[MediaKind], BeforeValidator(_list), AfterValidator(_with_audio)] | None
    ) = None
    """The kinds of media that may be offered. None: all."""

    forbidden_media: ForbiddenMedia = ForbiddenMedia.REJECT
    """What becomes of the others, and of data channels' sections beyond the number."""

    max_data_sections: Annotated[int, Field(ge=0)] | None = None
    """How many media sections for data channels may be offered; one carries any number of
    channels."""

    audio_codecs: (
        Annotated[frozenset[Codec], BeforeValidator(_list), AfterValidator(_with_voice)] | None
    ) = None
    """The audio codecs that may be used; the helpers ``red``, ``cn`` and ``telephone-event`` have
    to be named as well. None: all."""

    audio_codec_order: Annotated[
        tuple[Codec, ...], BeforeValidator(_list), AfterValidator(_without_repeats)
    ] = ()
    """The codecs to prefer, the best one first. Others stay behind them, in the order offered."""

    offer_candidates: OfferCandidates = OfferCandidates.KEEP
    """Which candidates of the offer the upstream sees. Default addresses (``c=``, ``a=rtcp``) and
    the origin (``o=``) are hidden likewise."""

    mask_related_addresses: bool = False
    """Hide the private address behind a reflexive candidate of the offer (``raddr``, ``rport``)."""

    answer_candidates: AnswerCandidates = AnswerCandidates.KEEP
    """Which transports of the answer the downstream sees."""

    answer_addresses: (
        Annotated[
            tuple[Annotated[Network, PlainValidator(_network)], ...],
            BeforeValidator(_list),
            AfterValidator(_some_networks),
        ]
        | None
    ) = None
    """Ranges in which the addresses of the answer's candidates must be, such as
    ``20.0.0.0/8``. None: any."""

    offer_audio: AudioLimits = AudioLimits()
    """Put into the offer: it limits what the upstream sends."""

    answer_audio: AudioLimits = AudioLimits()
    """Put into the answer: it limits what the downstream sends."""

    min_fingerprint_hash: FingerprintHash | None = None
    """The weakest hash that a DTLS fingerprint may have; one weaker fingerprint is refused."""

    direction: Literal["recvonly", "sendonly"] | None = None
    """The only way in which media may flow, as the downstream sees it. None: both."""

    max_bytes: Annotated[int, Field(ge=1024, le=64 * 1024)] | None = None
    """The largest offer, in bytes. None: the hard limit, as for the next three."""

    max_lines: Annotated[int, Field(ge=32, le=1024)] | None = None
    """The largest number of lines in an offer."""

    max_line_bytes: Annotated[int, Field(ge=256, le=2 * 1024)] | None = None
    """The longest line of an offer, in bytes."""

    max_media_sections: Annotated[int, Field(ge=1, le=16)] | None = None
    """The largest number of media sections in an offer."""

    max_candidates: Annotated[int, Field(ge=0)] | None = None
    """The largest number of candidates in an offer. None: any."""


def _is_inline(value: Any) -> str:
    return "name" if isinstance(value, str) else "inline"


class PolicySettings(_Section):
    """Which policy holds for whom. Of all that apply to a call, each switch is at its strictest."""

    policies: dict[str, Policy] = {}
    """Policies of the operator's own, by name, beside the presets."""

    default: (
        Annotated[
            Annotated[str, Tag("name")] | Annotated[Policy, Tag("inline")],
            Discriminator(_is_inline),
        ]
        | None
    ) = "privacy"
    """The policy for every call: a name, its switches, or none at all."""

    models: dict[str, str] = {}
    """Model groups to names of policies."""

    teams: dict[str, str] = {}
    """Team ids to names of policies."""

    keys: dict[str, str] = {}
    """Aliases of virtual keys to names of policies."""
