from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extauthz import yamlfile
from extauthz.errors import ConfigError
from extauthz.yamlfile import MAX_DEPTH, MAX_FILE_BYTES, parse_yaml, read_yaml


def bomb(lines: int, *, merge: bool = False) -> bytes:
    """Return YAML in which each line stands for the one before it ten times."""
    times_ten = ",".join(["*a%d"] * 10)
    pattern = "a%d: &a%d {<<: [" + times_ten + "]}" if merge else "a%d: &a%d [" + times_ten + "]"
    first = "a0: &a0 {x: 1}"
    rest = [pattern % (n, n, *[n - 1] * 10) for n in range(1, lines)]
    return "\n".join([first, *rest]).encode()


@pytest.mark.parametrize(
    ("content", "value"),
    [
        # Realistic
        pytest.param("", None, id="empty"),
        pytest.param("a: [b, 1, 2.5, true, null]", {"a": ["b", 1, 2.5, True, None]}, id="plain"),
        pytest.param("v: 2025-08-28", {"v": "2025-08-28"}, id="date-is-text"),
        pytest.param("t: 2027-01-31T00:00:00Z", {"t": "2027-01-31T00:00:00Z"}, id="time-is-text"),
        pytest.param("a: yes\nb: 0x1F", {"a": True, "b": 31}, id="yaml-1.1-scalars"),
        pytest.param("a: &a {x: 1}\nb: *a", {"a": {"x": 1}, "b": {"x": 1}}, id="alias"),
        pytest.param(
            "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}",
            {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}},
            id="merge-own-value-wins",
        ),
        pytest.param("b: {<<: [{x: 1}, {x: 2, y: 2}]}", {"b": {"x": 1, "y": 2}}, id="merge-list"),
        pytest.param("\ufeffa: 1", {"a": 1}, id="byte-order-mark"),
        # Synthetic
        pytest.param("a: !!str 1", {"a": "1"}, id="tag-str"),
        pytest.param("!!map {1: !!seq [x]}", {1: ["x"]}, id="tag-collections"),
        pytest.param("? &k x\n: 1\ny: *k", {"x": 1, "y": "x"}, id="anchored-key"),
    ],
)
def test_plain_data_is_read(content: str, value: Any) -> None:
    """Plain YAML is read as YAML 1.1 means it, but dates stay text."""
    assert parse_yaml(content.encode(), "f") == value


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        # Realistic
        pytest.param(
            b"a: 1\nb: 2\na: 3",
            ["f: line 3: this key stands twice in its mapping; remove one"],
            id="key-twice",
        ),
        pytest.param(
            b"a:\n b: 1\n  c: 2",
            ["f: line 3, column 4: is not YAML; check indentation, colons and quotes here"],
            id="indentation",
        ),
        pytest.param(
            b"a: 1\n---\nb: 1",
            ["f: line 2: a second document begins; one file holds one"],
            id="two-documents",
        ),
        pytest.param(
            b"a: *b", ["f: line 1: this alias has no anchor before it"], id="alias-of-nothing"
        ),
        pytest.param(
            b"a: !vault x",
            ["f: line 1: YAML tags are not supported; put the value in quotes"],
            id="own-tag",
        ),
        # Pathological
        pytest.param(b"\xff", ["f: is not UTF-8 text"], id="not-utf-8"),
        pytest.param(
            b"a: \x00",
            ["f: is not YAML; check indentation, colons and quotes here"],
            id="nul",
        ),
        pytest.param(
            b"x" * (MAX_FILE_BYTES + 1), ["f: is larger than 8388608 bytes"], id="too-large"
        ),
        pytest.param(
            b"!!python/object:os.x {}",
            ["f: line 1: YAML tags are not supported; remove it"],
            id="python-object",
        ),
        pytest.param(
            b"a: &a [*a]", ["f: line 1: this alias has no anchor before it"], id="holds-itself"
        ),
        pytest.param(
            b"[" * 100_000,
            [f"f: line 1: is nested more than {MAX_DEPTH} levels deep"],
            id="deep-list",
        ),
        pytest.param(
            b"{a: " * 100_000,
            [f"f: line 1: is nested more than {MAX_DEPTH} levels deep"],
            id="deep-mapping",
        ),
        pytest.param(
            bomb(12), ["f: line 7: holds more than 500000 values, aliases expanded"], id="bomb"
        ),
        pytest.param(
            bomb(12, merge=True),
            ["f: line 7: holds more than 500000 values, aliases expanded"],
            id="merge-bomb",
        ),
        pytest.param(b"<<: 1", ["f: line 1: only mappings can be merged"], id="merge-of-number"),
        pytest.param(b"? [a]\n: 1", ["f: line 1: a key must be plain text"], id="list-as-key"),
        pytest.param(
            b"a: " + b"1" * 65 + b"\nb: !!int x\nc: !!bool x\nd: !!int ''",
            [
                f"f: line {line}: is no such number or truth value; put text in quotes"
                for line in (1, 2, 3, 4)
            ],
            id="no-such-scalars",
        ),
        pytest.param(
            b'a: !x 1\nb: "',
            [
                "f: line 1: YAML tags are not supported; put the value in quotes",
                "f: line 2, column 5: is not YAML; check indentation, colons and quotes here",
            ],
            id="several",
        ),
    ],
)
def test_what_is_no_plain_data_is_refused(content: bytes, problems: list[str]) -> None:
    """Every mistake is named with its line and what to do; nothing is quoted."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(content, "f")
    assert caught.value.problems == problems


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
        st.text("ab:- \n&*!<{}[],?\"'|>#.1~%", max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_data_or_refused(content: bytes) -> None:
    """Whatever the content, the reader returns data or raises ConfigError."""
    with suppress(ConfigError):
        parse_yaml(content, "f")


def test_the_slow_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libyaml the parser in Python gives the same data, and bounds depth too."""
    monkeypatch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)
    assert parse_yaml(b"a: &a {x: [1]}\nb: {<<: *a}", "f") == {"a": {"x": [1]}, "b": {"x": [1]}}
    with pytest.raises(ConfigError, match="nested more than"):
        parse_yaml(b"[" * 10_000, "f")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("missing.yaml", "No such file or directory", id="missing"),
        pytest.param(".", "Is a directory", id="folder"),
        pytest.param("nul\0", "ValueError", id="nul"),
    ],
)
def test_what_cannot_be_opened_is_a_problem(tmp_path: Path, name: str, reason: str) -> None:
    """A file that cannot be opened is one problem that says why."""
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / name)
    assert caught.value.problems == [f"{tmp_path / name}: cannot be read: {reason}"]


def test_no_more_than_the_limit_is_read() -> None:
    """A file without an end is refused at the size limit."""
    with pytest.raises(ConfigError, match="is larger than"):
        read_yaml(Path("/dev/zero"))
