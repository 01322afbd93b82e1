"""A policy applied to an offer and to the answer to it.

Only what the policy names is changed; every other byte stays as it came.
"""

from ringback.sdppolicy import Policy
from sdpfilter.draft import Rewritten
from sdpfilter.sdp.session import SessionDescription


def apply_to_offer(offer: SessionDescription, policy: Policy) -> Rewritten:
    """Apply a policy to an offer that `check_offer` has passed."""
    raise NotImplementedError


def apply_to_answer(
    answer: SessionDescription, offer: SessionDescription, policy: Policy
) -> Rewritten:
    """Apply a policy to an answer that `check_answer` has passed."""
    raise NotImplementedError
