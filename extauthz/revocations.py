"""Tokens that are refused before their time, and the file that lists them (``token.revoked_file``).

    revoked:
      - token_id: q3bX0k1mZ4vWn2aE         # one token, by its id in the access log
        at: 2026-11-30T14:00:00Z
      - key: web-team                      # those of a virtual key, by its alias or sha256 ...
        at: 2026-11-30T14:00:00Z           # ... that were made until then
      - kid: 2026-11-29                    # whatever a sealing key has sealed
        at: 2026-11-30T14:00:00Z
      - everything: true                   # all tokens that were made until then
        at: 2026-11-30T14:00:00Z

``ringback tokens`` writes it. Pure but for reading and writing the file.
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from extauthz.callcontrol import HANGUP_GRACE_S
from extauthz.errors import ConfigError
from extauthz.fields import Field
from extauthz.yamlfile import parse_yaml, read_yaml, replace_file
from ringback.settings.sections import PROVIDER_MAX_LIFETIME_S
from ringback.tokens.claims import CallClaims

Kind = Literal["token_id", "key", "kid", "everything"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
# By then no token of before is good for anything, with some room for clocks.
FORGET_AFTER_S: Final = PROVIDER_MAX_LIFETIME_S + HANGUP_GRACE_S + 600
# RFC 3339 section 5.6, in UTC only, in whole seconds.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry.

    Attributes:
        kind: What it names.
        name: Which; empty for everything.
        at: When, in seconds since the epoch. Of a key's tokens and of all, those that were made
            until then are meant.
    """

    kind: Kind
    name: str
    at: int

    def is_over(self, now: float) -> bool:
        """Tell whether nothing is left that it could refuse; of a sealing key nobody can tell."""
        return self.kind != "kid" and self.at + FORGET_AFTER_S < now


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A call that is open, and the token that it was opened with; as in `CallClaims`.

    Attributes:
        iat: When it was opened: its token was not made later.
    """

    jti: str
    iat: float
    key_hash: str
    key_alias: str | None = None


@dataclass(frozen=True, slots=True)
class Revocations:
    """All entries together, so that a look at them takes no time however many there are.

    Attributes:
        kids: Sealing keys; whoever opens tokens and handles looks at them.
    """

    kids: AbstractSet[str] = frozenset()
    _token_ids: AbstractSet[str] = frozenset()
    _until: dict[str, int] = field(default_factory=dict)
    _everything_until: int = 0

    @staticmethod
    def of(entries: Iterable[Revocation]) -> "Revocations":
        """Return what a number of entries say; of two about the same the later one counts."""
        kids, token_ids = set(), set()
        until: dict[str, int] = {}
        everything = 0
        for entry in entries:
            match entry.kind:
                case "kid":
                    kids.add(entry.name)
                case "token_id":
                    token_ids.add(entry.name)
                case "key":
                    until[entry.name] = max(entry.at, until.get(entry.name, 0))
                case "everything":
                    everything = max(entry.at, everything)
        return Revocations(kids, token_ids, until, everything)

    def cover(self, claims: CallClaims | TokenCall, leeway_s: float) -> bool:
        """Tell whether a token is revoked.

        Args:
            claims: Of the token, or the call that it has opened.
            leeway_s: How far the clock of the replica that made it may be ahead.
        """
        latest = max(
            self._everything_until,
            self._until.get(claims.key_hash, 0),
            self._until.get(claims.key_alias or "", 0),
        )
        if claims.jti in self._token_ids:
            return True
        return latest > 0 and claims.iat <= latest + leeway_s


def load_revocations(path: Path) -> tuple[Revocation, ...]:
    """Read a file of revocations.

    Raises:
        ConfigError: If it cannot be read or holds any mistake; lists all of them.
    """
    return _entries_of(read_yaml(path), str(path))


def save_revocations(path: Path, entries: Iterable[Revocation]) -> None:
    """Replace a file of revocations at once.

    Raises:
        ConfigError: If `load_revocations` would refuse the new content; the old file is untouched.
        OSError: If it cannot be written; the old file is untouched.
    """
    listed = [{entry.kind: entry.name or True, "at": format_time(entry.at)} for entry in entries]
    content = yaml.safe_dump({"revoked": listed}, sort_keys=False, allow_unicode=True).encode()
    _entries_of(parse_yaml(content, str(path)), str(path))
    replace_file(path, content)


def format_time(at: int) -> str:
    """Return a time as files and tables have it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _entries_of(content: Any, name: str) -> tuple[Revocation, ...]:
    problems: list[str] = []
    root = Field(content, f"{name}:", problems)
    if not isinstance(content, dict) or content.keys() != {"revoked"}:
        root.problem("expected `revoked:` and nothing else at the top; `revoked: []` for none")
    entries = [_parse_entry(item) for item in root.child("revoked").items()]
    if problems:
        raise ConfigError(problems)
    return tuple(entry for entry in entries if entry is not None)


def _parse_entry(item: Field) -> Revocation | None:
    named = [kind for kind in KINDS if kind in item.entries()]
    if len(named) != 1 or item.entries().keys() != {named[0], "at"}:
        item.problem(f"expected `at` and one of {', '.join(KINDS)}")
        return None
    kind = named[0]
    at = _parse_time(item.child("at"))
    if kind == "everything":
        if not item.child(kind).flag():
            item.problem("expected `everything: true`, or no such entry")
        return Revocation(kind, "", at)
    return Revocation(kind, item.child(kind).required_text("write which"), at)


def _parse_time(place: Field) -> int:
    text = place.text() or ""
    with suppress(ValueError):
        if _TIME.fullmatch(text):
            return int(datetime.fromisoformat(text).timestamp())
    place.problem("expected a time in UTC such as 2026-11-30T14:00:00Z")
    return 0
