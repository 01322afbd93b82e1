import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extauthz.errors import ConfigError
from extauthz.keys import KeyQuery, Limits, VirtualKey
from extauthz.keys.keyfile import KeyFileSource, load_keys, parse_keys, save_keys, serialize_keys
from ringback.calllimits import CallLimits
from ringback.sessionlock import parse_lock

H1, H2 = "1a" * 32, "2b" * 32
FULL = VirtualKey(
    hash=H1,
    alias="web",
    models=("voice", "*"),
    expires=datetime(2027, 1, 31, tzinfo=UTC),
    blocked=True,
    team="t",
    user="u",
    limits=Limits(rpm=60, parallel=0),
    token_lifetime_s=600,
    call_limits=CallLimits(None, 900.0, 60.0, 500_000),
    max_open_calls=3,
    session_lock=parse_lock({"tools": [], "max_output_tokens": {"max": 9}}),
)
FULL_TEXT = f"""
keys:
  - hash: {H1}
    alias: web
    models: [voice, "*"]
    expires: 2027-01-31T00:00:00Z
    blocked: true
    team: t
    user: u
    rpm_limit: 60
    max_parallel_requests: 0
    token_lifetime_s: 600
    max_call_duration_s: 900
    max_call_idle_s: 60
    max_call_cost: 0.5
    max_open_calls: 3
    session_lock: {{tools: [], max_output_tokens: {{max: 9}}}}
  - {{hash: {H2}, alias: app, models: , expires: , team: ""}}
"""


def test_a_key_file_is_read() -> None:
    """Every field is read; what is absent or empty has its default."""
    assert parse_keys(FULL_TEXT.encode(), "f") == (FULL, VirtualKey(H2, "app"))
    assert parse_keys(b"keys: []", "f") == ()
    assert parse_keys(b"keys:", "f") == ()


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("2027-01-31T00:00:00Z", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T23:59:59.5+00:00", datetime(2027, 1, 31, 23, 59, 59, 500000, tzinfo=UTC)),
        ("'2027-01-31T00:00:00Z'", datetime(2027, 1, 31, tzinfo=UTC)),
    ],
)
def test_times_are_rfc_3339_in_utc(text: str, expires: datetime) -> None:
    """A time may be quoted or not."""
    (key,) = parse_keys(f"keys: [{{hash: {H1}, alias: a, expires: {text}}}]".encode(), "f")
    assert key.expires == expires


def entry(**fields: str) -> str:
    """Return a key file of one entry, with some fields changed."""
    values = {"hash": H1, "alias": "web"} | fields
    return "keys: [{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}]"


TIME = "f: keys[0].expires: expected a time in UTC such as 2027-01-31T00:00:00Z"
TOP = "f: expected `keys:` and nothing else at the top"
HASH = (
    "f: keys[0].hash: expected the sha256 of the key, 64 hex digits in lower case, "
    "not the key itself"
)
NO_HASH = "f: keys[0].hash: is missing; write the sha256 of the key, or use `ringback keys create`"
PRINTABLE = "holds line breaks or other characters that cannot be shown; remove them"


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        # Realistic
        pytest.param("", [TOP], id="empty"),
        pytest.param("[]", [TOP], id="list"),
        pytest.param("keys: []\nkey: []", [TOP], id="other-section"),
        pytest.param("keys: {}", ["f: keys: expected a list, one `- ` per entry"], id="no-list"),
        pytest.param(entry(hash="sk-marker"), [HASH], id="the-key-itself"),
        pytest.param(entry(hash=H1.upper()), [HASH], id="upper-case"),
        pytest.param(
            entry(hash="", alias=""),
            [
                NO_HASH,
                "f: keys[0].alias: is missing; write a name for the key",
            ],
            id="empty-fields",
        ),
        pytest.param(
            entry(expire="2027-01-31T00:00:00Z"),
            [
                (
                    "f: keys[0].expire: there is no such field; the fields are hash, alias, "
                    "models, expires, blocked, team, user, sdp_policy, rpm_limit, "
                    "max_parallel_requests, token_lifetime_s, max_call_duration_s, "
                    "max_call_idle_s, max_call_cost, max_open_calls, session_lock"
                )
            ],
            id="misspelt",
        ),
        pytest.param(entry(expires="2027-01-31"), [TIME], id="date"),
        pytest.param(entry(expires="2027-01-31T00:00:00"), [TIME], id="no-zone"),
        pytest.param(entry(expires="2027-01-31T00:00:00+01:00"), [TIME], id="other-zone"),
        pytest.param(entry(expires="2027-13-31T00:00:00Z"), [TIME], id="no-such-month"),
        pytest.param(entry(expires="2027-01-31T00:00:60Z"), [TIME], id="leap-second"),
        pytest.param(
            entry(blocked='"false"'), ["f: keys[0].blocked: expected true or false"], id="text"
        ),
        pytest.param(
            entry(rpm_limit="-1", max_parallel_requests="1.5"),
            [
                "f: keys[0].rpm_limit: expected a whole number from 0 on",
                "f: keys[0].max_parallel_requests: expected a whole number from 0 on",
            ],
            id="limits",
        ),
        pytest.param(
            entry(models="voice"),
            ["f: keys[0].models: expected a list, one `- ` per entry"],
            id="models-no-list",
        ),
        pytest.param(
            entry(models='[gpt-*, "", 1]'),
            [
                "f: keys[0].models[1]: is missing; write a model name, or remove the entry",
                "f: keys[0].models[2]: expected text; put it in quotes",
            ],
            id="models",
        ),
        pytest.param(
            f"keys: [{{hash: {H1}, alias: a}}, {{hash: {H1}, alias: a}}]",
            [
                "f: keys[1].hash: is the same as that of keys[0]",
                "f: keys[1].alias: is the same as that of keys[0]",
            ],
            id="twice",
        ),
        # Pathological
        pytest.param(
            entry(user="u" * 257),
            ["f: keys[0].user: is longer than 256 characters; shorten it"],
            id="too-long",
        ),
        pytest.param(entry(team='"a\\nb"'), [f"f: keys[0].team: {PRINTABLE}"], id="line-break"),
        pytest.param(
            "keys: [1, {1: 2}]",
            [
                f"f: keys[{index}]{field}"
                for index in (0, 1)
                for field in (
                    ": expected `name: value` lines",
                    ".hash: is missing; write the sha256 of the key, or use `ringback keys create`",
                    ".alias: is missing; write a name for the key",
                )
            ],
            id="no-entries",
        ),
        pytest.param(
            entry(team="os.environ/marker", user="5"),
            ["f: keys[0].user: expected text; put it in quotes"],
            id="no-references",
        ),
    ],
)
def test_every_mistake_is_named(content: str, problems: list[str]) -> None:
    """All mistakes are listed with their places, and no value is shown."""
    with pytest.raises(ConfigError) as caught:
        parse_keys(content.encode(), "f")
    assert caught.value.problems == problems
    assert "marker" not in str(caught.value)


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
KEYS = st.builds(
    VirtualKey,
    hash=st.binary(min_size=32, max_size=32).map(bytes.hex),
    alias=NAMES,
    models=st.lists(NAMES.filter(lambda name: "*" not in name)).map(tuple),
    expires=st.none() | st.datetimes(timezones=st.just(UTC)),
    blocked=st.booleans(),
    team=st.none() | NAMES,
    user=st.none() | NAMES,
    limits=st.builds(
        Limits, rpm=st.none() | st.integers(0, 9999), parallel=st.none() | st.integers(0, 9999)
    ),
    max_open_calls=st.none() | st.integers(0, 9999),
)


