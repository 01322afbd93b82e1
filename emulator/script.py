"""What the emulator says: a few sentences, each word with its sounds. Pure data.

Sounds are ARPAbet phonemes; `emulator.voice` turns them into audio.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from emulator.phonemes import PAUSE_MS, duration_ms


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence: its words as they are written, and the sounds of each."""

    words: tuple[str, ...]
    sounds: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.words)

    @property
    def word_ends_ms(self) -> tuple[int, ...]:
        """When each word has been spoken, in milliseconds from the beginning."""
        lengths = (
            duration_ms(sounds) + (PAUSE_MS if word[-1] in ",.!?" else 0)
            for word, sounds in zip(self.words, self.sounds, strict=True)
        )
        return tuple(accumulate(lengths))

    @property
    def duration_ms(self) -> int:
        """How long speaking takes."""
        return self.word_ends_ms[-1]


def _utterance(*words: tuple[str, str]) -> Utterance:
    return Utterance(
        words=tuple(word for word, _ in words),
        sounds=tuple(tuple(sounds.split()) for _, sounds in words),
    )


GREETING: Final = _utterance(
    ("Hello!", "HH AH L OW"),
    ("This", "DH IH S"),
    ("is", "IH Z"),
    ("the", "DH AH"),
    ("Ringback", "R IH NG B AE K"),
    ("emulator.", "EH M Y AH L EY T ER"),
    ("Say", "S EY"),
    ("something,", "S AH M TH IH NG"),
    ("and", "AE N D"),
    ("I", "AY"),
    ("will", "W IH L"),
    ("answer.", "AE N S ER"),
)

ANSWERS: Final = (
    _utterance(
        ("I", "AY"),
        ("heard", "HH ER D"),
        ("you.", "Y UW"),
        ("I", "AY"),
        ("am", "AE M"),
        ("only", "OW N L IY"),
        ("the", "DH AH"),
        ("emulator,", "EH M Y AH L EY T ER"),
        ("so", "S OW"),
        ("I", "AY"),
        ("do", "D UW"),
        ("not", "N AA T"),
        ("know", "N OW"),
        ("what", "W AH T"),
        ("it", "IH T"),
        ("means.", "M IY N Z"),
    ),
    _utterance(
        ("Your", "Y AO R"),
        ("voice", "V OY S"),
        ("came", "K EY M"),
        ("through", "TH R UW"),
        ("just", "JH AH S T"),
        ("fine.", "F AY N"),
        ("This", "DH IH S"),
        ("emulator", "EH M Y AH L EY T ER"),
        ("needs", "N IY D Z"),
        ("no", "N OW"),
        ("key", "K IY"),
        ("and", "AE N D"),
        ("costs", "K AO S T S"),
        ("nothing.", "N AH TH IH NG"),
    ),
    _utterance(
        ("Everything", "EH V R IY TH IH NG"),
        ("works.", "W ER K S"),
        ("The", "DH AH"),
        ("audio", "AO D IY OW"),
        ("goes", "G OW Z"),
        ("straight", "S T R EY T"),
        ("from", "F R AH M"),
        ("you", "Y UW"),
        ("to", "T UW"),
        ("this", "DH IH S"),
        ("emulator", "EH M Y AH L EY T ER"),
        ("and", "AE N D"),
        ("back.", "B AE K"),
    ),
    _utterance(
        ("The", "DH AH"),
        ("emulator", "EH M Y AH L EY T ER"),
        ("has", "HH AE Z"),
        ("only", "OW N L IY"),
        ("four", "F AO R"),
        ("answers,", "AE N S ER Z"),
        ("and", "AE N D"),
        ("this", "DH IH S"),
        ("one", "W AH N"),
        ("was", "W AH Z"),
        ("the", "DH AH"),
        ("last.", "L AE S T"),
    ),
)
