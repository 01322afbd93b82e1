"""Fixtures of the tests with a real Envoy: a gateway to be left as it is, one to be disturbed."""

import shutil
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme

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


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared_gateway(
    authority: trustme.CA, ca_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Give the one gateway; use `gateway`, which also cleans up."""
    files = Files(tmp_path_factory.mktemp("gateway"))
    strangers = trustme.CA()
    async with (
        RecordingUpstream() as openai,
        RecordingUpstream(server_tls(authority, "localhost")) as azure,
        RecordingUpstream(server_tls(authority, "elsewhere.example")) as misnamed,
        RecordingUpstream(server_tls(strangers, "localhost")) as unknown,
        RecordingUpstream(server_tls(authority, "localhost", expired=True)) as expired,
        RecordingUpstream() as plain,
    ):
        async with RecordingUpstream() as gone:
            pass
        files.write_config(
            [
                openai_entry("voice", f"{openai.url()}/v1"),
                azure_entry("voice-azure", azure.url("localhost")),
                openai_entry("gone", gone.url()),
                openai_entry("misnamed", misnamed.url("localhost")),
                openai_entry("unknown-authority", unknown.url("localhost")),
                openai_entry("expired", expired.url("localhost")),
                openai_entry("plain", f"https://localhost:{plain.port}"),
            ]
        )
        files.write_keys()
        ports = free_metrics_ports()
        files.write_settings(
            upstream={"ca_file": str(ca_file), "mint_timeout_s": 2}, metrics_address=ports.address
        )
        async with Stack(files.options()) as stack:
            gateway = Gateway(stack, files, openai, azure, metrics=ports)
            yield gateway
            check_logs(gateway)
        for upstream in (misnamed, unknown, expired, plain):
            assert upstream.received == []


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """A gateway whose upstreams have received nothing yet and have no script."""
    shared_gateway.reset()
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared_pair(
    authority: trustme.CA, ca_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Give the gateway with two workers of each service; use `pair`, which also cleans up."""
    files = Files(tmp_path_factory.mktemp("pair"))
    own_ca_file = files.folder / "ca.pem"
    shutil.copy(ca_file, own_ca_file)
    async with (
        RecordingUpstream() as openai,
        RecordingUpstream(server_tls(authority, "localhost")) as azure,
    ):
        files.write_config(entries_of_pair(openai, azure))
        files.write_keys()
        files.write_settings(
            upstream={"ca_file": str(own_ca_file)}, reload={"settle_s": 1, "drain_s": 2}
        )
        async with Stack(files.options(workers=2)) as stack:
            gateway = Gateway(stack, files, openai, azure)
            yield gateway
            check_logs(gateway)


@pytest_asyncio.fixture(loop_scope="session")
async def pair(shared_pair: Gateway) -> AsyncIterator[Gateway]:
    """Give a gateway with two workers of each service, whose parts a test may end."""
    shared_pair.reset()
    yield shared_pair
    shared_pair.reset()
    await shared_pair.wait_for("extauthz-0", "extauthz-1", "sdpfilter-0", "sdpfilter-1")
    assert (await shared_pair.call(await shared_pair.token())).status == 201


def entries_of_pair(openai: RecordingUpstream, azure: RecordingUpstream) -> list[dict[str, Any]]:
    """Return the ``model_list`` with which the gateway with two workers begins."""
    return [
        openai_entry("voice", f"{openai.url()}/v1"),
        azure_entry("voice-azure", azure.url("localhost")),
    ]