@given(st.lists(KEYS, unique_by=(lambda key: key.hash, lambda key: key.alias), max_size=4))
def test_keys_survive_the_file(keys: list[VirtualKey]) -> None:
    """What is written is read back as it was."""
    assert parse_keys(serialize_keys(keys), "f") == tuple(keys)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["keys", "hash", "alias", "models", "expires"]), inner)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_any_yaml_is_keys_or_refused(content: object) -> None:
    """Whatever the content, it is read or refused with ConfigError."""
    with suppress(ConfigError):
        parse_keys(yaml.safe_dump({"keys": content}).encode(), "f")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """Saving follows links, leaves one file of mode 0600, and nothing else behind."""
    folder = tmp_path / "real"
    folder.mkdir()
    link = tmp_path / "keys.yaml"
    link.symlink_to(folder / "keys.yaml")
    save_keys(link, [FULL])
    save_keys(link, [FULL, VirtualKey(H2, "app")])
    assert link.is_symlink()
    assert [path.name for path in folder.iterdir()] == ["keys.yaml"]
    assert stat.S_IMODE((folder / "keys.yaml").stat().st_mode) == 0o600
    assert load_keys(link) == (FULL, VirtualKey(H2, "app"))


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    """What could not be read back is not written, and a failed write leaves no traces."""
    path = tmp_path / "keys.yaml"
    save_keys(path, [FULL])
    with pytest.raises(ConfigError, match=r"keys\.yaml: keys\[1\]\.alias: is the same"):
        save_keys(path, [FULL, VirtualKey(H2, "web")])
    assert load_keys(path) == (FULL,)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        save_keys(tmp_path / "folder", [FULL])
    assert sorted(found.name for found in tmp_path.iterdir()) == ["folder", "keys.yaml"]


async def test_a_reload_replaces_all_keys_or_none(tmp_path: Path) -> None:
    """A good new file replaces every key; a bad one is reported and changes nothing."""
    path = tmp_path / "keys.yaml"
    save_keys(path, [FULL])
    source = KeyFileSource(path)
    assert await source.find(KeyQuery(H1)) == FULL
    assert await source.find(KeyQuery(H2)) is None

    path.write_text("keys: [{hash: sk-marker, alias: x}]")
    with pytest.raises(ConfigError, match=r"keys\[0\]\.hash: expected") as caught:
        source.reload()
    assert "sk-marker" not in str(caught.value)
    assert await source.find(KeyQuery(H1)) == FULL

    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        source.reload()
    assert await source.find(KeyQuery(H1)) == FULL

    save_keys(path, [VirtualKey(H2, "app")])
    source.reload()
    assert await source.find(KeyQuery(H1)) is None
    assert await source.find(KeyQuery(H2)) == VirtualKey(H2, "app")


def test_a_bad_file_stops_the_start(tmp_path: Path) -> None:
    """Without a file there is no source."""
    with pytest.raises(ConfigError):
        KeyFileSource(tmp_path / "missing.yaml")
