from typing import Any

import pytest
from prometheus_client import REGISTRY

from helpers.exchanges import ANSWER, OFFER, SEALER
from helpers.procmessages import (
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from ringback.sdppolicy import Policy, PolicySettings
from sdpfilter.consent import Consent
from sdpfilter.exchange import Exchange
from sdpfilter.policies import Policies
from sdpfilter.translate import answer_message

PRIVATE = b"a=candidate:1 1 udp 2122260223 192.168.1.7 50000 typ host\r\n"


POLICIES = Policies(PolicySettings())


def policy_for(consent: Consent) -> Policy:
    """Return the policy of the settings as they come."""
    return POLICIES.for_call(consent.model, consent.team, consent.key_alias, consent.sdp_policy)


def value(name: str, **labels: str) -> float:
    """Return a counter."""
    return REGISTRY.get_sample_value(f"ringback_sdp_{name}_total", labels) or 0


@pytest.mark.parametrize(
    ("messages", "name", "labels"),
    [
        # Realistic
        pytest.param(
            [request_headers(), request_body(OFFER)],
            "checked",
            {"description": "offer"},
            id="offer-passes",
        ),
        pytest.param(
            [
                request_headers(),
                request_body(OFFER),
                response_headers(),
                response_body(ANSWER),
            ],
            "checked",
            {"description": "answer"},
            id="answer-passes",
        ),
        pytest.param(
            [request_headers(), request_body(OFFER + PRIVATE)],
            "edits",
            {"description": "offer", "rule": "candidate_dropped"},
            id="offer-changed",
        ),
        pytest.param(
            [request_headers(), request_body(b"v=1\r\n")],
            "refusals",
            {"description": "offer", "code": "sdp_not_sdp"},
            id="offer-refused",
        ),
        pytest.param(
            [request_headers(), request_body(OFFER), response_headers(), response_body(b"v=1\r\n")],
            "refusals",
            {"description": "answer", "code": "sdp_invalid_answer"},
            id="answer-refused",
        ),
    ],
)
def test_what_becomes_of_a_description_is_counted(
    messages: list[Any], name: str, labels: dict[str, str]
) -> None:
    """Operators see how many offers and answers pass, which rules change or refuse them."""
    before = value(name, **labels)
    exchange = Exchange(SEALER, lambda: 0, policy_for)
    for message in messages:
        answer_message(message, exchange)
    assert value(name, **labels) == before + 1
