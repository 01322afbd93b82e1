from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import ConfigError
from extauthz.revocations import (
    FORGET_AFTER_S,
    Kind,
    Revocation,
    Revocations,
    load_revocations,
    save_revocations,
)
from helpers.authz import CLAIMS, NOW

TOKEN = replace(CLAIMS, key_alias="web", iat=NOW)
LEEWAY_S = 5


def covers(*entries: tuple[Kind, str, int], **changes: Any) -> bool:
    """Tell whether entries refuse a token."""
    made = Revocations.of(Revocation(*entry) for entry in entries)
    return made.cover(replace(TOKEN, **changes), LEEWAY_S)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        # Realistic
        (("token_id", "token-1", NOW), True),
        (("token_id", "token-2", NOW), False),
        (("key", "web", NOW), True),
        (("key", "a" * 64, NOW), True),
        (("key", "other", NOW), False),
        (("everything", "", NOW), True),
        # Synthetic: the second of the entry, and the clocks of other replicas
        (("everything", "", NOW - LEEWAY_S), True),
        (("everything", "", NOW - LEEWAY_S - 1), False),
        (("key", "web", NOW - LEEWAY_S), True),
        (("key", "web", NOW - LEEWAY_S - 1), False),
        # One token is meant whenever it was made; its id is unique.
        (("token_id", "token-1", 0), True),
        # Whoever opens the text looks at its sealing key.
        (("kid", "2026-11-22", NOW), False),
    ],
)
def test_an_entry_refuses_what_it_names(entry: tuple[Kind, str, int], expected: bool) -> None:
    """A token is refused by its id, by its key's alias or hash and by its time."""
    assert covers(entry) is expected


def test_no_entry_refuses_nothing() -> None:
    """An empty list refuses no token, nor does an alias one that has none."""
    assert not covers()
    assert not covers(("key", "web", NOW), key_alias=None)
    assert not covers(iat=0)


def test_of_two_entries_the_later_one_counts() -> None:
    """To revoke again covers what was made meanwhile, in whatever order entries come."""
    early, late = ("everything", "", NOW - 100), ("everything", "", NOW)
    assert covers(early, late)  # type: ignore[arg-type]
    assert covers(late, early)  # type: ignore[arg-type]
    assert Revocations.of([Revocation("kid", "a", 1), Revocation("kid", "b", 1)]).kids == {"a", "b"}


def test_entries_end_when_their_tokens_do() -> None:
    """An entry is over when no token of its time is good for anything, to end a call included."""
    for kind in ("token_id", "key", "everything"):
        entry = Revocation(kind, "x", NOW)
        assert not entry.is_over(NOW + 7200 + 3600)
        assert entry.is_over(NOW + FORGET_AFTER_S + 1)
    assert not Revocation("kid", "x", 0).is_over(NOW)


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    """Every kind of entry survives, names with odd characters too."""
    entries = (
        Revocation("token_id", "q3bX0k1m_-", NOW),
        Revocation("key", "wéb: team #1", NOW),
        Revocation("kid", "2026-11-22", NOW),
        Revocation("everything", "", NOW),
    )
    file = tmp_path / "revoked.yaml"
    save_revocations(file, entries)
    assert load_revocations(file) == entries
    assert "at: '2026-11-22T08:00:00Z'" in file.read_text()
    save_revocations(file, ())
    assert load_revocations(file) == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        # Realistic
        ("", "expected `revoked:`"),
        ("revoked: [{token_id: x}]", "expected `at` and one of token_id, key, kid, everything"),
        ("revoked: [{token_id: x, kid: y, at: 2026-11-30T14:00:00Z}]", "expected `at` and one"),
        ("revoked: [{token: x, at: 2026-11-30T14:00:00Z}]", "expected `at` and one of"),
        ("revoked: [{kid: x, at: 2026-11-30}]", "expected a time in UTC"),
        ("revoked: [{everything: false, at: 2026-11-30T14:00:00Z}]", "expected `everything: true`"),
        ("revoked: [{key: '', at: 2026-11-30T14:00:00Z}]", "write which"),
        # Synthetic
        ("revoked: [x]", "expected"),
        ("revoked: {}", "expected"),
        ("revoked: []\nmore: x", "expected `revoked:`"),
        ("revoked: [{kid: x, at: 2026-13-30T14:00:00Z}]", "expected a time in UTC"),
        ("revoked: [", "is not YAML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, content: str, problem: str) -> None:
    """A file that does not say clearly what is revoked is refused as a whole."""
    file = tmp_path / "revoked.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_revocations(file)
    assert any(problem in text for text in caught.value.problems), caught.value.problems
