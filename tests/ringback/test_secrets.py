import copy
import json
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ringback.secrets import Secret

TEXT = "sk-correct-horse-battery"


class Holder(BaseModel):
    """A model with a secret, as settings and configuration have them."""

    secret: Secret | None = None


def test_a_secret_is_shown_only_by_reveal() -> None:
    """Whatever a log line or an error does with a secret, it shows three asterisks."""
    secret = Secret(TEXT)
    assert secret.reveal() == TEXT
    shown = (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        "%s" % secret,  # noqa: UP031  as logging does
        repr([secret, {"key": secret}]),
    )
    assert not any(TEXT in text for text in shown)
    assert shown[:4] == ("***",) * 4


def test_a_secret_in_an_exception_is_hidden() -> None:
    """An exception that holds a secret has a traceback without it."""
    error = ValueError(Secret(TEXT))
    assert TEXT not in "".join(traceback.format_exception(error))


def test_a_secret_does_not_leave_the_process_by_accident() -> None:
    """A secret is neither pickled nor copied into JSON."""
    secret = Secret(TEXT)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="never pickled"):
        copy.deepcopy(secret)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps({"secret": secret})


def test_secrets_compare_by_text_and_with_secrets_only() -> None:
    """Two secrets are equal if their texts are; a secret never equals plain text."""
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret(TEXT + "x")
    assert Secret(TEXT) != TEXT
    assert {Secret(TEXT): 1}[Secret(TEXT)] == 1


def test_an_empty_secret_is_false() -> None:
    """An empty variable counts as no secret."""
    assert not Secret("")
    assert Secret(TEXT)
    assert len(Secret(TEXT)) == len(TEXT)


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_can_be_a_secret(one: str, other: str) -> None:
    """Comparison and bytes work for every text, lone surrogates from the environment included."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert (Secret(one).to_bytes() == Secret(other).to_bytes()) is (one == other)


def test_models_read_text_and_write_asterisks() -> None:
    """Pydantic makes secrets of texts, keeps secrets, and never writes them out."""
    holder = Holder.model_validate({"secret": TEXT})
    assert holder.secret == Secret(TEXT)
    assert Holder(secret=Secret(TEXT)) == holder
    assert Holder.model_validate_json(json.dumps({"secret": TEXT})) == holder
    assert TEXT not in repr(holder)
    assert holder.model_dump() == {"secret": "***"}
    assert holder.model_dump_json() == '{"secret":"***"}'
    assert Holder().model_dump() == {"secret": None}


@pytest.mark.parametrize("value", [12345678, 1.5, True, b"bytes", ["x"], {"x": 1}])
def test_models_refuse_what_is_no_text(value: object) -> None:
    """A number is a mistake, as YAML drops its leading zeros; the message is one line."""
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"secret": value})
    assert [(error["loc"], error["msg"]) for error in caught.value.errors()] == [
        (("secret",), "expected text; a number needs quotes")
    ]
