"""Between Envoy's ext_proc messages and the exchange; knows no rules.

Shapes: envoy/service/ext_proc/v3/external_processor.proto.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from envoyapi.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HttpHeaders,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from envoyapi.type.v3.http_status_pb2 import HttpStatus, StatusCode
from ringback.contract import (
    ANSWER_CHECKED,
    ANSWERED,
    AUTHZ_NAMESPACE,
    CHECKED,
    DEPLOYMENT,
    KEY_HASH,
    OUTCOME,
    OUTCOME_CALL,
    OUTCOME_READY,
    PROC_NAMESPACE,
    TOKEN_ID,
)
from sdpfilter.exchange import (
    Action,
    Consent,
    Continue,
    Exchange,
    Purpose,
    Refuse,
    UnexpectedMessageError,
)

# Envoy's response.code_details of an answer that came from the upstream.
_VIA_UPSTREAM: Final = "via_upstream"
_PURPOSES: Final = {OUTCOME_CALL: Purpose.CALL, OUTCOME_READY: Purpose.READY}
_CHECKED_BY_PART: Final = {
    "request_headers": CHECKED,
    "request_body": CHECKED,
    "response_body": ANSWER_CHECKED,
}
_Option = HeaderValueOption.HeaderAppendAction


def answer_message(message: ProcessingRequest, exchange: Exchange) -> ProcessingResponse:
    """Return the one answer to one message of Envoy.

    Args:
        message: What Envoy sent.
        exchange: The state of its stream.

    Raises:
        UnexpectedMessageError: If the message cannot be answered; the stream must be aborted.
    """
    match message.WhichOneof("request"):
        case "request_headers":
            part = message.request_headers
            action = exchange.request_headers(
                read_headers(part), read_consent(message), end_of_stream=part.end_of_stream
            )
            return _respond("request_headers", action)
        case "request_body":
            body = message.request_body
            action = exchange.request_body(body.body, end_of_stream=body.end_of_stream)
            return _respond("request_body", action)
        case "response_headers":
            part = message.response_headers
            action = exchange.response_headers(
                read_headers(part),
                from_upstream=_is_from_upstream(message),
                end_of_stream=part.end_of_stream,
            )
            return _respond("response_headers", action)
        case "response_body":
            body = message.response_body
            action = exchange.response_body(body.body, end_of_stream=body.end_of_stream)
            return _respond("response_body", action)
        case other:
            raise UnexpectedMessageError(f"there is no answer to {other}")


def read_headers(part: HttpHeaders) -> dict[str, str]:
    """Return headers by name in lower case; the values of repeated ones are joined by a comma."""
    headers: dict[str, str] = {}
    for header in part.headers.headers:
        # Bytes outside ASCII stay what they are; no header that we read may hold any.
        value = header.value or header.raw_value.decode("latin-1")
        headers[header.key] = f"{headers[header.key]},{value}" if header.key in headers else value
    return headers


def read_consent(message: ProcessingRequest) -> Consent | None:
    """Return what extauthz decided about the stream; None if it did not consent."""
    decided = message.metadata_context.filter_metadata.get(AUTHZ_NAMESPACE)
    if decided is None or not decided.fields[CHECKED].bool_value:
        return None
    purpose = _PURPOSES.get(decided.fields[OUTCOME].string_value)
    if purpose is None:
        return None
    return Consent(
        purpose,
        deployment=decided.fields[DEPLOYMENT].string_value,
        key_hash=decided.fields[KEY_HASH].string_value,
        token_id=decided.fields[TOKEN_ID].string_value,
    )


def _is_from_upstream(message: ProcessingRequest) -> bool:
    attributes = message.attributes.get(PROC_NAMESPACE)
    if attributes is None:
        raise UnexpectedMessageError("response.code_details is missing from response_attributes")
    return attributes.fields["response.code_details"].string_value == _VIA_UPSTREAM


def _respond(part: str, action: Action) -> ProcessingResponse:
    if isinstance(action, Refuse):
        return _refuse(action)
    response = ProcessingResponse()
    if action.checked:
        _set_metadata(response, {_CHECKED_BY_PART[part]: True})
    getattr(response, part).CopyFrom(_allow(part, action))
    return response


def _allow(part: str, action: Continue) -> HeadersResponse | BodyResponse:
    common = CommonResponse(status=CommonResponse.CONTINUE)
    if action.set_headers or action.remove_headers:
        common.header_mutation.CopyFrom(
            HeaderMutation(
                set_headers=_header_options(action.set_headers),
                remove_headers=action.remove_headers,
            )
        )
    if part.endswith("headers"):
        return HeadersResponse(response=common)
    return BodyResponse(response=common)


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
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode("latin-1")),
            append_action=_Option.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]


def _set_metadata(response: ProcessingResponse, values: Mapping[str, bool | str]) -> None:
    response.dynamic_metadata.update({PROC_NAMESPACE: dict(values)})
