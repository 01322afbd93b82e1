"""What Envoy sends to an ext_proc service, in the shape in which Envoy sends it."""

from collections.abc import Iterable

from envoyapi.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
)
from ringback.contract import AUTHZ_NAMESPACE

Metadata = dict[str, bool | str | float | dict[str, bool | float]]

CONSENT: Metadata = {
    "checked": True,
    "outcome": "call",
    "deployment": "azure-sweden",
    "key_hash": "5b6a" * 16,
    "token_id": "k3VYbGJp",
    "key_alias": "web",
    "model": "gpt-realtime",
    "team": "kiosks",
}
SDP = (("content-type", b"application/sdp"),)
CREATED = (
    (":status", b"201"),
    ("content-type", b"application/sdp"),
    ("location", b"/v1/realtime/calls/rtc_u1_9c65"),
)


def http_headers(headers: Iterable[tuple[str, bytes]], *, end: bool = False) -> HttpHeaders:
    """Return headers as Envoy sends them: lower case, values raw."""
    values = [HeaderValue(key=name, raw_value=value) for name, value in headers]
    return HttpHeaders(headers=HeaderMap(headers=values), end_of_stream=end)


def request_headers(
    headers: Iterable[tuple[str, bytes]] = SDP,
    *,
    consent: Metadata | None = CONSENT,
    end: bool = False,
) -> ProcessingRequest:
    """Return a request's headers with what extauthz decided; None if it said nothing."""
    message = ProcessingRequest(request_headers=http_headers(headers, end=end))
    if consent is not None:
        message.metadata_context.filter_metadata[AUTHZ_NAMESPACE].update(consent)
    return message


def request_body(body: bytes, *, end: bool = True) -> ProcessingRequest:
    """Return a request's body."""
    return ProcessingRequest(request_body=HttpBody(body=body, end_of_stream=end))


def response_headers(
    headers: Iterable[tuple[str, bytes]] = CREATED,
    *,
    details: str | None = "via_upstream",
    end: bool = False,
) -> ProcessingRequest:
    """Return an answer's headers with Envoy's word on who answers; None if it said nothing."""
    message = ProcessingRequest(response_headers=http_headers(headers, end=end))
    if details is not None:
        message.attributes["envoy.filters.http.ext_proc"].update({"response.code_details": details})
    return message


def response_body(body: bytes, *, end: bool = True) -> ProcessingRequest:
    """Return an answer's body."""
    return ProcessingRequest(response_body=HttpBody(body=body, end_of_stream=end))
