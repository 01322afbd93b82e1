"""What a failed request to a deployment means: for the next try, for its cooldown, for the caller.

A caller's own mistake, which another deployment would refuse just as well, is none of its failures.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, TypeGuard, get_args

from ringback.errors import ApiError
from ringback.upstream import UpstreamAnswerError, UpstreamFailedError

FailureKind = Literal["rate_limited", "refused", "failed"]
_KINDS: Final[frozenset[str]] = frozenset(get_args(FailureKind))
# Refusals of a provider that tell of itself and not of the request.
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
# What helps a caller most comes first: to wait, to try again, to ask the operator.
_USEFUL: Final = (
    "upstream_refused_request",
    "upstream_timeout",
    "upstream_failed",
    "upstream_unreachable",
)


def is_failure(error: ApiError) -> bool:
    """Tell whether the deployment failed, so that another one is tried.

    Connection errors, timeouts, 5xx, what cannot be used, 401 and 403 on the gateway's own key,
    408, 409 and 429; not 400, 404, 422 and the like.
    """
    if isinstance(error, UpstreamAnswerError):
        return error.http_status in {_CONFLICT, _TOO_MANY}
    return True


def is_kind(text: str) -> TypeGuard[FailureKind]:
    """Tell whether a text is one of the kinds of failures."""
    return text in _KINDS


def kind_of(error: ApiError) -> FailureKind:
    """Return what a failure counts as."""
    if error.http_status == _TOO_MANY:
        return "rate_limited"
    return "refused" if error.code == "upstream_refused" else "failed"


def retry_after_s(error: ApiError) -> float | None:
    """Return how long the provider wants to be left alone, None if it does not say."""
    text = error.headers.get("retry-after", "")
    is_providers = isinstance(error, UpstreamAnswerError | UpstreamFailedError)
    return float(text) if is_providers and text.isdigit() else None


def most_useful(errors: Sequence[ApiError]) -> ApiError:
    """Return which of several failures the caller is told.

    The provider's own words about a limit, then what another try might mend, and only if every
    deployment refused the gateway's key, that. Of the same kind the first.

    Args:
        errors: At least one, in the order in which they came.
    """
    return min(errors, key=_rank)


def _rank(error: ApiError) -> float:
    return _USEFUL.index(error.code) if error.code in _USEFUL else math.inf
