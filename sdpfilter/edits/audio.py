"""What a section says about the audio that its side wants to receive."""

from collections.abc import Mapping
from typing import Final

from ringback.sdppolicy import AudioLimits
from sdpfilter.draft import Draft
from sdpfilter.edits.codecs import Codecs, has_fixed_rate
from sdpfilter.sdp.session import MediaSection

# What G.711 and G.722 send, in bit/s. Chromium refuses an answer that allows them less.
_FIXED_RATE_BPS: Final = 64_000
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
        for number, name in codecs.names.items():
            if name == b"opus":
                _set_parameters(draft, section, codecs, number, wanted)


def limit_bandwidth(
    draft: Draft, section: MediaSection, codecs: Codecs, limits: AudioLimits
) -> None:
    """Set b=AS and b=TIAS (RFC 8866, section 5.8), behind c= where the grammar has them.

    Args:
        draft: Of the section's description.
        section: An audio section.
        codecs: Those that the section keeps.
        limits: What to set; a bandwidth is only lowered, and not below what the preferred codec
            needs.
    """
    floor_bps = _FIXED_RATE_BPS if has_fixed_rate(codecs) else 0
    found = (
        (b"AS", limits.bandwidth_as_kbps, floor_bps // 1000),
        (b"TIAS", limits.bandwidth_tias_bps, floor_bps),
    )
    wanted = {name: max(value, floor) for name, value, floor in found if value is not None}
    if not wanted:
        return
    missing = dict(wanted)
    for bandwidth in section.typed(b"b"):
        modifier, _, value = bandwidth.value.partition(b":")
        if modifier in wanted:
            missing.pop(modifier, None)
            limit = wanted[modifier]
            if not value.strip().isdigit() or int(value) > limit:
                text = b"b=%s:%d" % (modifier, limit)
                draft.replace(bandwidth.lineno, text, "bandwidth", text.decode())
    if missing:
        before = section.typed(b"c") or section.typed(b"i")
        anchor = max((line.lineno for line in before), default=section.first_lineno)
        for modifier, limit in missing.items():
            text = b"b=%s:%d" % (modifier, limit)
            draft.add_after(anchor, text, "bandwidth", text.decode())


def _set_parameters(
    draft: Draft, section: MediaSection, codecs: Codecs, number: bytes, wanted: Mapping[bytes, int]
) -> None:
    start = b"a=fmtp:" + number + b" "
    missing = dict(wanted)
    texts: dict[int, bytes] = {}
    anchor = section.last_lineno
    for lineno, kind, named, parameters in reversed(codecs.lines):
        if named != number:
            continue
        if kind == b"rtpmap":
            anchor = lineno
        elif kind == b"fmtp":
            texts[lineno], found = _with_values(parameters, wanted)
            for key in found:
                missing.pop(key, None)
    added = b";".join(b"%s=%d" % item for item in missing.items())
    detail = " ".join(f"{key.decode()}={value}" for key, value in wanted.items())
    if not texts:
        draft.add_after(anchor, start + added, "opus_parameters", detail)
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
