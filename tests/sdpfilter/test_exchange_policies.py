import json
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from envoyapi.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from helpers.descriptions import OFFERS
from helpers.exchanges import ANSWER, CALL, CREATED, NOW, OFFER, SDP, SEALER, answer, check_refused
from helpers.procmessages import (
    CONSENT,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from ringback.sdppolicy import Policy, PolicySettings
from sdpfilter.consent import Consent
from sdpfilter.exchange import Continue, Exchange
from sdpfilter.policies import Policies
from sdpfilter.translate import answer_message, read_consent

GATHERED = OFFERS["offer_chromium156_audio_dc_gathered"]
STRICT = Policy.model_validate({"offer_candidates": "drop_all", "answer_candidates": "udp_only"})
POLICIES = Policies(
    PolicySettings(
        default=None,
        policies={
            "udp": Policy.model_validate({"answer_candidates": "udp_only"}),
            "tcp": Policy.model_validate({"answer_candidates": "tcp_443_only"}),
        },
        teams={"t1": "udp"},
    )
)


def for_call(consent: Consent) -> Policy:
    """Return the policy of a call, as the service does."""
    return POLICIES.for_call(consent.model, consent.team, consent.key_alias, consent.sdp_policy)


def begun(policy: Policy) -> Exchange:
    """Return an exchange that has seen the headers of a request, under a policy."""
    exchange = Exchange(SEALER, lambda: NOW, lambda _consent: policy)
    exchange.request_headers(SDP, CALL, end_of_stream=False)
    return exchange


def test_edited_descriptions_take_the_place_of_what_came() -> None:
    """Both bodies go on as edited, with their new length and the names of the rules."""
    exchange = begun(STRICT)
    offer = exchange.request_body(GATHERED, end_of_stream=True)
    assert isinstance(offer, Continue)
    assert offer.body is not None
    assert b"a=candidate" not in offer.body
    assert offer.set_headers == {"content-length": str(len(offer.body))}
    assert set(offer.edits) == {"candidate_dropped", "default_address"}
    assert offer.checked

    answer(exchange, CREATED)
    answered = exchange.response_body(ANSWER, end_of_stream=True)
    assert isinstance(answered, Continue)
    assert answered.body is not None
    assert b" tcp " in ANSWER
    assert b" tcp " not in answered.body
    assert answered.set_headers["content-length"] == str(len(answered.body))
    assert (answered.edits, answered.checked) == (("candidate_dropped",), True)


def test_what_a_policy_leaves_alone_is_not_replaced() -> None:
    """Without an edit Envoy keeps the body that it has."""
    action = begun(STRICT).request_body(OFFER, end_of_stream=True)
    assert action == Continue({"content-length": str(len(OFFER))}, checked=True)


def test_the_policy_is_that_of_the_consent() -> None:
    """Model, team, key and the name that a key asks for decide; the offer has no say."""
    asked: list[Consent] = []

    def policy_for(consent: Consent) -> Policy:
        asked.append(consent)
        return Policy()

    exchange = Exchange(SEALER, lambda: NOW, policy_for)
    named = CONSENT | {"model": "gpt-realtime", "team": "t1", "sdp_policy": "udp"}
    consent = read_consent(request_headers(consent=named))
    exchange.request_headers(SDP, consent, end_of_stream=False)
    exchange.request_body(OFFER, end_of_stream=True)
    assert asked == [replace(CALL, model="gpt-realtime", team="t1", sdp_policy="udp")]


@pytest.mark.parametrize(
    "consent",
    [
        # Realistic
        pytest.param({"sdp_policy": "removed-last-week"}, id="unknown"),
        # Pathological
        pytest.param({"team": "t1", "sdp_policy": "tcp"}, id="contradiction"),
    ],
)
def test_a_policy_that_cannot_be_applied_refuses_the_call(consent: dict[str, Any]) -> None:
    """No call goes on under another policy than the one that was wanted."""
    exchange = Exchange(SEALER, lambda: NOW, for_call)
    exchange.request_headers(SDP, replace(CALL, **consent), end_of_stream=False)
    check_refused(
        exchange.request_body(OFFER, end_of_stream=True),
        503,
        "sdp_policy_unusable",
        "The SDP policy of this call cannot be applied. Tell the operator: "
        "another try will not help.",
    )


def metadata(response: ProcessingResponse) -> Any:
    """Return the dynamic metadata that a response sets."""
    return MessageToDict(response.dynamic_metadata)["ringback.sdpfilter"]


def test_envoy_is_told_the_new_body_and_the_edits() -> None:
    """The whole body is replaced; metadata names the rules and nothing of the description."""
    exchange = Exchange(SEALER, lambda: NOW, lambda _consent: STRICT)
    answer_message(request_headers(), exchange)
    offer = answer_message(request_body(GATHERED), exchange)
    answer_message(response_headers(), exchange)
    answered = answer_message(response_body(ANSWER), exchange)

    for part in (offer.request_body, answered.response_body):
        body = part.response.body_mutation.body
        changed = part.response.header_mutation.set_headers
        lengths = [h.header.raw_value for h in changed if h.header.key == "content-length"]
        assert lengths == [str(len(body)).encode()]
    assert b"a=candidate" not in offer.request_body.response.body_mutation.body
    assert metadata(offer)["checked"] is True
    assert set(metadata(offer)["offer_edits"].split(",")) == {
        "candidate_dropped",
        "default_address",
    }
    assert metadata(answered) == {"answer_checked": True, "answer_edits": "candidate_dropped"}


def test_a_policy_refuses_an_offer_in_its_own_words() -> None:
    """What a policy forbids is a refusal like any other, and the upstream gets nothing."""
    response = answer_message(
        request_body(OFFERS["offer_chromium156_audio_video_dc_initial"]),
        begun(Policy.model_validate({"media": ["audio"], "forbidden_media": "refuse"})),
    )
    assert response.WhichOneof("response") == "immediate_response"
    error = json.loads(response.immediate_response.body)["error"]
    assert response.immediate_response.status.code == 403
    assert error["message"].startswith("The SDP offer is refused: line ")
    assert metadata(response) == {"answered": True, "outcome": error["code"]}
