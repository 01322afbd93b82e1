"""What a section says about the audio that its side wants to receive."""

from collections.abc import Mapping
from typing import Final

from ringback.sdppolicy import AudioLimits
from sdpfilter.draft import Draft
from sdpfilter.edits.codecs import Codecs, payload_type
from sdpfilter.sdp.session import MediaSection

_OPUS: Final = frozenset({b"opus"})
# Of these a lower value is as good as the wanted one.
_LIMITS: Final = frozenset({b"maxaveragebitrate"})


def limit_opus(draft: Draft, section: MediaSection, codecs: Codecs, limits: AudioLimits) -> None:
    """Set the parameters of Opus (RFC 7587, section 7), in its a=fmtp or in a new one.

    Args:
        draft: Of the section's description.
        section: An audio section.
        codecs: Those that the section keeps.
        limits: What to set; a bitrate is only lowered.
    """
    found = {
        b"maxaveragebitrate": limits.max_average_bitrate,
        b"useinbandfec": limits.use_inband_fec,
        b"usedtx": limits.use_dtx,
        b"stereo": limits.stereo,
    }
    wanted = {key: int(value) for key, value in found.items() if value is not None}
    if wanted:
        for number, names in codecs.items():
            if names == _OPUS:
                _set_parameters(draft, section, number, wanted)


def limit_bandwidth(draft: Draft, section: MediaSection, limits: AudioLimits) -> None:
    """Set b=AS and b=TIAS (RFC 8866, section 5.8), behind c= where the grammar has them.

    Args:
        draft: Of the section's description.
        section: An audio section.
        limits: What to set; a bandwidth is only lowered.
    """
    for modifier, limit in (
        (b"AS", limits.bandwidth_as_kbps),
        (b"TIAS", limits.bandwidth_tias_bps),
    ):
        if limit is not None:
            _set_bandwidth(draft, section, modifier, limit)


def _set_parameters(
    draft: Draft, section: MediaSection, number: bytes, wanted: Mapping[bytes, int]
) -> None:
    start = b"a=fmtp:" + number + b" "
    missing = dict(wanted)
    texts: dict[int, bytes] = {}
    for fmtp in section.attributes(b"fmtp"):
        named, _, parameters = fmtp.value.partition(b" ")
        if payload_type(named) == number:
            texts[fmtp.lineno], found = _with_values(parameters, wanted)
            missing = {key: value for key, value in missing.items() if key not in found}
    added = b";".join(b"%s=%d" % item for item in missing.items())
    detail = " ".join(f"{key.decode()}={value}" for key, value in wanted.items())
    if not texts:
        draft.add_after(_rtpmap_lineno(section, number), start + added, "opus_parameters", detail)
        return
    if added:
        lineno = min(texts)
        head = texts[lineno].rstrip(b"; ")
        texts[lineno] = head + b";" + added if head else added
    for lineno, text in texts.items():
        if draft.text(lineno).partition(b" ")[2] != text:
            draft.replace(lineno, start + text, "opus_parameters", detail)


def _with_values(parameters: bytes, wanted: Mapping[bytes, int]) -> tuple[bytes, set[bytes]]:
    """Return the parameters with the wanted values, and the names of those that were there."""
    found = set()
    parts = parameters.split(b";")
    for at, part in enumerate(parts):
        key, _, value = part.partition(b"=")
        name = key.strip().lower()
        if name in wanted:
            found.add(name)
            if not _is_enough(name, value.strip(), wanted[name]):
                parts[at] = key.rstrip() + b"=%d" % wanted[name]
    return b";".join(parts), found


def _is_enough(name: bytes, value: bytes, wanted: int) -> bool:
    if not value.isdigit():
        return False
    return int(value) <= wanted if name in _LIMITS else int(value) == wanted


def _rtpmap_lineno(section: MediaSection, number: bytes) -> int:
    for rtpmap in section.attributes(b"rtpmap"):
        if payload_type(rtpmap.value.partition(b" ")[0]) == number:
            return rtpmap.lineno
    return section.last_lineno


def _set_bandwidth(draft: Draft, section: MediaSection, modifier: bytes, limit: int) -> None:
    text = b"b=%s:%d" % (modifier, limit)
    rule, detail = "bandwidth", text.decode()
    is_set = False
    for bandwidth in section.typed(b"b"):
        found, _, value = bandwidth.value.partition(b":")
        if found == modifier:
            is_set = True
            if not value.strip().isdigit() or int(value) > limit:
                draft.replace(bandwidth.lineno, text, rule, detail)
    if not is_set:
        before = [*section.typed(b"i"), *section.typed(b"c")]
        anchor = max((line.lineno for line in before), default=section.first_lineno)
        draft.add_after(anchor, text, rule, detail)
