import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode, aio

from callsapi.v1.calls_pb2 import ReachRequest
from callsapi.v1.calls_pb2_grpc import UpstreamsStub, add_UpstreamsServicer_to_server
from helpers.sidebandprovider import ReachTeller
from helpers.svids import DOMAIN, SERVICES, Authority, Identity
from helpers.waiting import until
from ringback.grpcpeers import Peers, PlaintextPeerError
from ringback.peercheck import PeerCheck
from ringback.servertls import ServerTls
from ringback.settings import ServiceSettings
from ringback.settings.services import ServerTlsSettings

ASKER = f"{DOMAIN}/ns/voice/sa/asker"
HOST = "localhost"
REQUEST = ReachRequest(handle="rtc_handle")


@asynccontextmanager
async def worker(address: str) -> AsyncIterator[ReachTeller]:
    """Run a worker at an address."""
    server, teller = aio.server(), ReachTeller()
    add_UpstreamsServicer_to_server(teller, server)
    server.add_insecure_port(address)
    await server.start()
    yield teller
    await server.stop(None)


@asynccontextmanager
async def peers_at(*addresses: str) -> AsyncIterator[Peers[UpstreamsStub]]:
    """Give a client of workers."""
    peers = Peers(addresses, UpstreamsStub)
    peers.start()
    yield peers
    await peers.stop()


async def test_workers_are_asked_in_turn_and_one_that_is_down_is_passed_over(
    tmp_path: Path,
) -> None:
    """Each request is answered; a worker that comes back is asked again soon."""
    one, other = f"unix:{tmp_path}/one", f"unix:{tmp_path}/other"
    async with peers_at(one, other) as peers, worker(one) as first:
        for _ in range(4):
            await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        assert first.asked == 4
        async with worker(other) as second:
            async with asyncio.timeout(10):
                while not second.asked:
                    await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
                    await asyncio.sleep(0.05)


async def test_nobody_to_ask_is_an_error(tmp_path: Path) -> None:
    """UNAVAILABLE, and at once."""
    async with peers_at(f"unix:{tmp_path}/one", f"unix:{tmp_path}/other") as peers:
        with pytest.raises(aio.AioRpcError) as caught:
            await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_a_worker_refuses_no_other_is_asked(tmp_path: Path) -> None:
    """An error that is about the request is the answer."""
    one, other = f"unix:{tmp_path}/one", f"unix:{tmp_path}/other"
    async with peers_at(one, other) as peers, worker(one) as first, worker(other) as second:
        first.refuses = second.refuses = grpc.StatusCode.NOT_FOUND
        with pytest.raises(aio.AioRpcError) as caught:
            await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert first.asked + second.asked == 1


async def test_all_workers_are_asked_at_once(tmp_path: Path) -> None:
    """Each answers or says why not, in the order of the addresses."""
    one, other, gone = (f"unix:{tmp_path}/{name}" for name in ("one", "other", "gone"))
    async with peers_at(one, gone, other) as peers, worker(one), worker(other) as second:
        second.refuses = grpc.StatusCode.NOT_FOUND
        answers = await peers.ask_all(lambda stub: stub.Reach, REQUEST, 5)
    codes = [
        answer.code() if isinstance(answer, aio.AioRpcError) else grpc.StatusCode.OK
        for answer in answers
    ]
    assert codes == [
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND,
    ]


def tls_settings(identity: Identity) -> ServiceSettings:
    """Return the settings of a service that shows an identity and lets in one other."""
    return ServiceSettings(
        tls=ServerTlsSettings(
            certificate_file=identity.certificate,
            key_file=identity.key,
            client_ca_file=identity.authorities,
            allowed_peers=(ASKER,),
        )
    )


@dataclass
class Secured:
    """A worker that wants to know who asks, and somebody who does."""

    teller: ReachTeller
    peers: Peers[UpstreamsStub]
    asked: Identity
    asker: Identity

    async def ask(self) -> StatusCode:
        """Ask once, and return how that ends."""
        try:
            await self.peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        except aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK


