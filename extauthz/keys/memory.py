"""What is remembered of keys, in bounded memory. Pure; the time is whatever the caller says."""

import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from math import inf
from typing import Any, Final

from extauthz.keys.model import VirtualKey

# Unknown keys have a place of their own, so that a flood of them drives no known key out.
MAX_UNKNOWN: Final = 10_000
# Beyond so many, every answer that is under way counts as outdated.
_MAX_FORGOTTEN: Final = 1_000
# An entry's place in a dictionary of many, and its hash.
_ENTRY_BYTES: Final = 400


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer of a source.

    Attributes:
        key: The key; None if the source did not know it.
        asked_at: When the source was asked: whatever changed later is not in the answer.
        retry_at: When to ask again, if the source has failed to tell since then.
    """

    key: VirtualKey | None
    asked_at: float
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long answers may be used, in seconds.

    Attributes:
        ttl_s: Those about known keys.
        unknown_ttl_s: Those about unknown keys.
        stale_s: How much longer than `ttl_s` while the source is down.
    """

    ttl_s: float
    unknown_ttl_s: float
    stale_s: float

    def is_fresh(self, answer: Remembered, now: float, max_age_s: float | None) -> bool:
        """Tell whether an answer may be used without asking again."""
        ttl_s = self.unknown_ttl_s if answer.key is None else self.ttl_s
        return now - answer.asked_at < min(ttl_s, inf if max_age_s is None else max_age_s)

    def is_usable(self, answer: Remembered, now: float) -> bool:
        """Tell whether an answer may be used while the source is down; never that it is unknown."""
        return answer.key is not None and now - answer.asked_at < self.ttl_s + self.stale_s


class KeyMemory:
    """Answers by the hash that was asked for; those used longest ago go first.

    Args:
        max_entries: Known keys.
        max_bytes: What they take, about.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._known: OrderedDict[str, tuple[Remembered, int]] = OrderedDict()
        self._unknown: OrderedDict[str, Remembered] = OrderedDict()
        # A rotated key is found by its old hash, too.
        self._other_hashes: dict[str, set[str]] = {}
        self._forgotten: dict[str, float] = {}
        self._all_forgotten_at = -inf
        self.size_bytes = 0
        """What the known keys take, about."""

    def __len__(self) -> int:
        """Return how many known keys are remembered."""
        return len(self._known)

    @property
    def unknown(self) -> int:
        """How many unknown keys are remembered."""
        return len(self._unknown)

    def get(self, key_hash: str) -> Remembered | None:
        """Return what is remembered of a key, however old it is."""
        if (known := self._known.get(key_hash)) is not None:
            self._known.move_to_end(key_hash)
            return known[0]
        return self._unknown.get(key_hash)

    def put(self, key_hash: str, answer: Remembered) -> None:
        """Remember an answer, unless it is outdated or there is one to a later question."""
        before = self.get(key_hash)
        if before is not None and before.asked_at > answer.asked_at:
            return
        other = key_hash if answer.key is None else answer.key.hash
        if any(self.is_outdated(each, answer.asked_at) for each in (key_hash, other)):
            return
        self._drop(key_hash)
        if answer.key is None:
            self._unknown[key_hash] = answer
            if len(self._unknown) > MAX_UNKNOWN:
                self._unknown.popitem(last=False)
            return
        size = _ENTRY_BYTES + size_of(answer.key)
        self._known[key_hash] = (answer, size)
        self.size_bytes += size
        if other != key_hash:
            self._other_hashes.setdefault(other, set()).add(key_hash)
        while len(self._known) > self._max_entries or self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._known)))

    def postpone(self, key_hash: str, retry_at: float) -> None:
        """Note that a source has failed to tell more of a known key, and when to ask again."""
        if (known := self._known.get(key_hash)) is not None:
            self._known[key_hash] = (replace(known[0], retry_at=retry_at), known[1])

    def is_outdated(self, key_hash: str, asked_at: float) -> bool:
        """Tell whether a key was forgotten since its source was asked."""
        return asked_at <= max(self._all_forgotten_at, self._forgotten.get(key_hash, -inf))

    def forget(self, key_hash: str, now: float) -> None:
        """Drop a key by its own hash, and every answer about it that is still under way."""
        if len(self._forgotten) >= _MAX_FORGOTTEN:
            self._forgotten.clear()
            self._all_forgotten_at = now
        self._forgotten[key_hash] = now
        for each in [key_hash, *self._other_hashes.get(key_hash, ())]:
            self._drop(each)

    def forget_all(self, now: float) -> None:
        """Drop everything, and every answer that is still under way."""
        self._all_forgotten_at = now
        self._forgotten.clear()
        self._known.clear()
        self._unknown.clear()
        self._other_hashes.clear()
        self.size_bytes = 0

    def _drop(self, key_hash: str) -> None:
        self._unknown.pop(key_hash, None)
        answer, size = self._known.pop(key_hash, (None, 0))
        self.size_bytes -= size
        if answer is None or answer.key is None:
            return
        others = self._other_hashes.get(answer.key.hash, set())
        others.discard(key_hash)
        if not others:
            self._other_hashes.pop(answer.key.hash, None)


def size_of(value: Any) -> int:
    """Return how many bytes a value takes with all that it holds, rather too many than too few."""
    size = sys.getsizeof(value)
    if is_dataclass(value):
        return size + sum(size_of(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return size + sum(size_of(name) + size_of(item) for name, item in value.items())
    if isinstance(value, tuple):
        return size + sum(size_of(item) for item in value)
    return size
