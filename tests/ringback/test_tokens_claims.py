from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError

NOW = 1_767_268_800
UPSTREAM_KEY = "ek_68e5f1a3upstream"
FULL = CallClaims(
    jti="k3VYbGJpS0yTqk0H7D2c9w",
    iat=NOW,
    exp=NOW + 600,
    ek=Secret(UPSTREAM_KEY),
    deployment="azure-sweden",
    origin="https://example.openai.azure.com",
    calls_path="/openai/v1/realtime/calls?webrtcfilter=on",
    auth_scheme="bearer",
    model="gpt-realtime",
    asked="voice",
    key_hash="5b6a" * 16,
    key_alias="phone app",
    team="team-7",
    user="jürgen@example.com",
    session_type="realtime",
    bound_origin="https://app.example.com",
)
WIRE = {
    "jti": "k3VYbGJpS0yTqk0H7D2c9w",
    "iat": NOW,
    "exp": NOW + 600,
    "ek": UPSTREAM_KEY,
    "dep": "azure-sweden",
    "org": "https://example.openai.azure.com",
    "pth": "/openai/v1/realtime/calls?webrtcfilter=on",
    "sch": "bearer",
    "mdl": "gpt-realtime",
    "ask": "voice",
    "key": "5b6a" * 16,
    "als": "phone app",
    "tea": "team-7",
    "usr": "jürgen@example.com",
    "ses": "realtime",
    "bnd": "https://app.example.com",
}
OPTIONAL = {"ask", "als", "tea", "usr", "bnd"}


def test_claims_go_over_the_wire_under_short_names() -> None:
    """The members are fixed: replicas of two versions read each other's tokens."""
    assert FULL.to_claims() == WIRE
    assert CallClaims.from_claims(WIRE) == FULL


def test_what_is_not_known_stays_out() -> None:
    """Optional values that are None have no member, and come back as None."""
    bare = replace(FULL, asked=None, key_alias=None, team=None, user=None, bound_origin=None)
    assert bare.to_claims().keys() == WIRE.keys() - OPTIONAL
    assert CallClaims.from_claims(bare.to_claims()) == bare


def test_claims_show_no_upstream_key_and_do_not_change() -> None:
    """The repr hides the ephemeral key, and a claim cannot be changed after the checks."""
    assert UPSTREAM_KEY not in repr(FULL)
    with pytest.raises(FrozenInstanceError):
        FULL.exp = NOW + 7200  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize("member", sorted(WIRE.keys() - OPTIONAL))
def test_a_missing_member_is_refused(member: str) -> None:
    """Every member but the optional ones has to be there."""
    with pytest.raises(TokenError, match="claims"):
        CallClaims.from_claims({name: WIRE[name] for name in WIRE if name != member})


@pytest.mark.parametrize("member", sorted(WIRE))
@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, -1, ["bearer"], {"a": 1}, b"bearer", "x" * 5000],
    ids=lambda value: type(value).__name__,
)
def test_a_member_of_another_type_or_size_is_refused(member: str, value: object) -> None:
    """No member is null, a list, an object, a fraction, or longer than any real value."""
    with pytest.raises(TokenError, match="claims"):
        CallClaims.from_claims(WIRE | {member: value})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        # Realistic
        pytest.param("iss", "ringback", id="unknown-member"),
        pytest.param("org", "https://api.openai.com/", id="origin-with-path"),
        pytest.param("org", "https://api.openai.com:443", id="origin-with-default-port"),
        pytest.param("org", "http://127.0.0.1:80", id="plain-origin-with-default-port"),
        pytest.param("org", "https://API.openai.com", id="origin-in-capitals"),
        pytest.param("org", "api.openai.com", id="origin-without-scheme"),
        pytest.param("pth", "v1/realtime/calls", id="relative-path"),
        pytest.param("bnd", "null", id="opaque-browser-origin"),
        pytest.param("exp", NOW, id="expires-when-issued"),
        pytest.param("jti", "", id="empty-id"),
        pytest.param("dep", "", id="empty-deployment"),
        # Synthetic
        pytest.param("org", "https://user@api.openai.com", id="origin-with-user"),
        pytest.param("org", "wss://api.openai.com", id="origin-with-other-scheme"),
        pytest.param("org", "https://api.openai.com:0", id="origin-with-port-0"),
        pytest.param("sch", "api-key", id="another-scheme"),
        pytest.param("sch", "Bearer", id="scheme-in-capitals"),
        pytest.param("pth", "/v1/realtime/calls#x", id="path-with-fragment"),
        # Pathological: what would become another header or another request upstream
        pytest.param("ek", "ek_x\r\nx-evil: 1", id="key-with-line-break"),
        pytest.param("ek", "ek_x y", id="key-with-space"),
        pytest.param("ek", "", id="empty-key"),
        pytest.param("pth", "/v1 HTTP/1.1\r\nhost: evil", id="path-with-line-break"),
        pytest.param("org", "https://api.openai.com\n", id="origin-with-line-break"),
        pytest.param("org", "https://evil.example\\.openai.com", id="origin-with-backslash"),
        pytest.param("jti", "a/b", id="id-with-slash"),
        pytest.param("jti", "é", id="id-not-ascii"),
    ],
)
def test_a_member_that_no_such_value_can_be_is_refused(member: str, value: object) -> None:
    """Opening is strict although the seal is good: a mistake of ours does not get upstream."""
    with pytest.raises(TokenError, match="claims"):
        CallClaims.from_claims(WIRE | {member: value})


@pytest.mark.parametrize(
    "origin",
    [
        "https://api.openai.com",
        "http://127.0.0.1:8080",
        "https://127.0.0.1:80",
        "http://fake_realtime:443",
        "http://[::1]:9000",
        "https://[2001:db8::1]",
    ],
)
def test_an_origin_has_one_spelling(origin: str) -> None:
    """Scheme, host and a port that is not the default, in lower case."""
    assert CallClaims.from_claims(WIRE | {"org": origin}).origin == origin


def test_a_value_that_cannot_be_sealed_is_named_and_not_shown() -> None:
    """Making claims fails where the value comes from, with the field's name only."""
    with pytest.raises(ValueError, match=r"^ek cannot be sealed") as caught:
        replace(FULL, ek=Secret("ek_x\n" + UPSTREAM_KEY))
    assert UPSTREAM_KEY not in str(caught.value)


LABELS = st.none() | st.text(max_size=512)


@given(
    jti=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
    iat=st.integers(min_value=0, max_value=NOW),
    ek=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=4096),
    text=st.text(min_size=1, max_size=512),
    labels=st.tuples(LABELS, LABELS, LABELS),
)
def test_any_claims_come_back(
    jti: str, iat: int, ek: str, text: str, labels: tuple[str | None, str | None, str | None]
) -> None:
    """Whatever names people give, claims survive the wire."""
    claims = replace(
        FULL,
        jti=jti,
        iat=iat,
        ek=Secret(ek),
        deployment=text,
        model=text,
        key_alias=labels[0],
        team=labels[1],
        user=labels[2],
    )
    assert CallClaims.from_claims(claims.to_claims()) == claims


@given(st.dictionaries(st.sampled_from([*WIRE, "x"]), st.none() | st.integers() | st.text()))
def test_any_other_members_are_refused(members: dict[str, object]) -> None:
    """Members at random are a `TokenError` and no other exception."""
    with pytest.raises(TokenError, match="claims"):
        CallClaims.from_claims(WIRE | {"ek": None} | members | {"iat": "now"})
