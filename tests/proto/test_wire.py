"""The subset of the Envoy API in proto/ against envoy-data-plane, which is made from all of it."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import betterproto2
import envoy_data_plane.envoy.config.cluster.v3 as upstream_cluster
import envoy_data_plane.envoy.config.core.v3 as upstream_core
import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3
import envoy_data_plane.envoy.extensions.upstreams.http.v3  # noqa: F401  is looked up by name
import envoy_data_plane.envoy.service.auth.v3 as upstream_auth
import envoy_data_plane.envoy.service.cluster.v3 as upstream_cds
import envoy_data_plane.envoy.service.discovery.v3 as upstream_discovery
import envoy_data_plane.envoy.service.ext_proc.v3 as upstream_proc
import envoy_data_plane.envoy.type.v3 as upstream_type
import pytest
from envoy_data_plane.google.protobuf import Any as UpstreamAny
from envoy_data_plane.google.protobuf import Struct as UpstreamStruct
from envoy_data_plane.google.rpc import Status as UpstreamStatus
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import json_format
from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    FileDescriptor,
    ServiceDescriptor,
)
from google.protobuf.internal import api_implementation
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from envoyapi.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoyapi.config.core.v3 import address_pb2, base_pb2, protocol_pb2
from envoyapi.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoyapi.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoyapi.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoyapi.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoyapi.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from envoyapi.service.cluster.v3 import cds_pb2
from envoyapi.service.discovery.v3 import discovery_pb2
from envoyapi.service.ext_proc.v3 import external_processor_pb2
from envoyapi.type.matcher.v3 import string_pb2
from envoyapi.type.v3 import http_status_pb2, semantic_version_pb2

FILES: tuple[FileDescriptor, ...] = (
    address_pb2.DESCRIPTOR,
    attribute_context_pb2.DESCRIPTOR,
    base_pb2.DESCRIPTOR,
    cds_pb2.DESCRIPTOR,
    circuit_breaker_pb2.DESCRIPTOR,
    cluster_pb2.DESCRIPTOR,
    common_pb2.DESCRIPTOR,
    discovery_pb2.DESCRIPTOR,
    endpoint_components_pb2.DESCRIPTOR,
    endpoint_pb2.DESCRIPTOR,
    external_auth_pb2.DESCRIPTOR,
    external_processor_pb2.DESCRIPTOR,
    http_protocol_options_pb2.DESCRIPTOR,
    http_status_pb2.DESCRIPTOR,
    processing_mode_pb2.DESCRIPTOR,
    protocol_pb2.DESCRIPTOR,
    semantic_version_pb2.DESCRIPTOR,
    string_pb2.DESCRIPTOR,
    tls_pb2.DESCRIPTOR,
)
# What envoy-data-plane would serve for each of our services: path -> cardinality and messages.
UPSTREAM_SERVICES: dict[str, Any] = {
    "envoy.service.auth.v3.Authorization": upstream_auth.AuthorizationBase(),
    "envoy.service.cluster.v3.ClusterDiscoveryService": upstream_cds.ClusterDiscoveryServiceBase(),
    "envoy.service.ext_proc.v3.ExternalProcessor": upstream_proc.ExternalProcessorBase(),
}
# betterproto2 turns these messages into Python types.
UNWRAPPED = {
    "google.protobuf.Duration": "datetime.timedelta",
    "google.protobuf.Timestamp": "datetime.datetime",
    "google.protobuf.UInt32Value": "builtins.int",
}
# What fills a field whose type is not ours, in the JSON form of protobuf.
FOREIGN_SAMPLES: dict[str, Any] = {
    "google.protobuf.Any": {
        "@type": "type.googleapis.com/envoy.config.core.v3.Pipe",
        "path": "/run/x.sock",
    },
    "google.protobuf.Duration": "1.500s",
    "google.protobuf.Struct": {
        "text": "x",
        "number": 2.5,
        "yes": True,
        "nothing": None,
        "list": ["y", {"deep": "z"}],
    },
    "google.protobuf.Timestamp": "2026-01-02T03:04:05.678Z",
    "google.protobuf.UInt32Value": 4096,
    "google.rpc.Status": {"code": 7, "message": "denied"},
}
PROTO_TYPES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_MESSAGE: "message",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
}


def walk_messages(messages: Sequence[Descriptor]) -> Iterator[Descriptor]:
    """Yield messages and the messages nested in them, without map entries."""
    for message in messages:
        if not message.GetOptions().map_entry:
            yield message
            yield from walk_messages(message.nested_types)


MESSAGES = [
    message
    for file in FILES
    for message in walk_messages(list(file.message_types_by_name.values()))
]
every_message = pytest.mark.parametrize(
    "message", MESSAGES, ids=[message.full_name for message in MESSAGES]
)


def find_upstream(message: Descriptor) -> type[betterproto2.Message]:
    """Find envoy-data-plane's class of the same full name; KeyError if upstream has none."""
    return default_message_pool.url_to_type[f"type.googleapis.com/{message.full_name}"]


