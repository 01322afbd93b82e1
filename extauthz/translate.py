"""Between Envoy's ext_authz messages and decisions; knows no rules.

Shapes: envoy/service/auth/v3/external_auth.proto.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from envoyapi.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoyapi.service.auth.v3.external_auth_pb2 import (
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    OkHttpResponse,
)
from envoyapi.type.v3.http_status_pb2 import HttpStatus, StatusCode
from extauthz.decision import Allow, Decision, Labels, RequestFacts
from ringback.calllimits import CallLimits
from ringback.contract import ANSWERED, CHECKED

_Option = HeaderValueOption.HeaderAppendAction
_LABELS = tuple(field.name for field in fields(Labels))


def read_request(message: CheckRequest) -> RequestFacts:
    """Return the facts of a request that Envoy asks about."""
    http = message.attributes.request.http
    path, _, query = http.path.partition("?")
    return RequestFacts(
        method=http.method,
        path=path,
        query=query,
        headers=dict(http.headers),
        body=http.raw_body or http.body.encode(),
        address=message.attributes.source.address.socket_address.address,
    )


def write_decision(decision: Decision) -> CheckResponse:
    """Return the message that a decision becomes.

    Envoy lets a request pass unless the status is an error, whatever else the message says. So an
    answer of ours, also a success, goes out as a denial.

    Raises:
        ValueError: If the value of a header would become several lines.
    """
    if isinstance(decision, Allow):
        response = CheckResponse(
            status=Status(code=code_pb2.OK),
            ok_response=OkHttpResponse(
                headers=_options(
                    {name: value.reveal() for name, value in decision.headers.items()}
                ),
                headers_to_remove=decision.removed,
            ),
        )
        response.dynamic_metadata.update(_metadata(decision.labels, CHECKED))
        return response
    response = CheckResponse(
        status=Status(code=code_pb2.PERMISSION_DENIED),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=StatusCode.ValueType(decision.status)),
            headers=_options(decision.headers),
            body=decision.body.decode(),
        ),
    )
    response.dynamic_metadata.update(_metadata(decision.labels, ANSWERED))
    return response


def _options(headers: Mapping[str, str]) -> Iterable[HeaderValueOption]:
    # Not every Envoy looks (validate_mutations); no such value is ours.
    if any(char in value for value in headers.values() for char in "\0\r\n"):
        raise ValueError("a header of more than one line")
    # ext_authz reads `value` only; a raw_value would set an empty header.
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, value=value),
            append_action=_Option.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]


def _metadata(labels: Labels, mark: str) -> dict[str, Any]:
    values: dict[str, Any] = {mark: True}
    for name in _LABELS:
        value = getattr(labels, name)
        if isinstance(value, CallLimits):
            value = value.to_label()
        if value is not None:
            values[name] = value
    return values
