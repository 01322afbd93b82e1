"""What a caller is told that asks too often."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from extauthz.limits.rules import Counter
from ringback.errors import ApiError

_HOLDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "key": "This API key",
        "team": "The team of this API key",
        "member": "The user of this API key, as a member of its team,",
        "user": "The user of this API key",
        "organization": "The organization of this API key",
        "project": "The project of this API key",
        "deployment": "The deployment of this model",
    }
)


class RateLimitedError(ApiError):
    """A limit of requests per minute is reached: 429 with ``retry-after``, LiteLLM's type.

    Args:
        counter: Whose limit, and which.
        wait_s: Until the window ends, in seconds.
    """

    http_status = 429
    type = "throttling_error"
    code = "rate_limited"

    def __init__(self, counter: Counter, wait_s: float) -> None:
        self.counter = counter
        self.retry_after_s = max(1, math.ceil(wait_s))
        self.headers = {"retry-after": str(self.retry_after_s)}

    def __str__(self) -> str:
        subject = "for this model" if self.counter.is_of_model else "for all models together"
        return (
            f"{_HOLDERS[self.counter.holder]} is limited to {max(0, self.counter.limit)} per "
            f"minute, counting requests {subject}. Try again in {self.retry_after_s} s, or ask "
            "your platform team for a higher limit."
        )


class TooManyAtOnceError(ApiError):
    """``max_parallel_requests`` is reached: 429 with ``retry-after``, LiteLLM's type.

    Args:
        counter: Whose limit.
    """

    http_status = 429
    type = "throttling_error"
    code = "too_many_at_once"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def __str__(self) -> str:
        return (
            f"{_HOLDERS[self.counter.holder]} is limited to {max(0, self.counter.limit)} requests "
            "at a time. Try again when one of them is answered, or ask your platform team for a "
            "higher limit."
        )


class TooManyOpenCallsError(ApiError):
    """As many calls are open as may be: 429 with ``retry-after``, LiteLLM's type.

    Args:
        counter: Whose limit.
    """

    http_status = 429
    type = "throttling_error"
    code = "too_many_open_calls"
    # Nobody can tell when a call ends.
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "5"})

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def __str__(self) -> str:
        return (
            f"{_HOLDERS[self.counter.holder]} is limited to {max(0, self.counter.limit)} open "
            "calls at a time. Try again when one of them has ended, or ask your platform team for "
            "a higher limit."
        )


class OpenCallsUncheckedError(ApiError):
    """Calls have to be supervised, and nobody can tell how many are open: 503."""

    http_status = 503
    type = "service_unavailable"
    code = "supervision_unavailable"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "Open calls are limited, and cannot be counted at the moment. Try again shortly."


class LimitsUnavailableError(ApiError):
    """Nobody can tell how often a caller with a limit has asked: 503."""

    http_status = 503
    type = "service_unavailable"
    code = "limits_unavailable"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "The limits of this API key cannot be checked at the moment. Try again shortly."