def map_parts(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor] | None:
    """Give the key and value of a map field, and nothing for any other field."""
    if field.message_type is None or not field.message_type.GetOptions().map_entry:
        return None
    parts = field.message_type.fields_by_name
    return parts["key"], parts["value"]


def describe_ours(field: FieldDescriptor) -> dict[str, object]:
    """Describe a field of ours in the words of ``describe_upstream``."""
    if parts := map_parts(field):
        key, value = parts
        kind = f"map<{PROTO_TYPES[key.type]}, {PROTO_TYPES[value.type]}>"
    else:
        value, kind = field, PROTO_TYPES[field.type]
    refers_to = value.message_type or value.enum_type
    type_name = UNWRAPPED.get(refers_to.full_name, refers_to.full_name) if refers_to else None
    return {
        "number": field.number,
        "type": kind,
        "repeated": field.is_repeated and not parts,
        "oneof": field.containing_oneof.name if field.containing_oneof else None,
        "refers to": type_name,
    }


def describe_upstream(cls: type[betterproto2.Message], name: str) -> dict[str, object]:
    """Describe a field of envoy-data-plane: what decides how it is written, and its type's name."""
    known = betterproto2.ProtoClassMetadata(cls)
    meta, types = known.meta_by_field_name[name], known.cls_by_field
    if meta.map_meta:
        key, value = (part.proto_type for part in meta.map_meta)
        kind, refers_to = f"map<{key}, {value}>", types[f"{name}.value"]
    else:
        value = kind = meta.proto_type
        refers_to = types[name]
    return {
        "number": meta.number,
        "type": kind,
        "repeated": meta.repeated,
        "oneof": meta.group,
        "refers to": name_upstream_type(refers_to) if value in {"message", "enum"} else None,
    }


def name_upstream_type(cls: type) -> str:
    """Name a class of envoy-data-plane as protobuf does; enums have no name there but the class's.

    ``ProcessingModeBodySendMode`` is ``ProcessingMode.BodySendMode``: the longest message that the
    name begins with is the one that it is nested in.
    """
    if url := default_message_pool.type_to_url.get(cls):
        return url.removeprefix("type.googleapis.com/")
    package = cls.__module__.removeprefix("envoy_data_plane.")
    if package == "datetime":
        return f"{package}.{cls.__name__}"
    prefixes = (cls.__name__[:end] for end in range(len(cls.__name__) - 1, 0, -1))
    urls = default_message_pool.url_to_type
    parent = next((p for p in prefixes if f"type.googleapis.com/{package}.{p}" in urls), None)
    if parent is None:
        return f"{package}.{cls.__name__}"
    return f"{package}.{parent}.{cls.__name__.removeprefix(parent)}"


def make_sample(message: Descriptor, choice: int, numbers: Iterator[int]) -> dict[str, Any]:
    """Fill every field of a message, in protobuf's JSON form with values that occur once.

    Args:
        message: Whose fields; their messages are filled too.
        choice: Which member of each oneof is set, counted round.
        numbers: Where the values come from.
    """
    sample: dict[str, Any] = {}
    for field in message.fields:
        oneof = field.containing_oneof
        if oneof and oneof.fields[choice % len(oneof.fields)].name != field.name:
            continue
        if parts := map_parts(field):
            keys = [f"key{next(numbers)}" for _ in range(2)]
            sample[field.name] = {key: make_value(parts[1], choice, numbers) for key in keys}
        elif field.is_repeated:
            sample[field.name] = [make_value(field, choice, numbers) for _ in range(2)]
        else:
            sample[field.name] = make_value(field, choice, numbers)
    return sample


