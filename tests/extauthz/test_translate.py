from dataclasses import fields
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2

from envoyapi.config.core.v3.base_pb2 import HeaderValueOption
from envoyapi.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoyapi.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from extauthz.decision import Allow, Answer, Decision, Labels, RequestFacts, refuse
from extauthz.errors import MissingKeyError
from extauthz.translate import read_request, write_decision
from ringback import contract
from ringback.calllimits import CallLimits
from ringback.secrets import Secret

LABELS = Labels("minted", "web", "a" * 64, "team-1", "ada", "voice", "d-openai", "token-1")
METADATA = {
    contract.OUTCOME: "minted",
    contract.KEY_ALIAS: "web",
    contract.KEY_HASH: "a" * 64,
    contract.TEAM: "team-1",
    contract.USER: "ada",
    contract.MODEL: "voice",
    contract.DEPLOYMENT: "d-openai",
    contract.TOKEN_ID: "token-1",
}


def check_request(**http: Any) -> CheckRequest:
    """Return what Envoy asks about an HTTP request."""
    request = AttributeContext.HttpRequest(**http)
    return CheckRequest(attributes=AttributeContext(request=AttributeContext.Request(http=request)))


def metadata(response: CheckResponse) -> dict[str, Any]:
    """Return the dynamic metadata."""
    values: dict[str, Any] = MessageToDict(response.dynamic_metadata)
    return values


@pytest.mark.parametrize(
    ("http", "facts"),
    [
        # Realistic
        pytest.param(
            {
                "method": "POST",
                "path": "/v1/realtime/client_secrets",
                "headers": {"authorization": "Bearer sk-1", ":path": "/x"},
                "raw_body": b'{"model":"m"}',
            },
            RequestFacts(
                "POST",
                "/v1/realtime/client_secrets",
                {"authorization": "Bearer sk-1", ":path": "/x"},
                b'{"model":"m"}',
            ),
            id="mint",
        ),
        pytest.param(
            {"method": "POST", "path": "/v1/realtime/calls?model=m&x=?"},
            RequestFacts("POST", "/v1/realtime/calls", {}, query="model=m&x=?"),
            id="query",
        ),
        # Synthetic
        pytest.param(
            {"method": "POST", "path": "/x", "body": '{"a":"ü"}'},
            RequestFacts("POST", "/x", {}, '{"a":"ü"}'.encode()),
            id="body-as-text",
        ),
        pytest.param(
            {"method": "POST", "path": "/x", "raw_body": b"\xff", "body": "other"},
            RequestFacts("POST", "/x", {}, b"\xff"),
            id="body-as-bytes",
        ),
        pytest.param({"path": "?"}, RequestFacts("", "", {}), id="query-alone"),
        pytest.param({}, RequestFacts("", "", {}), id="empty"),
    ],
)
def test_a_request_is_read(http: dict[str, Any], facts: RequestFacts) -> None:
    """Method, path, query, headers and body come over as they are."""
    assert read_request(check_request(**http)) == facts


def test_the_address_of_the_downstream_is_read() -> None:
    """It is the one that Envoy believes, not what a header claims."""
    message = check_request(headers={"x-forwarded-for": "192.0.2.1"})
    message.attributes.source.address.socket_address.address = "203.0.113.7"
    assert read_request(message).address == "203.0.113.7"


def test_an_empty_message_is_a_request_of_nothing() -> None:
    """A CheckRequest without any attributes names nothing that is served."""
    assert read_request(CheckRequest()) == RequestFacts("", "", {})


def test_consent_is_written() -> None:
    """Consent has status OK, the headers to set and to remove, and the mark of the interlock."""
    headers = {"authorization": Secret("Bearer ek_1"), ":path": Secret("/v1/realtime/calls")}
    response = write_decision(Allow(LABELS, headers, ("cookie", "origin")))
    assert response.status.code == code_pb2.OK
    assert response.WhichOneof("http_response") == "ok_response"
    assert [
        (option.header.key, option.header.value, option.header.raw_value, option.append_action)
        for option in response.ok_response.headers
    ] == [
        ("authorization", "Bearer ek_1", b"", HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        (":path", "/v1/realtime/calls", b"", HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
    ]
    assert list(response.ok_response.headers_to_remove) == ["cookie", "origin"]
    assert metadata(response) == METADATA | {contract.CHECKED: True}


@pytest.mark.parametrize("status", [200, 201, 401, 403, 418, 429, 499, 503])
def test_an_answer_is_written(status: int) -> None:
    """An answer is a denial with a status of its own, a success too: only so it is delivered."""
    answer = Answer(status, '{"a":"ü"}'.encode(), LABELS, {"content-type": "application/json"})
    response = CheckResponse.FromString(write_decision(answer).SerializeToString())
    assert response.status.code == code_pb2.PERMISSION_DENIED
    assert response.WhichOneof("http_response") == "denied_response"
    denied = response.denied_response
    assert int(denied.status.code) == status
    assert denied.body == '{"a":"ü"}'
    assert [(option.header.key, option.header.value) for option in denied.headers] == [
        ("content-type", "application/json")
    ]
    assert all(
        option.append_action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        for option in denied.headers
    )
    assert metadata(response) == METADATA | {contract.ANSWERED: True}


def test_labels_that_are_not_known_are_absent() -> None:
    """What nobody knows about a request is not in the metadata, not even empty."""
    assert metadata(write_decision(Allow(Labels("ready")))) == {"outcome": "ready", "checked": True}
    labels = Labels("minted", key_alias="")
    assert metadata(write_decision(Answer(200, b"", labels)))["key_alias"] == ""


def test_limits_of_a_call_are_a_label_of_several_values() -> None:
    """Those that are left to the settings are absent."""
    labels = Labels("call", call_limits=CallLimits(is_required=True, idle_s=30))
    found = metadata(write_decision(Allow(labels)))
    assert found["call_limits"] == {"is_required": True, "idle_s": 30.0}


def test_labels_have_the_names_of_the_contract() -> None:
    """Envoy's access log and sdpfilter read the labels by names that the contract fixes."""
    names = [field.name for field in fields(Labels)]
    assert [getattr(contract, name.upper()) for name in names] == names


@pytest.mark.parametrize(
    "decision",
    [
        pytest.param(Answer(200, b"{}", LABELS), id="minted"),
        pytest.param(refuse(MissingKeyError()), id="refused"),
        pytest.param(Answer(0, b"", Labels("")), id="nothing-set"),
    ],
)
def test_no_answer_is_consent(decision: Decision) -> None:
    """No answer comes out as the empty message or status 0, which Envoy lets pass."""
    message = write_decision(decision).SerializeToString()
    assert message
    assert CheckResponse.FromString(message).status.code != code_pb2.OK


@pytest.mark.parametrize("value", ["one\r\nx-split: two", "one\ntwo", "one\0"])
@pytest.mark.parametrize("kind", ["consent", "answer"])
def test_no_header_becomes_several_lines(kind: str, value: str) -> None:
    """Not every Envoy looks: such a decision is no message at all, and the request is refused."""
    decision: Decision = Answer(200, b"", LABELS, {"x-note": value})
    if kind == "consent":
        decision = Allow(LABELS, {"x-note": Secret(value)})

    with pytest.raises(ValueError, match="more than one line"):
        write_decision(decision)
