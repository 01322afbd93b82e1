"""Through which data planes tests run: Ringback's own Envoy, and those that meshes make.

A test marked ``dataplanes("istio")`` runs through our own and through Istio's; without a mark
through our own alone. With ``only=(...)`` the others run these of its cases, by their ids. Whatever
fixture starts an Envoy asks for `dataplane` and lets it make the bootstrap.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from helpers.envoygateway import plane as envoygateway
from helpers.envoygateway.differences import DIFFERENCES
from helpers.gatewayfiles import Files
from helpers.istiod import istiod_bootstrap
from helpers.istiod.listeners import GATEWAY_LISTENER
from helpers.manifests import read_manifests
from ringback.contract import INGRESS_LISTENER
from ringback.render import istio
from ringback.render.bootstrap import Changes, Json, MakeBootstrap, own_bootstrap
from ringback.render.documents import dump
from ringback.render.inputs import load_inputs
from ringback.render.values import parse_values

T = TypeVar("T")

# Keys of what a data plane may do otherwise than our own Envoy, where a test would notice.
UNREACHED_MINT: Final = "unreached_mint"


@dataclass(frozen=True, slots=True)
class DataPlane:
    """What makes an Envoy's configuration.

    Attributes:
        name: As `ringback render` calls it.
        make: Makes a bootstrap from a gateway's files and from where its parts listen.
        listener: The name of the listener for downstreams.
        tls_host: What it calls this machine, as an upstream with TLS. A mesh would take a name
            without a dot for a Service.
        egress: The ``upstream.egress`` of extauthz there.
        differences: What it does otherwise than our own Envoy, and why, by the keys above; the
            data plane's page in docs/mesh lists the same.
    """

    name: str
    make: Callable[[Files, Changes], Json]
    listener: str = INGRESS_LISTENER
    tls_host: str = "localhost"
    egress: str = "listener"
    differences: Mapping[str, str] = field(default_factory=dict)

    def with_(self, files: Files) -> MakeBootstrap:
        """Return what makes the bootstrap of a gateway with these files."""
        return partial(self.make, files)

    def __str__(self) -> str:
        return self.name


def make_istio(files: Files, changes: Changes, *, egress: str = "mesh") -> Json:
    """Return what Istio makes of the manifests for a gateway's files.

    Args:
        files: The files.
        changes: Where the parts of the gateway listen.
        egress: Who does TLS for extauthz; by default the sidecar, so that it has something to do.
    """
    # Files of tests have secrets in them, and these manifests are not for their pods.
    inputs = replace(load_inputs(files.config, files.settings, {}), settings_file=None)
    values = parse_values(istio.VALUES, ["tls_secret=", f"egress={egress}", "config_secret=config"])
    manifests = [
        document
        for documents in istio.render(inputs, values).values()
        for document in read_manifests(dump(documents))
    ]
    return istiod_bootstrap(manifests, changes)


OWN: Final = DataPlane("envoy", lambda _files, changes: own_bootstrap(changes))
ISTIO: Final = DataPlane(
    "istio",
    make_istio,
    listener=GATEWAY_LISTENER,
    tls_host="azure.localhost",
    differences={
        UNREACHED_MINT: "With `egress=mesh`, a mint or a command for a call whose provider cannot "
        "be reached gets 502 `upstream_failed` instead of 503 `upstream_unreachable`: the "
        "sidecar's own 503 looks like the provider's.",
    },
)
ENVOY_GATEWAY: Final = DataPlane(
    "envoy-gateway",
    envoygateway.make,
    listener=envoygateway.LISTENER,
    egress="direct",
    differences=DIFFERENCES,
)
DATA_PLANES: Final = {plane.name: plane for plane in (OWN, ISTIO, ENVOY_GATEWAY)}


class Shared(Generic[T]):
    """What many tests use: for each data plane one, started when a test first asks for it.

    Args:
        start: Gives the one of a data plane between the ends of an ``async with`` block.
    """

    def __init__(self, start: Callable[[DataPlane], AbstractAsyncContextManager[T]]) -> None:
        self._start = start
        self._started: dict[str, T] = {}
        self._running = AsyncExitStack()

    async def of(self, plane: DataPlane) -> T:
        """Return that of a data plane."""
        if plane.name not in self._started:
            self._started[plane.name] = await self._running.enter_async_context(self._start(plane))
        return self._started[plane.name]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._running.aclose()
