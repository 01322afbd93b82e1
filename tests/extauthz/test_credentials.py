import pytest

from extauthz.credentials import bearer_credential, caller_credential
from extauthz.errors import MalformedKeyError, MissingKeyError
from ringback.secrets import Secret

SIGNS = "!#$%&'()*+-./:;<=>?@[\\]^_`{|}~"


@pytest.mark.parametrize(
    ("value", "credential"),
    [
        # Realistic
        pytest.param("Bearer sk-1234", "sk-1234", id="key"),
        pytest.param("Bearer ek_a.b-c_d~e+f/g==", "ek_a.b-c_d~e+f/g==", id="token"),
        pytest.param("bearer sk-1234", "sk-1234", id="lower"),
        # Synthetic
        pytest.param("BEARER sk-1234", "sk-1234", id="upper"),
        pytest.param("bEaReR sk-1234", "sk-1234", id="mixed"),
        pytest.param("Bearer   sk-1234", "sk-1234", id="several-spaces"),
        pytest.param("  Bearer sk-1234 \t", "sk-1234", id="space-around"),
        pytest.param("Bearer x", "x", id="one-character"),
        pytest.param("Bearer Bearer", "Bearer", id="a-key-of-that-name"),
        pytest.param(f"Bearer {SIGNS}", SIGNS, id="all-signs"),
        pytest.param("Bearer " + "k" * 8192, "k" * 8192, id="long"),
    ],
)
def test_a_bearer_credential_is_read(value: str, credential: str) -> None:
    """The scheme is taken in any case; what follows it is the credential, as a secret."""
    found = bearer_credential({"authorization": value})
    assert found == Secret(credential)
    assert repr(found) == "***"


