import pytest

from helpers.descriptions import OFFERS
from sdpfilter.sdp.attributes import Attribute, find_attributes


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        # Realistic
        pytest.param(b"m=\r\na=mid:0\r\n", b"mid", [Attribute(8, b"0")], id="value"),
        pytest.param(b"m=\r\na=ice-lite\r\n", b"ice-lite", [Attribute(8, b"")], id="flag"),
        pytest.param(b"m=\na=mid:0\na=ice-lite\n", b"mid", [Attribute(8, b"0")], id="lf-value"),
        pytest.param(b"m=\na=ice-lite\n", b"ice-lite", [Attribute(8, b"")], id="lf-flag"),
        pytest.param(
            b"m=\r\na=msid-semantic: WMS\r\n", b"msid-semantic", [Attribute(8, b" WMS")], id="space"
        ),
        pytest.param(
            b"m=\r\na=ssrc:1 a:b\r\na=mid:0\r\na=ssrc:2 c\r\n",
            b"ssrc",
            [Attribute(8, b"1 a:b"), Attribute(10, b"2 c")],
            id="twice",
        ),
        # Synthetic
        pytest.param(
            b"m=\r\na=ice-ufrag:x\r\na=ice:1\r\n", b"ice", [Attribute(9, b"1")], id="prefix"
        ),
        pytest.param(b"m=\r\na=MID:0\r\n", b"mid", [], id="case"),
        pytest.param(b"m=\r\na=x:a=mid:0\r\n", b"mid", [], id="in-a-value"),
        pytest.param(b"m=\r\na=mid:\r\n", b"mid", [Attribute(8, b"")], id="empty-value"),
        pytest.param(b"m=\r\n", b"mid", [], id="none"),
    ],
)
def test_find_attributes(text: bytes, name: bytes, found: list[Attribute]) -> None:
    """Attributes are found by their whole name, with their line and value."""
    assert find_attributes(text, 7, name) == found


def test_attributes_of_a_partial_section() -> None:
    """The values of a Safari offer that is not whole are read like any other."""
    text = OFFERS["offer_safari13_partial_audio_section"]
    assert find_attributes(text, 1, b"mid") == [Attribute(18, b"audio")]
    assert [found.lineno for found in find_attributes(text, 1, b"candidate")] == [10, 11, 12]
