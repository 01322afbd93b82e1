import numpy as np
import pytest

from emulator.echo import Echo
from emulator.script import ANSWERS, GREETING, Utterance
from emulator.voice import SAMPLE_RATE, Samples, synthesize


@pytest.mark.parametrize("utterance", [GREETING, *ANSWERS], ids=lambda each: each.words[-1])
def test_sentences_sound_like_a_voice(utterance: Utterance) -> None:
    """They last as long as the transcript says, at a moderate level, with a voice's spectrum."""
    samples = synthesize(utterance)
    assert samples.size == utterance.duration_ms * SAMPLE_RATE // 1000
    assert 2500 < utterance.duration_ms < 7000
    assert 8000 < np.abs(samples.astype(int)).max() < 16000
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE)
    speech_band = spectrum[(hertz > 100) & (hertz < 4000)].sum()
    assert speech_band > 0.7 * spectrum.sum()
    # No single tone: the strongest 100 Hz hold less than half of the energy.
    strongest = max(
        spectrum[(hertz >= low) & (hertz < low + 100)].sum() for low in range(0, 4000, 50)
    )
    assert strongest < 0.5 * spectrum.sum()


def test_every_word_has_its_time() -> None:
    """Words end one after the other, and the last one with the sentence."""
    for utterance in (GREETING, *ANSWERS):
        ends = utterance.word_ends_ms
        assert len(ends) == len(utterance.words) == len(utterance.text.split())
        assert list(ends) == sorted(set(ends))
        assert ends[-1] == utterance.duration_ms


def test_synthesis_is_repeatable_and_shared() -> None:
    """The same array comes back, and nobody can spoil it."""
    samples = synthesize(GREETING)
    assert synthesize(GREETING) is samples
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1


def test_an_echo_is_late_and_complete() -> None:
    """What was put in comes out 400 ms later, unchanged, and then silence."""
    echo = Echo()
    said: Samples = np.arange(1, SAMPLE_RATE + 1, dtype=np.int16)
    heard = []
    for start in range(0, SAMPLE_RATE * 2, 480):
        echo.put(said[start : start + 480] if start < SAMPLE_RATE else np.zeros(480, np.int16))
        heard.append(echo.take(480))
    together = np.concatenate(heard)
    first = int(np.flatnonzero(together)[0])
    assert SAMPLE_RATE * 0.38 <= first <= SAMPLE_RATE * 0.4
    assert (together[first : first + SAMPLE_RATE] == said).all()


def test_an_echo_does_not_grow_later_and_later() -> None:
    """A microphone that is faster than its listener loses what is older than two seconds."""
    echo = Echo()
    for _ in range(1000):
        echo.put(np.ones(480, dtype=np.int16))
        echo.take(240)
    assert echo._held.size <= SAMPLE_RATE * 2
