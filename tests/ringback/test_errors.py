import json

from ringback.errors import ApiError


class TooManyError(ApiError):
    """An error with every part of its own."""

    http_status = 429
    type = "throttling_error"
    code = "rate_limited"
    param = "model"

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        self.headers = {"retry-after": str(retry_after_s)}

    def __str__(self) -> str:
        return f"Wait {self.retry_after_s} s — then try again."


def test_body_is_openais_error_object() -> None:
    """The body holds message, type, param and code in OpenAI's envelope, as UTF-8."""
    body = TooManyError(3).to_body()
    assert (
        body
        == (
            '{"error":{"message":"Wait 3 s — then try again.","type":"throttling_error",'
            '"param":"model","code":"rate_limited"}}'
        ).encode()
    )


def test_an_error_without_parts_is_a_500() -> None:
    """The base is a complete answer of its own: 500 without headers and without a param."""
    error = ApiError()
    assert error.http_status == 500
    assert dict(error.headers) == {}
    assert json.loads(error.to_body())["error"] == {
        "message": "The gateway failed. Try again, and report x-request-id if it goes on.",
        "type": "internal_server_error",
        "param": None,
        "code": "internal_error",
    }


def test_headers_belong_to_the_instance() -> None:
    """Headers of one error are not seen by another."""
    assert TooManyError(3).headers == {"retry-after": "3"}
    assert dict(ApiError().headers) == {}
