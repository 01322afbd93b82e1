import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.jsontext import MAX_DEPTH, JsonError, parse_object, serialize_object

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def nested(depth: int) -> bytes:
    """Return an object that is so many containers deep."""
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("text", "content"),
    [
        # Realistic
        pytest.param(b'{"model":"gpt-realtime"}', {"model": "gpt-realtime"}, id="model"),
        pytest.param(b' {"a" : [1, 2.5, true, null]}\r\n', {"a": [1, 2.5, True, None]}, id="space"),
        pytest.param('{"a":"Grüße, 世界 👋"}'.encode(), {"a": "Grüße, 世界 👋"}, id="unicode"),
        pytest.param(b'{"a":"\\ud83d\\udc4b"}', {"a": "👋"}, id="escaped-pair"),
        # Synthetic
        pytest.param(b"{}", {}, id="empty"),
        pytest.param(b'{"a":{"a":1}}', {"a": {"a": 1}}, id="same-name-inside"),
        pytest.param(b'{"a":1e-400}', {"a": 0.0}, id="underflow"),
        pytest.param(b'{"a":' + b"9" * 4300 + b"}", {"a": int("9" * 4300)}, id="big-int"),
        pytest.param(b'{"a":"\\u0000"}', {"a": "\0"}, id="escaped-nul"),
    ],
)
def test_an_object_is_read(text: bytes, content: dict[str, Any]) -> None:
    """A JSON object in UTF-8 is read as Python's own reader does."""
    assert parse_object(text) == content


def test_depth_is_counted() -> None:
    """Containers may stand in each other to the limit, lists and objects alike."""
    assert parse_object(nested(MAX_DEPTH))
    with pytest.raises(JsonError, match="nested deeper than 32 levels"):
        parse_object(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # Realistic
        pytest.param(b"", "is not JSON: Expecting value at line 1, column 1", id="empty"),
        pytest.param(b"model=x", "is not JSON: Expecting value at line 1, column 1", id="form"),
        pytest.param(
            b'{"a":1,\n}',
            "is not JSON: Expecting property name enclosed in double quotes at line 2, column 1",
            id="trailing-comma",
        ),
        pytest.param(
            b'{"a":"\t"}', "is not JSON: Invalid control character at line 1, column 7", id="tab"
        ),
        pytest.param(b'{"a":1}{}', "is not JSON: Extra data at line 1, column 8", id="two"),
        pytest.param(b'["a"]', "is not an object", id="list"),
        pytest.param(b'"a"', "is not an object", id="text"),
        pytest.param(b"null", "is not an object", id="null"),
        # Synthetic
        pytest.param(b'{"a":1,"a":1}', "holds an object with a member twice", id="twice"),
        pytest.param(
            b'{"s":[{"a":1,"\\u0061":2}]}',
            "holds an object with a member twice",
            id="twice-escaped",
        ),
        pytest.param(b'{"a":NaN}', "holds NaN or an infinity, which are no JSON", id="nan"),
        pytest.param(
            b'{"a":[-Infinity]}', "holds NaN or an infinity, which are no JSON", id="infinity"
        ),
        pytest.param(b'{"a":1e400}', "holds a number that is too large", id="overflow"),
        pytest.param(b'{"a":-1E999}', "holds a number that is too large", id="negative-overflow"),
        # Pathological
        pytest.param(b'{"a":' + b"9" * 4301 + b"}", "holds a number that is too long", id="digits"),
        pytest.param(b'{"a":"\\ud800"}', "holds half of a surrogate pair", id="lone-surrogate"),
        pytest.param(b'{"a":["\\udfff"]}', "holds half of a surrogate pair", id="low-surrogate"),
        pytest.param(b'{"\\ud800":1}', "holds half of a surrogate pair", id="surrogate-name"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', "is not UTF-8", id="encoded-surrogate"),
        pytest.param(b'{"a":"\xff"}', "is not UTF-8", id="latin-1"),
        pytest.param('{"a":1}'.encode("utf-16"), "is not UTF-8", id="utf-16"),
        pytest.param('{"a":1}'.encode("utf-16-le"), "is not JSON", id="utf-16-without-mark"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', "is not JSON: Unexpected UTF-8 BOM", id="mark"),
        pytest.param(b'{"a":' + b"[" * 60_000, "is nested deeper than 32 levels", id="stack"),
        pytest.param(
            b'{"a":' + b"[" * 33 + b"]" * 33 + b"}", "is nested deeper than 32 levels", id="lists"
        ),
    ],
)
def test_anything_else_is_refused(text: bytes, problem: str) -> None:
    """What strict readers refuse, or read otherwise, is refused with its reason."""
    with pytest.raises(JsonError) as refused:
        parse_object(text)
    assert str(refused.value).startswith(problem)
    assert refused.value.__cause__ is None


def test_a_problem_quotes_nothing() -> None:
    """Neither the error nor its context shows what was in the text."""
    with pytest.raises(JsonError) as refused:
        parse_object(b'{"key":"sk-marker" oops')
    assert "marker" not in str(refused.value)
    assert refused.value.__suppress_context__


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_read_is_written(content: dict[str, Any]) -> None:
    """Any object survives writing and reading, and is JSON to Python's own reader."""
    text = serialize_object(content)
    assert parse_object(text) == content
    assert json.loads(text) == content
    assert parse_object(json.dumps(content).encode()) == content


@given(
    st.binary(max_size=64) | st.text(max_size=64).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_an_object_or_refused(text: bytes) -> None:
    """No bytes raise anything else, and what is read can be written again."""
    try:
        content = parse_object(text)
    except JsonError:
        return
    assert parse_object(serialize_object(content)) == content


def test_not_a_number_is_never_written() -> None:
    """Writing refuses what reading would."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        serialize_object({"a": float("nan")})
