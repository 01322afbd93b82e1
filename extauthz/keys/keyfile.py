"""The key file: virtual keys without LiteLLM's database.

    keys:
      - hash: 5f70bf18...          # sha256 of the whole key, in hex; never the key itself
        alias: web-team
        models: [gpt-realtime]     # absent or empty: every model
        expires: 2027-01-31T00:00:00Z
        blocked: false
        team: web
        user: ada
        rpm_limit: 60              # requests in a minute, as in LiteLLM
        max_parallel_requests: 5   # requests at once
        token_lifetime_s: 600      # the longest life of its tokens
        max_call_duration_s: 900   # what each of its calls is held to, where they are supervised
        max_call_idle_s: 60
        max_call_cost: 0.5         # in US dollars
        max_open_calls: 3          # calls that are open at once, where they are supervised
        session_lock: {tools: []}  # what its callers cannot change of a session

Everything but ``hash`` and ``alias`` may be absent. ``ringback keys`` writes it.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from extauthz.errors import ConfigError
from extauthz.fields import Field
from extauthz.keys.model import KeyQuery, Limits, VirtualKey
from extauthz.ownsettings import parse_session_lock
from extauthz.yamlfile import parse_yaml, read_yaml, replace_file
from ringback.calllimits import CallLimits, dollars, microdollars

_FIELDS: Final = (
    "hash",
    "alias",
    "models",
    "expires",
    "blocked",
    "team",
    "user",
    "sdp_policy",
    "rpm_limit",
    "max_parallel_requests",
    "token_lifetime_s",
    "max_call_duration_s",
    "max_call_idle_s",
    "max_call_cost",
    "max_open_calls",
    "session_lock",
)
_HASH: Final = re.compile(r"[0-9a-f]{64}")
# RFC 3339 section 5.6, in UTC only.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)")


class KeyFileSource:
    """Finds keys of a key file; looks at the file only at the start and on `reload`.

    Args:
        path: The key file.

    Raises:
        ConfigError: If the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, VirtualKey] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file again; from then on only what it holds now is known.

        Raises:
            ConfigError: If the file cannot be used; then the keys of before stay in force.
        """
        self._keys = {key.hash: key for key in load_keys(self._path)}

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key with this hash, valid or not, or None."""
        return self._keys.get(query.hash)


def load_keys(path: Path) -> tuple[VirtualKey, ...]:
    """Read a key file.

    Raises:
        ConfigError: If it cannot be read or holds any mistake; lists all of them.
    """
    return _keys_of(read_yaml(path), str(path))


def parse_keys(content: bytes, name: str) -> tuple[VirtualKey, ...]:
    """Parse the content of a key file.

    Args:
        content: YAML in UTF-8.
        name: The file's name, for problems.

    Raises:
        ConfigError: If it holds any mistake; lists all of them.
    """
    return _keys_of(parse_yaml(content, name), name)


def serialize_keys(keys: Iterable[VirtualKey]) -> bytes:
    """Return the content of a key file; what is absent from a key is absent from its entry."""
    content = {"keys": [_entry_of(key) for key in keys]}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()


def save_keys(path: Path, keys: Iterable[VirtualKey]) -> None:
    """Replace a key file at once: a reader sees the old content or the new, never a part.

    The new file is readable by its owner alone (mode 0600).

    Raises:
        ConfigError: If `load_keys` would refuse the new content; the old file is untouched.
        OSError: If it cannot be written; the old file is untouched.
    """
    content = serialize_keys(keys)
    parse_keys(content, str(path))
    replace_file(path, content)


def _keys_of(content: Any, name: str) -> tuple[VirtualKey, ...]:
    problems: list[str] = []
    root = Field(content, f"{name}:", problems)
    if not isinstance(content, dict) or content.keys() != {"keys"}:
        root.problem("expected `keys:` and nothing else at the top")
    keys = [_parse_key(entry) for entry in root.child("keys").items()]
    _check_unique(root, keys)
    if problems:
        raise ConfigError(problems)
    return tuple(keys)


def _parse_key(entry: Field) -> VirtualKey:
    for name, field in entry.entries().items():
        if name not in _FIELDS:
            field.problem(f"there is no such field; the fields are {', '.join(_FIELDS)}")
    key_hash = entry.child("hash")
    digest = key_hash.required_text("write the sha256 of the key, or use `ringback keys create`")
    if digest and not _HASH.fullmatch(digest):
        key_hash.problem(
            "expected the sha256 of the key, 64 hex digits in lower case, not the key itself"
        )
    return VirtualKey(
        hash=digest,
        alias=entry.child("alias").required_text("write a name for the key"),
        models=_parse_models(entry.child("models")),
        expires=_parse_expires(entry.child("expires")),
        blocked=entry.child("blocked").flag(),
        team=entry.child("team").text(),
        user=entry.child("user").text(),
        sdp_policy=entry.child("sdp_policy").text(),
        limits=Limits(
            rpm=entry.child("rpm_limit").count(),
            parallel=entry.child("max_parallel_requests").count(),
        ),
        token_lifetime_s=entry.child("token_lifetime_s").count(),
        call_limits=CallLimits(
            max_duration_s=entry.child("max_call_duration_s").positive_number(),
            idle_s=entry.child("max_call_idle_s").positive_number(),
            max_cost_microdollars=microdollars(entry.child("max_call_cost").positive_number()),
        ),
        max_open_calls=entry.child("max_open_calls").count(),
        session_lock=parse_session_lock(entry.child("session_lock")),
    )


def _parse_models(field: Field) -> tuple[str, ...]:
    hint = "write a model name, or remove the entry"
    return tuple(item.required_text(hint) for item in field.items())


def _parse_expires(field: Field) -> datetime | None:
    text = field.text()
    if text is None:
        return None
    with suppress(ValueError):
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    field.problem("expected a time in UTC such as 2027-01-31T00:00:00Z")
    return None


def _check_unique(root: Field, keys: list[VirtualKey]) -> None:
    for name in ("hash", "alias"):
        seen: dict[str, int] = {}
        for index, key in enumerate(keys):
            first = seen.setdefault(getattr(key, name), index)
            if first != index and getattr(key, name):
                root.child(f"keys[{index}].{name}").problem(f"is the same as that of keys[{first}]")


def _entry_of(key: VirtualKey) -> dict[str, Any]:
    entry = {
        "hash": key.hash,
        "alias": key.alias,
        "models": list(key.models),
        "expires": None if key.expires is None else key.expires.isoformat().replace("+00:00", "Z"),
        "blocked": key.blocked,
        "team": key.team,
        "user": key.user,
        "sdp_policy": key.sdp_policy,
        "rpm_limit": key.limits.rpm,
        "max_parallel_requests": key.limits.parallel,
        "token_lifetime_s": key.token_lifetime_s,
        "max_call_duration_s": key.call_limits.max_duration_s,
        "max_call_idle_s": key.call_limits.idle_s,
        "max_call_cost": dollars(key.call_limits.max_cost_microdollars),
        "max_open_calls": key.max_open_calls,
        "session_lock": key.session_lock.to_object(),
    }
    # A limit of 0 says something, other values of no truth do not.
    return {name: value for name, value in entry.items() if value or type(value) is int}
