import pytest

from extauthz.routing.failures import is_failure, kind_of, most_useful, retry_after_s
from ringback.errors import ApiError
from ringback.upstream import (
    UpstreamFailedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
    error_of,
)


def answered(status: int, **headers: str) -> ApiError:
    """Return the error that a provider's answer is; ``_`` in names for ``-``."""
    return error_of(status, {name.replace("_", "-"): v for name, v in headers.items()}, b"")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        # Realistic
        pytest.param(UpstreamUnreachableError(), "failed", id="refused-connection"),
        pytest.param(UpstreamTimeoutError(), "failed", id="timeout"),
        pytest.param(UpstreamFailedError(), "failed", id="garbage"),
        pytest.param(answered(401), "refused", id="401"),
        pytest.param(answered(403), "refused", id="403"),
        pytest.param(answered(408), "failed", id="408"),
        pytest.param(answered(409), "failed", id="409"),
        pytest.param(answered(429), "rate_limited", id="429"),
        pytest.param(answered(500), "failed", id="500"),
        pytest.param(answered(503), "failed", id="503"),
        # Synthetic
        pytest.param(answered(302), "failed", id="redirect"),
        pytest.param(answered(407), "failed", id="proxy"),
        pytest.param(answered(599), "failed", id="599"),
    ],
)
def test_failures_of_a_deployment(error: ApiError, kind: str) -> None:
    """Whatever says nothing about the caller's request is the deployment's own failure."""
    assert is_failure(error)
    assert kind_of(error) == kind


@pytest.mark.parametrize("status", [400, 402, 404, 405, 413, 415, 422, 451])
def test_mistakes_of_a_caller(status: int) -> None:
    """What another deployment would refuse as well is no failure of this one."""
    assert not is_failure(answered(status))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(answered(429, retry_after="7"), 7, id="429"),
        pytest.param(answered(503, retry_after="2"), 2, id="503"),
        pytest.param(answered(429), None, id="none"),
        pytest.param(answered(429, retry_after="soon"), None, id="a-date"),
        pytest.param(UpstreamUnreachableError(), None, id="our-own"),
    ],
)
def test_only_a_providers_retry_after_counts(error: ApiError, expected: float | None) -> None:
    """How long to wait is what the provider says, not what we tell callers ourselves."""
    assert retry_after_s(error) == expected


LIMITED, TIMEOUT, FAILED = answered(429), UpstreamTimeoutError(), UpstreamFailedError()
UNREACHABLE, REFUSED, OTHER = (
    UpstreamUnreachableError(),
    UpstreamRefusedError(),
    ApiError(),
)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        pytest.param([REFUSED, UNREACHABLE, FAILED, TIMEOUT, LIMITED], LIMITED, id="limit"),
        pytest.param([REFUSED, UNREACHABLE, FAILED, TIMEOUT], TIMEOUT, id="timeout"),
        pytest.param([REFUSED, UNREACHABLE, FAILED], FAILED, id="failed"),
        pytest.param([REFUSED, UNREACHABLE], UNREACHABLE, id="unreachable"),
        pytest.param([REFUSED, OTHER], REFUSED, id="first-of-equals"),
        pytest.param([REFUSED], REFUSED, id="one"),
    ],
)
def test_the_most_useful_error(errors: list[ApiError], expected: ApiError) -> None:
    """The caller is told what it can do: wait, try again, or ask the operator."""
    assert most_useful(errors) is expected
