"""What every refusal has, whoever makes it."""

from typing import Final

from helpers.http11 import Message

# Allowed by envoy.yaml as it is, and by the default of the settings.
ORIGIN: Final = "http://localhost:3000"
EXPOSED: Final = "location, x-request-id, retry-after"


def check_refusal(answer: Message, status: int, code: str | None = None) -> None:
    """Check that an answer to a request from `ORIGIN` is an error that its page can read.

    Args:
        answer: The answer.
        status: The expected one.
        code: The expected ``error.code``, unless it does not matter.
    """
    assert answer.status == status, answer.raw
    assert answer.header("content-type") == "application/json"
    assert code in {None, answer.error["code"]}, answer.error
    check_readable(answer)


def check_readable(answer: Message) -> None:
    """Check the headers that every answer to a request from `ORIGIN` has."""
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert answer.header("access-control-expose-headers") == EXPOSED
    assert answer.header("x-request-id")
    assert answer.header("server") == "ringback"
    assert not [name for name in answer.names if name.startswith(("x-envoy-", "x-ringback-"))]
