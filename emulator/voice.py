"""A small formant synthesiser: sentences become speech-like audio. Pure numpy.

Harmonics of a gliding pitch, weighted by three moving resonances, give the vowels; noise around a
moving centre gives the consonants. It is meant to be pleasant and clearly a voice, and costs about
a twentieth of a second of CPU time per sentence, once.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from emulator.phonemes import PAUSE_MS, Segment, segments
from emulator.script import Utterance

SAMPLE_RATE: Final = 24000
Samples = npt.NDArray[np.int16]
_Floats = npt.NDArray[np.float64]

# Control values change this often; in between they are interpolated.
_STEP_MS: Final = 5
_STEP: Final = SAMPLE_RATE * _STEP_MS // 1000
_PITCH_HZ: Final = 175.0
_HARMONICS: Final = 26
_FORMANT_WIDTHS_HZ: Final = (90.0, 120.0, 180.0)
_FORMANT_GAINS: Final = (1.0, 0.6, 0.3)
_NOISE_WIDTH_HZ: Final = 1300.0
# About 9 dB below full scale at the loudest sample.
_PEAK: Final = 0.36


@lru_cache(maxsize=32)
def synthesize(utterance: Utterance) -> Samples:
    """Return an utterance as mono 24 kHz samples, exactly ``utterance.duration_ms`` long.

    The array is read-only: callers share it.
    """
    timeline = _timeline(utterance)
    steps = [segment.length_ms // _STEP_MS for segment in timeline]

    def track(values: list[float], smooth_ms: int) -> _Floats:
        return _smooth(np.repeat(np.array(values, dtype=np.float64), steps), smooth_ms // _STEP_MS)

    formants = [track([float(each.formants[i]) for each in timeline], 45) for i in range(3)]
    voiced = track([each.voiced for each in timeline], 25)
    noise = track([each.noise for each in timeline], 15)
    noise_hz = track([float(each.noise_hz) for each in timeline], 30)
    # Lengths of 5 ms multiples are not guaranteed, so the last step is stretched or cut.
    length = utterance.duration_ms * SAMPLE_RATE // 1000
    mixed = _voice(_pitch(voiced), formants, voiced) + _breath(noise, noise_hz)
    mixed = np.pad(mixed, (0, max(0, length - mixed.size)))[:length]
    mixed *= _PEAK * 32767 / max(1e-9, float(np.abs(mixed).max()))
    samples = mixed.astype(np.int16)
    samples.setflags(write=False)
    return samples


def _timeline(utterance: Utterance) -> list[Segment]:
    timeline: list[Segment] = []
    for word, sounds in zip(utterance.words, utterance.sounds, strict=True):
        timeline += segments(sounds)
        if word[-1] in ",.!?":
            timeline.append(Segment(PAUSE_MS, timeline[-1].formants))
    return timeline


def _smooth(values: _Floats, width: int) -> _Floats:
    """Average over a sliding window, so that the mouth moves instead of jumping."""
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _pitch(voiced: _Floats) -> _Floats:
    """Return the pitch per step in Hz: each phrase starts high and falls, syllables lift it."""
    times = np.arange(voiced.size) * _STEP_MS / 1000
    contour = np.empty_like(voiced)
    silent = _smooth((voiced < 0.02).astype(np.float64), PAUSE_MS // _STEP_MS // 2) > 0.9
    bounds = [0, *(np.flatnonzero(np.diff(silent.astype(int)) == 1) + 1).tolist(), voiced.size]
    for start, end in pairwise(bounds):
        contour[start:end] = np.linspace(1.12, 0.86, end - start)
    syllables = 0.05 * (_smooth(voiced, 16) - 0.5)
    vibrato = 0.008 * np.sin(2 * np.pi * 5.2 * times)
    return _PITCH_HZ * (_smooth(contour, 12) + syllables + vibrato)


def _voice(pitch: _Floats, formants: list[_Floats], voiced: _Floats) -> _Floats:
    """Sum the harmonics of the vocal folds, each as loud as the resonances let it be."""
    at_step = np.arange(pitch.size) * _STEP
    at_sample = np.arange(pitch.size * _STEP)
    phase = 2 * np.pi * np.cumsum(np.interp(at_sample, at_step, pitch)) / SAMPLE_RATE
    fundamental = np.exp(1j * phase)
    harmonic = np.ones_like(fundamental)
    total = np.zeros(at_sample.size)
    for number in range(1, _HARMONICS + 1):
        harmonic *= fundamental
        gain = np.zeros_like(pitch)
        for centre, width, weight in zip(formants, _FORMANT_WIDTHS_HZ, _FORMANT_GAINS, strict=True):
            gain += weight / (1 + ((number * pitch - centre) / width) ** 2)
        gain = (gain + 0.02) * voiced / number**0.6
        total += np.interp(at_sample, at_step, gain) * harmonic.imag
    return total


def _breath(noise: _Floats, centre_hz: _Floats) -> _Floats:
    """Return noise that is shaped in the spectrum of overlapping windows of two steps."""
    random = np.random.default_rng(seed=1)
    window = 2 * _STEP
    frequencies = np.fft.rfftfreq(window, 1 / SAMPLE_RATE)
    distance = (frequencies[None, :] - centre_hz[:, None]) / _NOISE_WIDTH_HZ
    spectra = np.fft.rfft(random.standard_normal((noise.size, window)), axis=1)
    windows = np.fft.irfft(spectra * np.exp(-(distance**2)) * noise[:, None], n=window, axis=1)
    windows *= np.hanning(window)
    total = np.zeros((noise.size + 1) * _STEP)
    total[:-_STEP] += windows[:, :_STEP].ravel()
    total[_STEP:] += windows[:, _STEP:].ravel()
    return total[:-_STEP]
