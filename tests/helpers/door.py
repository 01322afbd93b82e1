"""An Envoy whose services answer what a test wants, and a recording upstream behind it."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envoyapi.service.auth.v3.external_auth_pb2 import CheckResponse
from envoyapi.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from extauthz.clusters import as_json, build_clusters
from extauthz.decision import Allow, Labels
from extauthz.deployments import Origin
from extauthz.translate import write_decision
from helpers.callforms import CONTENT_TYPE, form, part
from helpers.dataplanes import OWN, DataPlane
from helpers.descriptions import OFFERS
from helpers.envoyproc import EnvoyProcess, Json, local_changes
from helpers.expect import ORIGIN
from helpers.gatewayfiles import Files, openai_entry
from helpers.http11 import Message, request_bytes, send
from helpers.recording import RecordingUpstream
from helpers.stubservices import RawContext, StubService, serving
from ringback.envoylint.parts import parts, type_of
from ringback.render.bootstrap import Changes
from ringback.secrets import Secret
from ringback.settings import TokenSettings, UpstreamSettings
from ringback.settings.overload import OverloadSettings
from ringback.tokens import handle_sealer
from sdpfilter.exchange import Exchange
from sdpfilter.translate import answer_message

SEALER: Final = handle_sealer(TokenSettings(secret=Secret("a secret of the tests")), {})
_OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]


def _call(content_type: str, body: bytes) -> bytes:
    headers = {"origin": ORIGIN, "content-type": content_type, "authorization": "Bearer ek_token"}
    return request_bytes("POST", "/v1/realtime/calls", headers, body)


CALL: Final = _call("application/sdp", _OFFER)
CALL_BY_FORM: Final = _call(CONTENT_TYPE, form(part("sdp", _OFFER)))


@dataclass(frozen=True, slots=True)
class Door:
    """The Envoy with what is before and behind it."""

    envoy: EnvoyProcess
    upstream: RecordingUpstream
    service: StubService
    consent: CheckResponse
    dataplane: DataPlane = OWN

    @property
    def port(self) -> int:
        """Where downstreams connect."""
        return self.envoy.port(self.dataplane.listener)

    def reset(self) -> None:
        """Let the services do what they should, and forget what the upstream received."""
        self.service.check = self.check
        self.service.process = process_honestly
        self.upstream.reset()

    def differs(self, what: str) -> bool:
        """Tell whether the data plane is known to do something otherwise."""
        return what in self.dataplane.differences

    async def call(self) -> Message:
        """Send an offer."""
        return await send(self.port, CALL)

    async def check(self, _request: bytes, _context: RawContext) -> bytes:
        """Consent as extauthz does."""
        return self.consent.SerializeToString()


@asynccontextmanager
async def open_door(
    folder: Path,
    *,
    dataplane: DataPlane = OWN,
    timeout_s: float | None = None,
    overload: OverloadSettings | None = None,
    max_requests: int = 4096,
    endpoints: Mapping[str, str] | None = None,
) -> AsyncIterator[Door]:
    """Give a door whose services do what they should.

    Args:
        folder: An empty one for files.
        dataplane: What makes Envoy's configuration.
        timeout_s: Of a decision, and of one message of ext_proc; Envoy's own when None.
        overload: How much is taken on at once.
        max_requests: How much the upstream takes on at once.
        endpoints: By cluster, where Envoy looks for a service instead of the stub.
    """
    service = StubService()
    async with RecordingUpstream() as upstream, serving(service) as address:
        places = {"extauthz": address, "sdpfilter": address} | dict(endpoints or {})
        changes = door_changes(places, upstream.port, overload, max_requests=max_requests)
        files = Files(folder)
        files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
        limits = {"overload": overload.model_dump()} if overload else {}
        files.write_settings(upstream={"max_requests": max_requests}, **limits)
        bootstrap = dataplane.make(files, changes)
        if timeout_s is not None:
            _shorten(bootstrap, timeout_s)
        async with EnvoyProcess(bootstrap, folder) as envoy:
            consent = consent_to(origin_of(upstream.port))
            door = Door(envoy, upstream, service, consent, dataplane)
            door.reset()
            yield door


def origin_of(port: int) -> Origin:
    """Return the origin of an upstream of 127.0.0.1."""
    return Origin("http", "127.0.0.1", port)


def door_changes(
    places: Mapping[str, str],
    upstream_port: int,
    overload: OverloadSettings | None = None,
    *,
    max_requests: int = 4096,
    **changes: Any,
) -> Changes:
    """Return what makes the bootstrap of a door.

    Args:
        places: Where Envoy looks for the services, by cluster.
        upstream_port: Of 127.0.0.1.
        overload: How much is taken on at once.
        max_requests: How much the upstream takes on at once.
        changes: As in `local_changes`.
    """
    settings = UpstreamSettings(max_requests=max_requests)
    clusters = build_clusters([origin_of(upstream_port)], settings)
    return local_changes(
        endpoints={name: [place] for name, place in places.items()},
        upstreams=[as_json(cluster) for cluster in clusters],
        overload=overload,
        **changes,
    )


def _shorten(bootstrap: Json, timeout_s: float) -> None:
    for _path, _keys, value in parts(bootstrap):
        match type_of(value):
            case "ExtAuthz":
                value["grpc_service"]["timeout"] = f"{timeout_s}s"
            case "ExtAuthzPerRoute" if service := value.get("check_settings", {}).get(
                "grpc_service"
            ):
                service["timeout"] = f"{timeout_s}s"
            case "ExternalProcessor":
                value["message_timeout"] = f"{timeout_s}s"


def consent_to(origin: Origin) -> CheckResponse:
    """Return what extauthz says to a good call to this upstream."""
    headers = {
        "x-ringback-cluster": origin.cluster,
        ":path": "/v1/realtime/calls",
        ":authority": origin.authority,
        "authorization": "Bearer ek_upstream",
    }
    labels = Labels("call", deployment="d", key_hash="k", token_id="t", allowed_origin=ORIGIN)
    return write_decision(Allow(labels, {name: Secret(text) for name, text in headers.items()}))


async def process_honestly(context: RawContext) -> None:
    """Serve a stream as sdpfilter does."""
    exchange = Exchange(SEALER, time.time)
    while isinstance(message := await context.read(), bytes):
        answer = answer_message(ProcessingRequest.FromString(message), exchange)
        await context.write(answer.SerializeToString())
