import json

import pytest

from extauthz.errors import (
    AuthError,
    ConfigError,
    KeySourceUnavailableError,
    MalformedKeyError,
    MissingKeyError,
    ModelRequiredError,
    NotServedError,
    UnknownModelError,
)
from ringback.errors import ApiError

CHALLENGE = {"www-authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code", "headers", "message"),
    [
        pytest.param(
            AuthError(),
            401,
            "auth_error",
            None,
            "unauthorized",
            CHALLENGE,
            "This request is not authorized. Send a valid key as `Authorization: Bearer sk-...`.",
            id="auth",
        ),
        pytest.param(
            MissingKeyError(),
            401,
            "auth_error",
            None,
            "key_missing",
            CHALLENGE,
            "No API key was sent. Send yours as `Authorization: Bearer sk-...`.",
            id="missing",
        ),
        pytest.param(
            MalformedKeyError(),
            401,
            "auth_error",
            None,
            "key_malformed",
            CHALLENGE,
            "The API key cannot be read. Send it as `Authorization: Bearer sk-...`: one space, "
            "the whole key, no quotes.",
            id="malformed",
        ),
        pytest.param(
            UnknownModelError(),
            400,
            "invalid_request_error",
            "model",
            "model_unknown",
            {},
            "No deployment serves the requested model. Check its name, or ask your platform team "
            "for one that is served here.",
            id="model-unknown",
        ),
        pytest.param(
            ModelRequiredError(),
            400,
            "invalid_request_error",
            "model",
            "model_required",
            {},
            'The request names no model. Send {"session":{"type":"realtime","model":"..."}}.',
            id="model-required",
        ),
        pytest.param(
            NotServedError(),
            404,
            "invalid_request_error",
            None,
            "not_found",
            {},
            "There is nothing at this path.",
            id="not-served",
        ),
        pytest.param(
            KeySourceUnavailableError(),
            503,
            "no_db_connection",
            None,
            "key_source_unavailable",
            {"retry-after": "1"},
            "The API key cannot be checked at the moment. Try again shortly.",
            id="source-unavailable",
        ),
    ],
)
def test_what_the_downstream_is_told(
    *,
    error: ApiError,
    status: int,
    kind: str,
    param: str | None,
    code: str,
    headers: dict[str, str],
    message: str,
) -> None:
    """Each error has LiteLLM's status and type, a stable code, and says what to do next."""
    assert error.http_status == status
    assert dict(error.headers) == headers
    assert json.loads(error.to_body()) == {
        "error": {"message": message, "type": kind, "param": param, "code": code}
    }


def test_a_bad_configuration_lists_its_problems() -> None:
    """The text that ends a start has one line for each problem."""
    error = ConfigError(["a.yaml: model_list: one", "a.yaml: two"])
    assert str(error) == (
        "The configuration cannot be used:\n  a.yaml: model_list: one\n  a.yaml: two"
    )
