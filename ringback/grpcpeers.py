"""Asks the workers of another of our services over gRPC."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

import grpc
from grpc import aio

from ringback.addresses import is_loopback
from ringback.background import Background
from ringback.errors import StartError
from ringback.filewatch import fingerprint, watch
from ringback.logs import get_logger
from ringback.servertls import CertificateError, certificate_files, read_certificates
from ringback.settings import ServiceSettings

_StubT = TypeVar("_StubT")
_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # A worker that was restarted is found at once; by default that can take two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A name may stand for several workers, each of which is asked.
    ("grpc.lb_policy_name", "round_robin"),
)
_UNIX: Final = "unix:"
_SETTINGS: Final = ServiceSettings()
# Longer than anything that is asked, but for streams.
_CLOSE_GRACE_S: Final = 10.0
# Says that a worker is down, and nothing about the request.
_DOWN: Final = grpc.StatusCode.UNAVAILABLE


class PlaintextPeerError(StartError):
    """Somebody on another machine would be asked in the clear.

    Args:
        address: Where.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return (
            f"{self.address} is another machine, and what is asked there names keys of providers: "
            "set services.tls in ringback.yaml, or services.plaintext: true where a mesh does mTLS."
        )


class Peers(Generic[_StubT]):
    """The workers of one service, each with an address of its own.

    With ``services.tls`` those on TCP are asked over TLS: we show the certificate that we serve
    with, and believe theirs if the authorities vouch for it and it names the host of the address.

    Args:
        addresses: ``unix:/path`` or ``host:port``, at least one.
        stub: The generated class of the service.
        services: How services are reached.

    Raises:
        PlaintextPeerError: If an address is on another machine, and there is no TLS.
        CertificateError: If the files of TLS cannot be used.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        stub: Callable[[aio.Channel], _StubT],
        services: ServiceSettings = _SETTINGS,
    ) -> None:
        self._addresses = tuple(addresses)
        self._make_stub = stub
        self._tls = services.tls
        # Before they are read: a change in between is then taken up, and not lost.
        self._known = fingerprint(certificate_files(services.tls).values())
        self._credentials = credentials_for(self._addresses, services)
        self._channels: list[aio.Channel] = []
        self._stubs: list[_StubT] = []
        self._turns = itertools.count()
        self._background = Background()

    def start(self) -> None:
        """Connect as soon as something is asked; needs a running event loop."""
        self._open()
        if self._credentials is not None:
            self._background.spawn(watch(self._known, lambda: self._known, self._renew))

    def _open(self) -> None:
        self._channels = [open_channel(address, self._credentials) for address in self._addresses]
        self._stubs = [self._make_stub(channel) for channel in self._channels]

    async def _renew(self) -> None:
        """Connect anew with certificates that have changed; what is being asked may end."""
        try:
            read = await asyncio.to_thread(read_certificates, self._tls)
        except CertificateError as error:
            get_logger().error("certificates_refused", problems=error.problems)
            return
        old, self._credentials = self._channels, read.for_client()
        self._open()
        for channel in old:
            self._background.spawn(channel.close(_CLOSE_GRACE_S))

    @property
    def stubs(self) -> Sequence[_StubT]:
        """Those of the workers, in the order of their addresses; anew once certificates change."""
        return self._stubs

    async def ask(
        self,
        method: Callable[[_StubT], aio.UnaryUnaryMultiCallable[_RequestT, _ResponseT]],
        request: _RequestT,
        timeout_s: float,
    ) -> _ResponseT:
        """Return the answer of a worker: of the next one if one is down.

        So what is asked must be the same if it is done twice.

        Args:
            method: Picks the method of a stub.
            request: What is asked.
            timeout_s: For all workers together, in seconds.

        Raises:
            grpc.aio.AioRpcError: If no worker answers, or one does with an error.
        """
        deadline = time.monotonic() + timeout_s
        first = next(self._turns)
        last = len(self._stubs) - 1
        for number in range(len(self._stubs)):
            stub = self._stubs[(first + number) % len(self._stubs)]
            try:
                return await method(stub)(request, timeout=deadline - time.monotonic())
            except aio.AioRpcError as error:
                if error.code() is not _DOWN or number == last:
                    raise
        raise RuntimeError("start() comes first")

    async def ask_all(
        self,
        method: Callable[[_StubT], aio.UnaryUnaryMultiCallable[_RequestT, _ResponseT]],
        request: _RequestT,
        timeout_s: float,
    ) -> list[_ResponseT | aio.AioRpcError]:
        """Return what each worker answers, in the order of their addresses.

        Args:
            method: Picks the method of a stub.
            request: What is asked.
            timeout_s: For each of them, in seconds.
        """

        async def one(stub: _StubT) -> _ResponseT | aio.AioRpcError:
            try:
                return await method(stub)(request, timeout=timeout_s)
            except aio.AioRpcError as error:
                return error

        return await asyncio.gather(*map(one, self._stubs))

    async def stop(self) -> None:
        """Close all connections."""
        await self._background.stop()
        for channel in self._channels:
            await channel.close()


def credentials_for(
    addresses: Iterable[str], services: ServiceSettings
) -> grpc.ChannelCredentials | None:
    """Return what those who ask at addresses show; None if there is no TLS.

    Raises:
        PlaintextPeerError: If an address is on another machine, and there is no TLS.
        CertificateError: If the files of TLS cannot be used.
    """
    if not _is_secured(addresses, services):
        return None
    return read_certificates(services.tls).for_client()


def _is_secured(addresses: Iterable[str], services: ServiceSettings) -> bool:
    on_tcp = [address for address in addresses if not address.startswith(_UNIX)]
    if services.tls.is_on or services.plaintext:
        return services.tls.is_on and bool(on_tcp)
    for address in on_tcp:
        if not is_loopback(address):
            raise PlaintextPeerError(address)
    return False


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> aio.Channel:
    """Return a connection to a worker, over TLS if it is on TCP and there are credentials."""
    if credentials is None or address.startswith(_UNIX):
        return aio.insecure_channel(address, options=_OPTIONS)
    return aio.secure_channel(address, credentials, options=_OPTIONS)
