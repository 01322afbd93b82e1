import json

from extauthz.access.errors import ModelDeniedError
from extauthz.decision import Allow, Labels, refuse
from extauthz.errors import MissingKeyError
from ringback.secrets import Secret


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
