"""Between Envoy's ext_proc messages and the exchange; knows no rules.

Shapes: envoy/service/ext_proc/v3/external_processor.proto.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from envoyapi.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    CommonResponse,
    HeaderMutation,
    HttpHeaders,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from envoyapi.type.v3.http_status_pb2 import HttpStatus, StatusCode
from ringback.calllimits import CallLimits
from ringback.contract import (
    ANSWER_CHECKED,
    ANSWER_EDITS,
    ANSWERED,
    ASKED,
    AUTHZ_NAMESPACE,
    CALL_LIMITS,
    CHECKED,
    DEPLOYMENT,
    KEY_ALIAS,
    KEY_HASH,
    MODEL,
    OFFER_EDITS,
    ORGANIZATION,
    OUTCOME,
    OUTCOME_CALL,
    OUTCOME_KEY_CALL,
    OUTCOME_READY,
    PROC_NAMESPACE,
    PROJECT,
    SDP_POLICY,
    SEALED_KEY,
    SESSION_LOCK,
    SLOT_ID,
    TEAM,
    TOKEN_ID,
    UPSTREAM_ORIGIN,
    USER,
)
from sdpfilter.consent import Consent, Purpose
from sdpfilter.exchange import (
    Action,
    Continue,
    Exchange,
    Refuse,
    UnexpectedMessageError,
)
from sdpfilter.metrics import count

# Where Envoy puts attributes.
_ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
# The attribute that comes with a request's body if its headers did not come.
_CONTENT_TYPE: Final = "request.headers['content-type']"
# The attribute that tells who answers, and its value if the upstream does.
_CODE_DETAILS: Final = "response.code_details"
_VIA_UPSTREAM: Final = "via_upstream"
_PURPOSES: Final = {
    OUTCOME_CALL: Purpose.CALL,
    OUTCOME_KEY_CALL: Purpose.KEY_CALL,
    OUTCOME_READY: Purpose.READY,
}
_Option = HeaderValueOption.HeaderAppendAction


def take_message(message: ProcessingRequest, exchange: Exchange) -> Action:
    """Return what is done about one message of Envoy.

    Args:
        message: What Envoy sent.
        exchange: The state of its stream.

    Raises:
        UnexpectedMessageError: If the message cannot be answered; the stream must be aborted.
    """
    match kind := message.WhichOneof("request"):
        case "request_headers":
            part = message.request_headers
            return exchange.request_headers(
                read_headers(part), read_consent(message), end_of_stream=part.end_of_stream
            )
        case "request_body":
            return _request_body(message, exchange)
        case "response_headers":
            part = message.response_headers
            return exchange.response_headers(
                read_headers(part),
                from_upstream=_is_from_upstream(message),
                end_of_stream=part.end_of_stream,
            )
        case "response_body":
            body = message.response_body
            return exchange.response_body(body.body, end_of_stream=body.end_of_stream)
        case _:
            raise UnexpectedMessageError(f"there is no answer to {kind}")


def answer_message(message: ProcessingRequest, exchange: Exchange) -> ProcessingResponse:
    """Return the one answer to one message of Envoy, where nobody has to be asked in between.

    Raises:
        UnexpectedMessageError: As `take_message` does.
    """
    return write_answer(message, take_message(message, exchange))


def write_answer(message: ProcessingRequest, action: Action) -> ProcessingResponse:
    """Return the one answer to a message, and count it."""
    kind = message.WhichOneof("request") or ""
    count(kind, action)
    return _refuse(action) if isinstance(action, Refuse) else _allow(kind, action)


def read_headers(part: HttpHeaders) -> dict[str, str]:
    """Return headers by name in lower case; the values of repeated ones are joined by a comma."""
    headers: dict[str, str] = {}
    for header in part.headers.headers:
        name = header.key.lower()
        # Bytes outside ASCII stay what they are; no header that we read may hold any.
        value = header.value or header.raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def read_consent(message: ProcessingRequest) -> Consent | None:
    """Return what extauthz decided about the stream; None if it did not consent.

    Consent to a call names what its handle will hold; without that it is none.
    """
    decided = message.metadata_context.filter_metadata.get(AUTHZ_NAMESPACE)
    if decided is None or not decided.fields[CHECKED].bool_value:
        return None
    purpose = _PURPOSES.get(decided.fields[OUTCOME].string_value)
    if purpose is None:
        return None
    consent = Consent(
        purpose,
        deployment=decided.fields[DEPLOYMENT].string_value,
        key_hash=decided.fields[KEY_HASH].string_value,
        token_id=decided.fields[TOKEN_ID].string_value,
        model=decided.fields[MODEL].string_value,
        team=decided.fields[TEAM].string_value,
        key_alias=decided.fields[KEY_ALIAS].string_value,
        user=decided.fields[USER].string_value,
        organization=decided.fields[ORGANIZATION].string_value,
        project=decided.fields[PROJECT].string_value,
        upstream_origin=decided.fields[UPSTREAM_ORIGIN].string_value,
        sealed_key=decided.fields[SEALED_KEY].string_value,
        slot_id=decided.fields[SLOT_ID].string_value,
        asked=decided.fields[ASKED].string_value,
        limits=CallLimits.from_label(dict(decided.fields[CALL_LIMITS].struct_value.items())),
        session_lock=decided.fields[SESSION_LOCK].string_value,
        sdp_policy=decided.fields[SDP_POLICY].string_value or None,
    )
    if purpose is not Purpose.READY and not (
        consent.deployment and consent.key_hash and consent.token_id
    ):
        return None
    return consent


def _request_body(message: ProcessingRequest, exchange: Exchange) -> Action:
    body = message.request_body
    content_type = _attribute(message, _CONTENT_TYPE)
    if content_type:
        # Envoy sends attributes with the first message.
        return exchange.request(
            content_type, read_consent(message), body.body, end_of_stream=body.end_of_stream
        )
    return exchange.request_body(body.body, end_of_stream=body.end_of_stream)


def _attribute(message: ProcessingRequest, name: str) -> str:
    attributes = message.attributes.get(_ATTRIBUTES)
    return attributes.fields[name].string_value if attributes is not None else ""


def _is_from_upstream(message: ProcessingRequest) -> bool:
    details = _attribute(message, _CODE_DETAILS)
    if not details:
        raise UnexpectedMessageError(f"{_CODE_DETAILS} is missing from response_attributes")
    return details == _VIA_UPSTREAM


def _allow(part: str, action: Continue) -> ProcessingResponse:
    common = CommonResponse(status=CommonResponse.CONTINUE)
    if action.set_headers or action.remove_headers:
        common.header_mutation.CopyFrom(
            HeaderMutation(
                set_headers=_header_options(action.set_headers),
                remove_headers=action.remove_headers,
            )
        )
    if action.body is not None:
        common.body_mutation.body = action.body
    response = ProcessingResponse()
    # All four have one common response; only its wrapper differs.
    getattr(response, part).response.CopyFrom(common)
    is_request = part.startswith("request")
    facts: dict[str, bool | str] = {}
    if action.checked:
        facts[CHECKED if is_request else ANSWER_CHECKED] = True
    if action.edits:
        facts[OFFER_EDITS if is_request else ANSWER_EDITS] = ",".join(action.edits)
    if facts:
        _set_metadata(response, facts)
    return response


def _refuse(action: Refuse) -> ProcessingResponse:
    error = action.error
    headers = {"content-type": "application/json", **error.headers}
    response = ProcessingResponse(
        immediate_response=ImmediateResponse(
            status=HttpStatus(code=StatusCode.ValueType(error.http_status)),
            headers=HeaderMutation(set_headers=_header_options(headers)),
            body=error.to_body(),
            details=error.code,
        )
    )
    _set_metadata(response, {ANSWERED: True, OUTCOME: error.code})
    return response


def _header_options(headers: Mapping[str, str]) -> Iterable[HeaderValueOption]:
    # All names and values are ours and ASCII; anything else is an error that ends the stream.
    return [
        HeaderValueOption(
            # ext_proc reads `raw_value` only.
            header=HeaderValue(key=name, raw_value=value.encode("ascii")),
            append_action=_Option.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]


def _set_metadata(response: ProcessingResponse, values: Mapping[str, bool | str]) -> None:
    response.dynamic_metadata.update({PROC_NAMESPACE: dict(values)})
