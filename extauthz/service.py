"""The ext_authz service: translates, asks the gate, answers. No rules."""

import grpc
from grpc import aio

from callsapi.v1 import calls_pb2_grpc
from envoyapi.service.auth.v3 import external_auth_pb2_grpc
from envoyapi.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoyapi.service.cluster.v3 import cds_pb2_grpc
from extauthz.configuration import ConfigurationKeeper
from extauthz.cooldownkeeper import CooldownKeeper
from extauthz.discovery import ClusterDiscovery
from extauthz.egress import Egress
from extauthz.entra import EntraTokens
from extauthz.gate import Gate
from extauthz.keptcalls import KeptCalls
from extauthz.keys.stores import KeyStores
from extauthz.metrics import UNDECIDED
from extauthz.revocationkeeper import RevocationKeeper
from extauthz.slots import Slots
from extauthz.translate import read_request, write_decision
from extauthz.upstreams import Upstreams
from ringback import tracing
from ringback.jwkset import JwkSetKeeper
from ringback.logs import describe, get_logger
from ringback.valkey import Valkey

Context = aio.ServicerContext[CheckRequest, CheckResponse]


class ExtAuthz(external_auth_pb2_grpc.AuthorizationServicer):
    """Serves ext_authz, and CDS beside it, on one server.

    Args:
        gate: Decides.
        keeper: Keeps the configuration up to date.
        discovery: Serves the clusters.
        egress: Closed at the end.
        stores: The key sources, started and stopped with the service.
        valkey: The shared store, closed at the end.
        cooling: Shares cooldowns of deployments.
        logins: Those at Entra ID; the ones under way end with the service.
        jwk_set: Watches what tokens are sealed by.
        revocations: Watches what is revoked.
        upstreams: Serves callkeeper, if calls are supervised.
        slots: Asks callkeeper; started and stopped with the service.
        kept: Asks callkeeper; likewise.
    """

    names: tuple[str, ...] = ("envoy.service.auth.v3.Authorization", *ClusterDiscovery.names)

    def __init__(
        self,
        gate: Gate,
        keeper: ConfigurationKeeper,
        discovery: ClusterDiscovery,
        egress: Egress,
        stores: KeyStores,
        *,
        valkey: Valkey | None = None,
        cooling: CooldownKeeper | None = None,
        logins: EntraTokens | None = None,
        jwk_set: JwkSetKeeper | None = None,
        revocations: RevocationKeeper | None = None,
        upstreams: Upstreams | None = None,
        slots: Slots | None = None,
        kept: KeptCalls | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._gate = gate
        self._keeper = keeper
        self._discovery = discovery
        self._egress = egress
        self._stores = stores
        self._valkey = valkey
        self._logins = logins
        parts = (jwk_set, revocations, cooling, slots, kept)
        self._parts = [part for part in parts if part is not None]
        self._log = get_logger()

    def register(self, server: aio.Server) -> None:
        """Add the handlers to the server."""
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server(self, server)
        cds_pb2_grpc.add_ClusterDiscoveryServiceServicer_to_server(self._discovery, server)
        if self._upstreams is not None:
            calls_pb2_grpc.add_UpstreamsServicer_to_server(self._upstreams, server)

    async def start(self) -> None:
        """Connect the key sources and begin to watch the configuration files."""
        await self._stores.start()
        self._keeper.start()
        for part in self._parts:
            part.start()

    async def drain(self) -> None:
        """Let Envoy ask another worker for its clusters."""
        self._discovery.close()

    async def stop(self) -> None:
        """Stop watching and close all connections."""
        await self._keeper.stop()
        await self._stores.stop()
        for part in self._parts:
            await part.stop()
        if self._logins is not None:
            await self._logins.close()
        await self._egress.close()
        if self._valkey is not None:
            await self._valkey.close()

    async def Check(self, request: CheckRequest, context: Context) -> CheckResponse:
        """Decide one request.

        Raises:
            grpc.aio.AbortError: If no decision can be made; Envoy then answers 503.
        """
        try:
            with tracing.served("extauthz.check", context.invocation_metadata):
                return write_decision(await self._gate.decide(read_request(request)))
        except Exception as error:  # noqa: BLE001  whatever it is, the request must not pass
            UNDECIDED.inc()
            request_id = request.attributes.request.http.headers.get("x-request-id")
            self._log.error("check_failed", request_id=request_id, **describe(error))
            await context.abort(grpc.StatusCode.INTERNAL, "the request cannot be decided")
