import pytest

from ringback.peers import check_peer_pattern, is_allowed

GATEWAY = "spiffe://mesh.test/ns/edge/sa/gateway"


@pytest.mark.parametrize(
    ("pattern", "peer", "matches"),
    [
        # Realistic
        pytest.param(GATEWAY, GATEWAY, True, id="itself"),
        pytest.param("spiffe://mesh.test/ns/edge/*", GATEWAY, True, id="namespace"),
        pytest.param("spiffe://mesh.test/*", GATEWAY, True, id="trust-domain"),
        pytest.param("spiffe://mesh.test", "spiffe://mesh.test", True, id="no-path"),
        pytest.param(GATEWAY, "spiffe://mesh.test/ns/edge/sa/other", False, id="other-account"),
        pytest.param(
            "spiffe://mesh.test/ns/edge/*", "spiffe://mesh.test/ns/edges/sa/x", False, id="longer"
        ),
        # Synthetic
        pytest.param("spiffe://mesh.test/*", "spiffe://mesh.test.evil/x", False, id="other-domain"),
        pytest.param("spiffe://mesh.test/*", "spiffe://mesh.test", False, id="domain-itself"),
        pytest.param("spiffe://mesh.test/ns/*", "spiffe://mesh.test/ns/", False, id="empty-below"),
        pytest.param(GATEWAY, GATEWAY + "/x", False, id="below-without-wildcard"),
        pytest.param(GATEWAY, GATEWAY.upper(), False, id="capitals"),
        # Pathological
        pytest.param("spiffe://mesh.test/*", "", False, id="none"),
        pytest.param("spiffe://mesh.test/a.b", "spiffe://mesh.test/aXb", False, id="dot-is-a-dot"),
    ],
)
def test_patterns(pattern: str, peer: str, matches: bool) -> None:
    """An id matches letter by letter, and a pattern that ends in /* whatever is below it."""
    assert check_peer_pattern(pattern) == pattern
    assert is_allowed(peer, ["spiffe://nobody.test/x", pattern]) == matches
    assert not is_allowed(peer, [])


@pytest.mark.parametrize(
    "pattern",
    [
        # Realistic
        "mesh.test/ns/edge/sa/gateway",
        "spiffe://mesh.test/ns/*/sa/gateway",
        "spiffe://mesh.test/",
        "spiffe://mesh.test/ns/edge/sa/gate*",
        "spiffe://*/ns/edge",
        "*",
        # Synthetic
        "https://mesh.test/x",
        "spiffe://Mesh.test/x",
        "spiffe://mesh.test//x",
        "spiffe://mesh.test/../x",
        "spiffe://mesh.test/./x",
        "spiffe://mesh.test/x?y",
        "spiffe://mesh.test/x#y",
        "spiffe://mesh.test:443/x",
        "spiffe://user@mesh.test/x",
        "spiffe:///x",
        "spiffe://*",
        # Pathological
        "",
        "spiffe://mesh.test/x\n",
        "spiffe://mesh.test/" + "x" * 2048,
        "spiffe://mesh.test/ü",
    ],
)
def test_patterns_that_match_nothing_are_refused(pattern: str) -> None:
    """What could be no SPIFFE id, and any other wildcard, is a mistake."""
    with pytest.raises(ValueError, match="spiffe://trust-domain/path"):
        check_peer_pattern(pattern)
