import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.access.wildcards import matches


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        # Realistic
        pytest.param("voice", "voice", True, id="exact"),
        pytest.param("voice", "voices", False, id="longer"),
        pytest.param("gpt-4o-*", "gpt-4o-realtime", True, id="at-the-end"),
        pytest.param("gpt-4o-*", "gpt-4o", False, id="shorter-than-the-beginning"),
        pytest.param("openai/*", "openai/gpt-realtime", True, id="provider"),
        pytest.param("openai/*", "gpt-realtime", False, id="provider-of-a-bare-name"),
        pytest.param("*-realtime", "gpt-4o-realtime", True, id="at-the-beginning"),
        pytest.param("gpt-*-realtime", "gpt-4o-realtime", True, id="inside"),
        pytest.param("gpt-4.1-*", "gpt-4.1-mini", True, id="dot-is-a-dot"),
        pytest.param("gpt-4.1-*", "gpt-4x1-mini", False, id="dot-is-not-any-character"),
        # Synthetic
        pytest.param("*", "", True, id="star-and-nothing"),
        pytest.param("a*", "a", True, id="star-for-nothing"),
        pytest.param("*a*b*", "xaybz", True, id="several"),
        pytest.param("*a*b*", "xbyaz", False, id="several-in-another-order"),
        pytest.param("ab*ba", "aba", False, id="no-overlap-of-both-ends"),
        pytest.param("a*a*a", "aa", False, id="no-overlap-inside"),
        pytest.param("a**b", "ab", True, id="two-at-once"),
        pytest.param("Voice*", "voice-1", False, id="case"),
        # Pathological
        pytest.param("", "", True, id="both-empty"),
        pytest.param("", "voice", False, id="empty-pattern"),
        pytest.param("[a-z]+*", "voice", False, id="no-regular-expression"),
        pytest.param("a|*", "a", False, id="no-alternative"),
        pytest.param("*\n*", "a\nb", True, id="line-break"),
        pytest.param("voice*", "voice\nx", True, id="star-for-a-line-break"),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, name: str, expected: bool) -> None:
    """Each ``*`` stands for any characters or none, everything else for itself."""
    assert matches(pattern, name) is expected


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5), st.text(max_size=5))
def test_a_pattern_matches_what_it_was_made_of(parts: list[str], filling: str) -> None:
    """Whatever is put in the place of the stars makes a name that matches."""
    clean = [part.replace("*", "") for part in parts]
    assert matches("*".join(clean), filling.join(clean) if len(clean) > 1 else clean[0])


def test_many_stars_take_no_time() -> None:
    """A pattern that makes regular expressions backtrack for ages is decided at once."""
    began = time.process_time()
    assert not matches("*a" * 200 + "b", "a" * 512)
    assert time.process_time() - began < 0.5
