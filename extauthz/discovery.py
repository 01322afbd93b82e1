"""Serves Envoy its clusters: state-of-the-world CDS over gRPC.

Protocol: envoy/service/cluster/v3/cds.proto. A request that follows a response accepts it (same
version) or refuses it (``error_detail``); then what Envoy had before stays in force.
"""

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any
from grpc import aio

from envoyapi.service.cluster.v3 import cds_pb2_grpc
from envoyapi.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from extauthz.clusters import CLUSTER_TYPE_URL, Snapshot
from extauthz.metrics import CDS_NACKS, CDS_PUSHES, CDS_STREAMS, show_version
from ringback.logs import get_logger

Context = aio.ServicerContext[DiscoveryRequest, DiscoveryResponse]


class ClusterDiscovery(cds_pb2_grpc.ClusterDiscoveryServiceServicer):
    """Pushes the current snapshot to every Envoy that asks, and again whenever it changes."""

    names: tuple[str, ...] = ("envoy.service.cluster.v3.ClusterDiscoveryService",)

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._streams: set[asyncio.Event] = set()
        self._closing = False
        self._log = get_logger()
        show_version("served", snapshot.version)

    def publish(self, snapshot: Snapshot) -> None:
        """Make this the current snapshot."""
        self._snapshot = snapshot
        show_version("served", snapshot.version)
        self._wake()

    def close(self) -> None:
        """End all streams; Envoy then asks another worker and keeps what it has meanwhile."""
        self._closing = True
        self._wake()

    async def StreamClusters(
        self,
        request_iterator: AsyncIterator[DiscoveryRequest],  # noqa: ARG002  context.read is used
        context: Context,
    ) -> None:
        """Serve one Envoy until it goes or `close` is called."""
        wake = asyncio.Event()
        reader = asyncio.create_task(self._read(context, wake))
        self._streams.add(wake)
        CDS_STREAMS.inc()
        try:
            sent = ""
            while True:
                await wake.wait()
                wake.clear()
                if self._closing or reader.done():
                    return
                snapshot = self._snapshot
                if snapshot.version != sent:
                    await context.write(_response(snapshot))
                    sent = snapshot.version
                    CDS_PUSHES.inc()
        finally:
            self._streams.discard(wake)
            CDS_STREAMS.dec()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, context: Context, wake: asyncio.Event) -> None:
        """Wake the stream at the first request, and at the end; log what Envoy refuses."""
        try:
            while isinstance(request := await context.read(), DiscoveryRequest):
                if request.HasField("error_detail"):
                    CDS_NACKS.inc()
                    self._log.error(
                        "clusters_refused",
                        reason=request.error_detail.message,
                        in_force=request.version_info,
                    )
                elif request.response_nonce:
                    show_version("accepted", request.version_info)
                    self._log.info("clusters_accepted", version=request.version_info)
                else:
                    wake.set()
        finally:
            wake.set()

    def _wake(self) -> None:
        for event in self._streams:
            event.set()


def _response(snapshot: Snapshot) -> DiscoveryResponse:
    return DiscoveryResponse(
        version_info=snapshot.version,
        nonce=snapshot.version,
        type_url=CLUSTER_TYPE_URL,
        resources=[Any(type_url=CLUSTER_TYPE_URL, value=value) for value in snapshot.resources],
    )
