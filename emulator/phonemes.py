"""The sounds that the voice is made of: ARPAbet phonemes with their resonances. Pure data.

Formant frequencies are rounded textbook averages of adult speakers; lengths suit a calm reading.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Silence after a word that ends a phrase.
PAUSE_MS: Final = 240


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of steady sound.

    Attributes:
        length_ms: How long it lasts.
        formants: The first three resonances of the vocal tract, in Hz.
        voiced: Amplitude of the vocal folds, 0..1.
        noise: Amplitude of the breath noise, 0..1.
        noise_hz: Where that noise is strongest.
    """

    length_ms: int
    formants: tuple[int, int, int]
    voiced: float = 0.0
    noise: float = 0.0
    noise_hz: int = 4000


def _vowel(length_ms: int, *formants: tuple[int, int, int]) -> tuple[Segment, ...]:
    return tuple(Segment(length_ms // len(formants), each, voiced=1.0) for each in formants)


def _sonorant(length_ms: int, voiced: float, *formants: int) -> tuple[Segment, ...]:
    first, second, third = formants
    return (Segment(length_ms, (first, second, third), voiced=voiced),)


def _fricative(noise: float, noise_hz: int, voiced: float = 0.0) -> tuple[Segment, ...]:
    length_ms = 70 if voiced else 95
    return (Segment(length_ms, (300, 1600, 2600), voiced, noise, noise_hz),)


def _plosive(noise_hz: int, second_formant: int, *, voiced: bool) -> tuple[Segment, ...]:
    formants = (250, second_formant, 2600)
    if voiced:
        return Segment(40, formants, voiced=0.12), Segment(15, formants, 0.4, 0.25, noise_hz)
    return Segment(50, formants), Segment(25, formants, 0.0, 0.5, noise_hz)


_IY, _IH, _EH, _AE = (290, 2300, 3000), (400, 2000, 2600), (550, 1850, 2550), (690, 1720, 2450)
_AA, _AO, _UH, _UW = (730, 1150, 2450), (570, 860, 2450), (450, 1050, 2300), (320, 950, 2250)
_AH, _ER = (620, 1220, 2500), (480, 1350, 1700)

PHONEMES: Final[dict[str, tuple[Segment, ...]]] = {
    "IY": _vowel(120, _IY),
    "IH": _vowel(85, _IH),
    "EH": _vowel(110, _EH),
    "AE": _vowel(140, _AE),
    "AA": _vowel(140, _AA),
    "AO": _vowel(140, _AO),
    "UH": _vowel(95, _UH),
    "UW": _vowel(130, _UW),
    "AH": _vowel(80, _AH),
    "ER": _vowel(130, _ER),
    "AY": _vowel(170, _AA, _IH),
    "EY": _vowel(150, _EH, _IY),
    "OW": _vowel(160, _AO, _UW),
    "OY": _vowel(180, _AO, _IY),
    "M": _sonorant(75, 0.45, 250, 1000, 2200),
    "N": _sonorant(70, 0.45, 250, 1500, 2500),
    "NG": _sonorant(80, 0.45, 250, 2000, 2600),
    "L": _sonorant(65, 0.65, 360, 1100, 2700),
    "R": _sonorant(70, 0.65, 350, 1150, 1600),
    "W": _sonorant(60, 0.65, 300, 700, 2200),
    "Y": _sonorant(55, 0.60, 280, 2250, 3000),
    "S": _fricative(0.50, 6500),
    "F": _fricative(0.18, 5500),
    "TH": _fricative(0.15, 6000),
    "HH": _fricative(0.22, 1600),
    "Z": _fricative(0.30, 6500, voiced=0.25),
    "V": _fricative(0.10, 5500, voiced=0.35),
    "DH": _fricative(0.08, 6000, voiced=0.40),
    "P": _plosive(1200, 900, voiced=False),
    "T": _plosive(4500, 1800, voiced=False),
    "K": _plosive(2200, 1900, voiced=False),
    "B": _plosive(1000, 900, voiced=True),
    "D": _plosive(4000, 1800, voiced=True),
    "G": _plosive(2000, 1900, voiced=True),
    "JH": (*_plosive(4000, 1800, voiced=True), *_fricative(0.35, 3500, voiced=0.25)),
}


def segments(sounds: Iterable[str]) -> list[Segment]:
    """Return the stretches of sound that phonemes are made of."""
    return [segment for sound in sounds for segment in PHONEMES[sound]]


def duration_ms(sounds: Iterable[str]) -> int:
    """Return how long phonemes last together."""
    return sum(segment.length_ms for segment in segments(sounds))
