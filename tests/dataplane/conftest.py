"""Fixtures of the tests with a real Envoy: a gateway to be left as it is, one to be disturbed."""

import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import trustme

from helpers.dataplanes import DataPlane, Shared
from helpers.gateway import Gateway
from helpers.gatewayfiles import (
    AZURE_KEY,
    KEYS,
    MASTER_KEY,
    TOKEN_SECRET,
    Files,
    azure_entry,
    openai_entry,
)
from helpers.recording import RecordingUpstream
from helpers.scraping import free_metrics_ports
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

WORKERS: Final = ("extauthz-0", "extauthz-1", "sdpfilter-0", "sdpfilter-1")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The certificate authority that the gateway trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate."""
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


def server_tls(authority: trustme.CA, *names: str, expired: bool = False) -> ssl.SSLContext:
    """Return what serves https with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    not_after = datetime(2020, 1, 31, tzinfo=UTC) if expired else None
    authority.issue_cert(*names, not_after=not_after).configure_cert(context)
    return context


def check_logs(gateway: Gateway) -> None:
    """Check that after all tests no process has logged anything that it should not."""
    for name, text in gateway.logs().items():
        assert find_secrets(text, *KEYS, MASTER_KEY, AZURE_KEY, TOKEN_SECRET) == set(), name


@asynccontextmanager
async def open_gateway(
    dataplane: DataPlane, folder: Path, authority: trustme.CA, ca_file: Path
) -> AsyncIterator[Gateway]:
    """Give a gateway with one worker of each service, and upstreams good and bad."""
    files = Files(folder)
    strangers = trustme.CA()
    host = dataplane.tls_host
    async with (
        RecordingUpstream() as openai,
        RecordingUpstream(server_tls(authority, host)) as azure,
        RecordingUpstream(server_tls(authority, "elsewhere.example")) as misnamed,
        RecordingUpstream(server_tls(strangers, host)) as unknown,
        RecordingUpstream(server_tls(authority, host, expired=True)) as expired,
        RecordingUpstream() as plain,
    ):
        # Bound, so that nobody else gets the port, and not listening.
        gone = socket.socket()
        gone.bind(("127.0.0.1", 0))
        files.write_config(
            [
                openai_entry("voice", f"{openai.url()}/v1"),
                azure_entry("voice-azure", azure.url(host)),
                openai_entry("gone", f"http://127.0.0.1:{gone.getsockname()[1]}"),
                openai_entry("misnamed", misnamed.url(host)),
                openai_entry("unknown-authority", unknown.url(host)),
                openai_entry("expired", expired.url(host)),
                openai_entry("plain", f"https://{host}:{plain.port}"),
            ]
        )
        files.write_keys()
        ports = free_metrics_ports()
        files.write_settings(
            upstream={"ca_file": str(ca_file), "mint_timeout_s": 2, "egress": dataplane.egress},
            metrics_address=ports.address,
        )
        async with Stack(files.options(), make_bootstrap=dataplane.with_(files)) as stack:
            gateway = Gateway(stack, files, openai, azure, metrics=ports, dataplane=dataplane)
            yield gateway
            check_logs(gateway)
        gone.close()
        for upstream in (misnamed, unknown, expired, plain):
            assert upstream.received == []


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared_gateways(
    authority: trustme.CA, ca_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shared[Gateway]]:
    """Give the one gateway of each data plane; use `gateway`, which also cleans up."""

    def start(dataplane: DataPlane) -> AbstractAsyncContextManager[Gateway]:
        folder = tmp_path_factory.mktemp(f"gateway-{dataplane}")
        return open_gateway(dataplane, folder, authority, ca_file)

    async with Shared(start) as gateways:
        yield gateways


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(shared_gateways: Shared[Gateway], dataplane: DataPlane) -> Gateway:
    """Give a gateway whose upstreams have received nothing yet and have no script."""
    gateway = await shared_gateways.of(dataplane)
    gateway.reset()
    return gateway


@asynccontextmanager
async def open_pair(
    dataplane: DataPlane, folder: Path, authority: trustme.CA, ca_file: Path
) -> AsyncIterator[Gateway]:
    """Give a gateway with two workers of each service."""
    files = Files(folder)
    own_ca_file = files.folder / "ca.pem"
    shutil.copy(ca_file, own_ca_file)
    async with (
        RecordingUpstream() as openai,
        RecordingUpstream(server_tls(authority, dataplane.tls_host)) as azure,
    ):
        files.write_config(entries_of_pair(openai, azure, dataplane.tls_host))
        files.write_keys()
        files.write_settings(
            upstream={"ca_file": str(own_ca_file), "egress": dataplane.egress},
            reload={"settle_s": 1, "drain_s": 2},
        )
        options = files.options(workers=2)
        async with Stack(options, make_bootstrap=dataplane.with_(files)) as stack:
            gateway = Gateway(stack, files, openai, azure, dataplane=dataplane)
            yield gateway
            check_logs(gateway)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def pair_gateways(
    authority: trustme.CA, ca_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shared[Gateway]]:
    """Give the gateway with two workers of each data plane; use `pair`, which also cleans up."""

    def start(dataplane: DataPlane) -> AbstractAsyncContextManager[Gateway]:
        folder = tmp_path_factory.mktemp(f"pair-{dataplane}")
        return open_pair(dataplane, folder, authority, ca_file)

    async with Shared(start) as pairs:
        yield pairs


@pytest_asyncio.fixture(loop_scope="session")
async def pair(pair_gateways: Shared[Gateway], dataplane: DataPlane) -> AsyncIterator[Gateway]:
    """Give a gateway with two workers of each service, whose parts a test may end."""
    pair = await pair_gateways.of(dataplane)
    pair.reset()
    # The gateway is ready with one worker of each; ending that one before the other serves is
    # not what tests are about.
    await pair.wait_for(*WORKERS)
    yield pair
    pair.reset()
    await pair.wait_for(*WORKERS)
    assert (await pair.call(await pair.token())).status == 201


def entries_of_pair(
    openai: RecordingUpstream, azure: RecordingUpstream, tls_host: str
) -> list[dict[str, Any]]:
    """Return the ``model_list`` with which the gateway with two workers begins."""
    return [
        openai_entry("voice", f"{openai.url()}/v1"),
        azure_entry("voice-azure", azure.url(tls_host)),
    ]