@asynccontextmanager
async def secured(
    folder: Path, asked: tuple[bytes, bytes], asker: tuple[bytes, bytes], authority: Authority
) -> AsyncIterator[Secured]:
    """Run both with certificates of their own; what they believe is the same."""
    one, other = Identity(folder / "asked"), Identity(folder / "asker")
    one.write(asked, authority)
    other.write(asker, authority)
    tls = ServerTls(tls_settings(one).tls, poll_s=0.05)
    server, teller = aio.server(interceptors=[PeerCheck([ASKER])]), ReachTeller()
    add_UpstreamsServicer_to_server(teller, server)
    port = server.add_secure_port(f"{HOST}:0", tls.credentials)
    await server.start()
    tls.start()
    peers = Peers([f"{HOST}:{port}"], UpstreamsStub, tls_settings(other))
    peers.start()
    try:
        yield Secured(teller, peers, one, other)
    finally:
        await peers.stop()
        await tls.stop()
        await server.stop(None)


async def test_both_sides_show_who_they_are(tmp_path: Path) -> None:
    """The name of the host and the authority are enough for one side, the SPIFFE id for both."""
    authority = Authority()
    asked, asker = authority.issue(SERVICES, HOST), authority.issue(ASKER)
    async with secured(tmp_path, asked, asker, authority) as both:
        assert await both.ask() is StatusCode.OK
        assert both.teller.asked == 1


@pytest.mark.parametrize(
    ("asked", "asker", "expected"),
    [
        pytest.param("other.test", ASKER, StatusCode.UNAVAILABLE, id="another-host"),
        pytest.param(None, ASKER, StatusCode.UNAVAILABLE, id="host-of-other-authority"),
        pytest.param(HOST, None, StatusCode.UNAVAILABLE, id="asker-of-other-authority"),
        pytest.param(HOST, SERVICES, StatusCode.PERMISSION_DENIED, id="another-id"),
    ],
)
async def test_nobody_else_asks_or_is_asked(
    tmp_path: Path, asked: str | None, asker: str | None, expected: StatusCode
) -> None:
    """Whichever side shows the wrong certificate, nothing reaches the handler."""
    authority, stranger = Authority(), Authority()
    shown = authority.issue(SERVICES, asked) if asked else stranger.issue(SERVICES, HOST)
    mine = authority.issue(asker) if asker else stranger.issue(ASKER)
    async with secured(tmp_path, shown, mine, authority) as both:
        assert await both.ask() is expected
        assert both.teller.asked == 0


async def test_certificates_that_change_are_taken_up(tmp_path: Path) -> None:
    """Both sides change to another authority, and go on without a restart."""
    old, new = Authority(), Authority()
    asked, asker = old.issue(SERVICES, HOST), old.issue(ASKER)
    async with secured(tmp_path, asked, asker, old) as both:
        assert await both.ask() is StatusCode.OK
        both.asked.write(new.issue(SERVICES, HOST), new)
        both.asker.write(new.issue(ASKER), new)
        # The connection of before goes on until the asker has seen the new files.
        before = both.peers._channels
        await until(lambda: both.peers._channels is not before)
        async with asyncio.timeout(10):
            while await both.ask() is not StatusCode.OK:
                pass


@pytest.mark.parametrize("address", ["10.0.0.2:9001", "callkeeper.test:9003"])
def test_nobody_on_another_machine_is_asked_in_the_clear(address: str) -> None:
    """Unless the settings say that a mesh does mTLS."""
    with pytest.raises(PlaintextPeerError, match=r"services\.tls"):
        Peers(["127.0.0.1:9001", address], UpstreamsStub)
    Peers([address], UpstreamsStub, ServiceSettings(plaintext=True))
    Peers(["unix:/run/s", "[::1]:9001", "localhost:9001"], UpstreamsStub)