def make_value(field: FieldDescriptor, choice: int, numbers: Iterator[int]) -> Any:
    """Make one value of a field's type in protobuf's JSON form."""
    if field.message_type:
        foreign = FOREIGN_SAMPLES.get(field.message_type.full_name)
        return foreign or make_sample(field.message_type, choice, numbers)
    if field.enum_type:
        names = [value.name for value in field.enum_type.values if value.number]
        return names[next(numbers) % len(names)]
    number = next(numbers)
    values = {
        FieldDescriptor.TYPE_BOOL: True,
        FieldDescriptor.TYPE_BYTES: f"{number:04d}",  # four digits are valid Base64
        FieldDescriptor.TYPE_INT64: str(2**40 + number),  # JSON has no 64-bit integers
        FieldDescriptor.TYPE_STRING: f"text{number} \u00e9",
        FieldDescriptor.TYPE_UINT32: 2**31 + number,
    }
    return values[field.type]


def make_samples(message: Descriptor) -> list[dict[str, Any]]:
    """Make as many samples as the widest oneof anywhere below has members."""
    return [make_sample(message, choice, itertools.count(1000)) for choice in range(7)]


def to_json(message: Message) -> dict[str, Any]:
    """Show one of our messages in protobuf's JSON form."""
    shown: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return shown


@every_message
def test_fields_are_upstreams(message: Descriptor) -> None:
    """Every field has upstream's number, type, label, oneof and message or enum type."""
    upstream = find_upstream(message)
    assert {field.name: describe_ours(field) for field in message.fields} == {
        field.name: describe_upstream(upstream, field.name) for field in message.fields
    }


@every_message
def test_enums_are_upstreams(message: Descriptor) -> None:
    """Every enum has all names and numbers that upstream's has."""
    types = betterproto2.ProtoClassMetadata(find_upstream(message)).cls_by_field
    for field in message.fields:
        if field.enum_type:
            upstream = types[field.name]
            assert issubclass(upstream, betterproto2.Enum)
            ours = {value.name: value.number for value in field.enum_type.values}
            assert ours == {member.name: member.value for member in upstream}


@every_message
def test_we_read_what_upstream_writes(message: Descriptor) -> None:
    """The bytes of envoy-data-plane, with every field set, mean the same to our stubs."""
    for sample in make_samples(message):
        written = bytes(find_upstream(message).from_dict(sample))
        assert to_json(GetMessageClass(message).FromString(written)) == sample


@every_message
def test_upstream_reads_what_we_write(message: Descriptor) -> None:
    """The bytes of our stubs, with every field set, mean the same to envoy-data-plane."""
    for sample in make_samples(message):
        written = json_format.ParseDict(sample, GetMessageClass(message)()).SerializeToString()
        read = find_upstream(message).parse(written)
        assert read.to_dict(casing=betterproto2.Casing.SNAKE) == sample


@every_message
def test_samples_set_every_field(message: Descriptor) -> None:
    """The samples of the two tests above leave no field and no member of a oneof out."""
    filled = {name for sample in make_samples(message) for name in sample}
    assert filled == set(message.fields_by_name)


def test_unknown_fields_survive() -> None:
    """What upstream sends beyond our subset is still there after parsing and serialising."""
    node = upstream_core.Node(id="envoy-1", client_features=["a"], user_agent_name="envoy")
    request = upstream_discovery.DiscoveryRequest(node=node, type_url="t")
    parsed = discovery_pb2.DiscoveryRequest.FromString(bytes(request))
    parsed.version_info = "1"
    again = upstream_discovery.DiscoveryRequest.parse(parsed.SerializeToString())
    assert again.node == node
    assert again.version_info == "1"


def test_parsing_runs_in_c() -> None:
    """Protobuf's C core is in use; the pure Python one would be slower by orders of magnitude."""
    assert api_implementation.Type() == "upb"


def describe_service(service: ServiceDescriptor) -> dict[str, tuple[str, str, str]]:
    """List the methods of one of our services: path -> cardinality, request, response."""
    return {
        f"/{service.full_name}/{method.name}": (
            "_".join(
                "STREAM" if streaming else "UNARY"
                for streaming in (method.client_streaming, method.server_streaming)
            ),
            method.input_type.full_name,
            method.output_type.full_name,
        )
        for method in service.methods
    }


def test_services_are_upstreams() -> None:
    """Every method has upstream's path, cardinality and messages; the paths are these."""
    services = [service for file in FILES for service in file.services_by_name.values()]
    methods = {}
    for service in services:
        upstream = UPSTREAM_SERVICES[service.full_name].__mapping__()
        ours = describe_service(service)
        methods.update(ours)
        assert ours == {
            path: (
                upstream[path].cardinality.name,
                name_upstream_type(upstream[path].request_type),
                name_upstream_type(upstream[path].reply_type),
            )
            for path in ours
        }
    assert set(methods) == {
        "/envoy.service.auth.v3.Authorization/Check",
        "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
        "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
    }


