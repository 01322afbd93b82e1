"""A description under edit: lines are replaced, removed and added, the others stay as they came."""

from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Final, NamedTuple

from sdpfilter.sdp.session import SessionDescription, assemble_description

_END_OF_LINE: Final = b"\r\n"


class Edit(NamedTuple):
    """One change, told without a byte of the description: safe to log and to show."""

    rule: str
    """A stable word: ``candidate_dropped``, ``codec_removed``, ..."""

    lineno: int
    """The line of the description as it came, 1-based; what is added stands behind it."""

    detail: str = ""
    """What the rule found or put there: a word of ours or a number."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A description after its edits."""

    data: bytes
    """The bytes to pass on; the very ones that came if there is no edit."""

    description: SessionDescription
    """The same, parsed."""

    edits: tuple[Edit, ...]
    """In the order of the lines."""


class Draft:
    """A description while it is edited. Line numbers are those of the description as it came.

    Args:
        description: It is not changed.
    """

    __slots__ = ("_added", "_edits", "_split", "_texts", "description")

    def __init__(self, description: SessionDescription) -> None:
        self.description = description
        self._split: list[bytes] | None = None
        self._texts: dict[int, bytes] = {}
        self._added: dict[int, list[bytes]] = {}
        self._edits: list[Edit] = []

    @property
    def _lines(self) -> list[bytes]:
        # Most descriptions need no edit, and then no lines.
        if self._split is None:
            self._split = self.description.data.splitlines(keepends=True)
        return self._split

    def text(self, lineno: int) -> bytes:
        """Return a line as it is now, without its terminator; empty if it is removed."""
        found = self._texts.get(lineno)
        return self._lines[lineno - 1].rstrip(_END_OF_LINE) if found is None else found

    def replace(self, lineno: int, text: bytes, rule: str, detail: str = "") -> None:
        """Put another text, without a terminator, in the place of a line's."""
        self._texts[lineno] = text
        self._edits.append(Edit(rule, lineno, detail))

    def remove(self, lineno: int, rule: str, detail: str = "") -> None:
        """Remove a line."""
        self._texts[lineno] = b""
        self._edits.append(Edit(rule, lineno, detail))

    def add_after(self, lineno: int, text: bytes, rule: str, detail: str = "") -> None:
        """Add a line behind another one and what was added there before."""
        self._added.setdefault(lineno, []).append(text)
        self._edits.append(Edit(rule, lineno, detail))

    def finish(self) -> Rewritten:
        """Return the description with its edits.

        Raises:
            LimitError: If the edits made it exceed a limit.
        """
        if not self._edits:
            return Rewritten(self.description.data, self.description, ())
        lines = self._lines.copy()
        for lineno, text in self._texts.items():
            lines[lineno - 1] = text and text + self._terminator(lineno)
        for lineno, texts in self._added.items():
            end = self._terminator(lineno)
            lines[lineno - 1] += b"".join(text + end for text in texts)
        parts = (self.description.session, *self.description.media)
        ends = [part.first_lineno - 1 for part in parts] + [len(lines)]
        description = assemble_description(
            [b"".join(lines[start:end]) for start, end in pairwise(ends)]
        )
        edits = sorted(self._edits, key=attrgetter("lineno"))
        return Rewritten(description.data, description, tuple(edits))

    def _terminator(self, lineno: int) -> bytes:
        return _END_OF_LINE if self._lines[lineno - 1].endswith(_END_OF_LINE) else b"\n"
