"""Errors of routing."""

import math

from ringback.errors import ApiError


class DeploymentsCoolingError(ApiError):
    """Every deployment of the model failed lately and is left alone for a moment: 503, or 429.

    Args:
        wait_s: Until the first of them is tried again.
        are_limited: Whether all of them are left alone because of rate limits: then 429.
    """

    code = "deployments_cooling"

    def __init__(self, wait_s: float, *, are_limited: bool) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        self.are_limited = are_limited
        self.http_status = 429 if are_limited else 503
        self.type = "throttling_error" if are_limited else "service_unavailable"
        self.headers = {"retry-after": str(self.wait_s)}

    def __str__(self) -> str:
        reason = "is at its provider's rate limit" if self.are_limited else "failed lately"
        return (
            f"Every deployment of the model {reason}. "
            f"Try again in {self.wait_s} s, as the retry-after header says."
        )