@pytest.mark.parametrize(
    "value",
    [
        # Realistic
        pytest.param("sk-1234", id="bare-key"),
        pytest.param("Basic dXNlcjpwYXNz", id="basic"),
        pytest.param('Bearer "sk-1234"', id="quotes"),
        pytest.param("Bearer sk-1234, Bearer sk-5678", id="two-lines"),
        pytest.param("Bearer sk-1234,Bearer sk-5678", id="two-lines-without-space"),
        pytest.param("Bearer", id="scheme-alone"),
        pytest.param("Bearer ", id="scheme-and-space"),
        # Synthetic
        pytest.param("Bearersk-1234", id="no-space"),
        pytest.param("Bearer:sk-1234", id="colon"),
        pytest.param("Bearer\tsk-1234", id="tab-between"),
        pytest.param("Bearer \tsk-1234", id="space-and-tab-between"),
        pytest.param("Bearer sk-12 34", id="space-inside"),
        pytest.param("Bearer sk-12\t34", id="tab-inside"),
        pytest.param("Bearer sk-1234,", id="comma-at-end"),
        pytest.param(",Bearer sk-1234", id="comma-first"),
        pytest.param("Token sk-1234", id="other-scheme"),
        pytest.param("Bearer realm=x sk-1234", id="parameter"),
        # Pathological
        pytest.param("Bearer sk-schlüssel", id="not-ascii"),
        pytest.param("Bearer sk-1234\N{NO-BREAK SPACE}", id="no-break-space"),
        pytest.param("B\N{LATIN SMALL LETTER E WITH ACUTE}arer sk-1234", id="not-ascii-scheme"),
        pytest.param("Bearer sk-1234\x00", id="nul"),
        pytest.param("Bearer sk-1234\x7f", id="del"),
        pytest.param("Bearer sk-1234\x1c", id="separator-that-strip-removes"),
        pytest.param("\x85Bearer sk-1234", id="next-line-first"),
        pytest.param("Bearer sk-1234\r\nx-evil: 1", id="line-break"),
        pytest.param("Bearer sk-1234\n", id="line-end"),
        pytest.param("Bearer \udc80", id="lone-surrogate"),
    ],
)
def test_anything_else_is_malformed(value: str) -> None:
    """Whatever is not one bearer credential of visible ASCII is refused with 401, unquoted."""
    with pytest.raises(MalformedKeyError) as refused:
        bearer_credential({"authorization": value})
    assert refused.value.http_status == 401
    assert "1234" not in str(refused.value)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": ""}, id="empty"),
        pytest.param({"authorization": " \t "}, id="blank"),
        pytest.param({"api-key": "sk-1234", "x-litellm-api-key": "sk-1"}, id="other-headers"),
    ],
)
def test_no_credential_is_missing(headers: dict[str, str]) -> None:
    """Only Authorization counts; absent and empty are the same."""
    with pytest.raises(MissingKeyError):
        bearer_credential(headers)


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        # Realistic
        pytest.param({"authorization": "Bearer sk-1"}, "sk-1", id="bearer"),
        pytest.param({"authorization": "bearer sk-1"}, "sk-1", id="bearer-lower"),
        pytest.param({"authorization": "Basic sk-1"}, "sk-1", id="basic"),
        pytest.param({"x-litellm-api-key": "sk-1"}, "sk-1", id="litellm-raw"),
        pytest.param({"x-litellm-api-key": "Bearer sk-1"}, "sk-1", id="litellm-bearer"),
        pytest.param({"x-litellm-api-key": "Basic sk-1"}, "sk-1", id="litellm-basic"),
        pytest.param({"api-key": "sk-1"}, "sk-1", id="api-key"),
        pytest.param({"x-api-key": "sk-1"}, "sk-1", id="x-api-key"),
        pytest.param({"x-goog-api-key": "sk-1"}, "sk-1", id="google"),
        pytest.param({"ocp-apim-subscription-key": "sk-1"}, "sk-1", id="azure-apim"),
        # Synthetic
        pytest.param(
            {"authorization": "Bearer sk-2", "x-litellm-api-key": "sk-1"}, "sk-1", id="1-beats-2"
        ),
        pytest.param({"authorization": "Bearer sk-1", "api-key": "sk-2"}, "sk-1", id="2-beats-3"),
        pytest.param({"x-api-key": "sk-2", "api-key": "sk-1"}, "sk-1", id="3-beats-4"),
        pytest.param({"x-goog-api-key": "sk-2", "x-api-key": "sk-1"}, "sk-1", id="4-beats-5"),
        pytest.param(
            {"ocp-apim-subscription-key": "sk-2", "x-goog-api-key": "sk-1"}, "sk-1", id="5-beats-6"
        ),
        pytest.param({"authorization": "", "x-api-key": "sk-1"}, "sk-1", id="empty-is-absent"),
        pytest.param({"authorization": " ", "api-key": " sk-1\t"}, "sk-1", id="blank-is-absent"),
        pytest.param({"x-litellm-api-key": "BEARER sk-1"}, "sk-1", id="scheme-in-any-case"),
        # Pathological
        pytest.param({"x-litellm-api-key": "Bearer"}, "Bearer", id="a-scheme-is-a-raw-key"),
        pytest.param({"authorization": "Basic Basic"}, "Basic", id="a-key-of-that-name"),
    ],
)
def test_a_key_is_read_from_the_first_header(headers: dict[str, str], credential: str) -> None:
    """The first header of LiteLLM's order that is there holds the key."""
    assert caller_credential(headers) == Secret(credential)


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        # Realistic
        pytest.param({"authorization": "sk-1"}, "Authorization: Bearer sk-...", id="bare"),
        pytest.param(
            {"authorization": "Digest x", "x-api-key": "sk-1"},
            "Authorization: Bearer sk-...",
            id="no-fall-through",
        ),
        pytest.param(
            {"x-litellm-api-key": "a b", "authorization": "Bearer sk-1"},
            "x-litellm-api-key: Bearer sk-...",
            id="no-fall-through-from-the-first",
        ),
        pytest.param({"api-key": "Bearer sk-1"}, "api-key: sk-...", id="raw-means-raw"),
        pytest.param(
            {"authorization": "AWS4-HMAC-SHA256 Credential=Bearer sk-1/x"},
            "Authorization: Bearer sk-...",
            id="aws",
        ),
        # Pathological
        pytest.param({"x-api-key": "sk-1,sk-2"}, "x-api-key: sk-...", id="two-lines"),
        pytest.param({"api-key": "sk-\xfc"}, "api-key: sk-...", id="not-ascii"),
    ],
)
def test_a_header_that_cannot_be_read_ends_the_search(headers: dict[str, str], form: str) -> None:
    """Another header does not stand in; the message names the one to mend, and no key."""
    with pytest.raises(MalformedKeyError) as refused:
        caller_credential(headers)
    assert f"`{form}`" in str(refused.value)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "", "api-key": ""}, id="empty"),
        pytest.param({"cookie": "sk-1", "x-key": "sk-1", "openai-api-key": "sk-1"}, id="others"),
    ],
)
def test_no_key_is_missing(headers: dict[str, str]) -> None:
    """Without any of the headers there is no key."""
    with pytest.raises(MissingKeyError, match="Authorization: Bearer"):
        caller_credential(headers)


def test_a_header_of_ones_own_replaces_all_others() -> None:
    """What ``litellm_key_header_name`` names is the only header, and holds ``Bearer`` and a key."""
    others = {"authorization": "Bearer sk-2", "x-litellm-api-key": "sk-3", "api-key": "sk-4"}
    assert caller_credential({"x-foo": "bearer sk-1", **others}, "x-foo") == Secret("sk-1")
    with pytest.raises(MissingKeyError, match=r"`x-foo: Bearer sk-\.\.\.`"):
        caller_credential(others, "x-foo")
    for value in ("sk-1", "Basic sk-1"):
        with pytest.raises(MalformedKeyError, match=r"`x-foo: Bearer sk-\.\.\.`"):
            caller_credential({"x-foo": value, **others}, "x-foo")