# The three conversations once more, spelled out field by field as the services use them.


def test_check_request_reads_by_name() -> None:
    """What Envoy asks extauthz is where the names say."""
    asked = upstream_auth.CheckRequest(
        attributes=upstream_auth.AttributeContext(
            source=upstream_auth.AttributeContextPeer(
                address=upstream_core.Address(
                    socket_address=upstream_core.SocketAddress(
                        address="198.51.100.7", port_value=50123
                    )
                )
            ),
            request=upstream_auth.AttributeContextRequest(
                http=upstream_auth.AttributeContextHttpRequest(
                    method="POST",
                    path="/v1/realtime/calls?model=m",
                    host="realtime.example",
                    headers={"content-type": "application/sdp"},
                    size=3,
                    raw_body=b"v=0",
                )
            ),
            metadata_context=upstream_core.Metadata(
                filter_metadata={"space": UpstreamStruct.from_dict({"checked": True})}
            ),
        )
    )
    attributes = external_auth_pb2.CheckRequest.FromString(bytes(asked)).attributes
    http = attributes.request.http
    assert (http.method, http.path, http.host) == (
        "POST",
        "/v1/realtime/calls?model=m",
        "realtime.example",
    )
    assert dict(http.headers) == {"content-type": "application/sdp"}
    assert (http.size, http.raw_body) == (3, b"v=0")
    assert attributes.source.address.socket_address.port_value == 50123
    assert attributes.source.address.WhichOneof("address") == "socket_address"
    assert attributes.metadata_context.filter_metadata["space"]["checked"] is True


def test_processing_response_reads_by_name() -> None:
    """What sdpfilter answers is what upstream's classes call a changed body and a refusal."""
    option = base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key="content-length", raw_value=b"3"),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    changed = external_processor_pb2.ProcessingResponse(
        request_body=external_processor_pb2.BodyResponse(
            response=external_processor_pb2.CommonResponse(
                header_mutation=external_processor_pb2.HeaderMutation(set_headers=[option]),
                body_mutation=external_processor_pb2.BodyMutation(body=b"v=0"),
            )
        )
    )
    refused = external_processor_pb2.ProcessingResponse(
        immediate_response=external_processor_pb2.ImmediateResponse(
            status=http_status_pb2.HttpStatus(code=http_status_pb2.BadRequest), body=b"no"
        )
    )
    read = upstream_proc.ProcessingResponse.parse(changed.SerializeToString())
    assert read.request_body is not None
    assert read.request_body.response == upstream_proc.CommonResponse(
        header_mutation=upstream_proc.HeaderMutation(
            set_headers=[
                upstream_core.HeaderValueOption(
                    header=upstream_core.HeaderValue(key="content-length", raw_value=b"3"),
                    append_action=(
                        upstream_core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
                    ),
                )
            ]
        ),
        body_mutation=upstream_proc.BodyMutation(body=b"v=0"),
    )
    read = upstream_proc.ProcessingResponse.parse(refused.SerializeToString())
    assert read.immediate_response == upstream_proc.ImmediateResponse(
        status=upstream_type.HttpStatus(code=upstream_type.StatusCode.BadRequest), body=b"no"
    )


def test_discovery_carries_clusters_of_envoy_data_plane() -> None:
    """A Cluster of envoy-data-plane travels in a DiscoveryResponse of ours, and a NACK comes in."""
    cluster = upstream_cluster.Cluster(name="openai_realtime")
    packed = UpstreamAny.pack(cluster)
    response = discovery_pb2.DiscoveryResponse(type_url=packed.type_url, nonce="1")
    response.resources.add(type_url=packed.type_url, value=packed.value)
    read = upstream_discovery.DiscoveryResponse.parse(response.SerializeToString())
    assert read.resources[0].unpack() == cluster
    assert read.type_url == "type.googleapis.com/envoy.config.cluster.v3.Cluster"

    nack = upstream_discovery.DiscoveryRequest(
        response_nonce="1", error_detail=UpstreamStatus(code=3, message="bad cluster")
    )
    request = discovery_pb2.DiscoveryRequest.FromString(bytes(nack))
    assert request.HasField("error_detail")
    assert (request.response_nonce, request.error_detail.message) == ("1", "bad cluster")
