import json

import pytest

from extauthz.decision import Allow, Labels, bearer_credential, refuse
from extauthz.errors import MalformedKeyError, MissingKeyError, ModelDeniedError
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


def test_an_error_becomes_an_answer() -> None:
    """An error answers with its status, body and headers; its code is the outcome."""
    answer = refuse(MissingKeyError())
    assert answer.status == 401
    assert answer.headers == {"content-type": "application/json", "www-authenticate": "Bearer"}
    assert json.loads(answer.body)["error"]["code"] == "key_missing"
    assert answer.labels == Labels("key_missing")


def test_an_answer_keeps_what_was_known() -> None:
    """Labels that were known by then stay with the answer."""
    labels = Labels("model_denied", key_alias="web", team="t")
    answer = refuse(ModelDeniedError(), labels)
    assert answer.status == 403
    assert answer.labels is labels


def test_a_decision_shows_no_credential() -> None:
    """A decision can be logged with the headers of the upstream request."""
    allow = Allow(Labels("call"), {"authorization": Secret("Bearer ek_marker")}, ("cookie",))
    assert "ek_marker" not in f"{allow}{allow!r}"
