import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
from pydantic import ValidationError

from helpers.valkey import ValkeyProcess
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.settings.store import StoreSettings
from ringback.valkey import StoreUnavailableError, Valkey

COUNT = "return redis.call('INCR', KEYS[1])"


@pytest.fixture(scope="module")
def shared() -> Iterator[ValkeyProcess]:
    """One server for all tests of this file, which leave it running."""
    with ValkeyProcess() as process:
        yield process


@pytest_asyncio.fixture
async def valkey(shared: ValkeyProcess) -> AsyncIterator[Valkey]:
    """A client of a running, empty server."""
    client = Valkey(shared.settings(timeout_s=1))
    await client.client.flushall()
    yield client
    await client.close()


async def test_script_counts(valkey: Valkey) -> None:
    """A script runs with keys below the prefix and gives what it returns."""
    name = valkey.name("limits", "a")
    assert name == "ringback:limits:a"
    assert [await valkey.run_script(COUNT, [name], []) for _ in range(3)] == [1, 2, 3]


async def test_more_at_once_than_connections(shared: ValkeyProcess) -> None:
    """Operations wait for a connection; there are never more than the settings allow."""
    client = Valkey(shared.settings(connections=2))
    await client.client.flushall()
    name = client.name("many")
    counts = await asyncio.gather(*(client.run_script(COUNT, [name], []) for _ in range(50)))
    assert sorted(counts) == list(range(1, 51))
    assert len(await client.client.client_list()) <= 3
    await client.close()


async def test_killed_and_back(shared: ValkeyProcess, valkey: Valkey) -> None:
    """While the server is away every operation fails at once; when it is back, none does."""
    name = valkey.name("restart")
    assert await valkey.run_script(COUNT, [name], []) == 1
    shared.kill()
    with pytest.raises(StoreUnavailableError):
        await valkey.run_script(COUNT, [name], [])
    await asyncio.to_thread(shared.start)
    assert await valkey.run_script(COUNT, [name], []) == 1


async def test_restart_between_two_operations(shared: ValkeyProcess, valkey: Valkey) -> None:
    """A connection that died while nobody used it costs no operation."""
    name = valkey.name("restart")
    await valkey.run_script(COUNT, [name], [])
    await shared.restart()
    assert await valkey.run_script(COUNT, [name], []) == 1


async def test_hanging_server(shared: ValkeyProcess, valkey: Valkey) -> None:
    """A server that hangs costs the time of the settings, and nothing after it goes on."""
    name = valkey.name("slow")
    await valkey.run_script(COUNT, [name], [])
    with shared.paused():
        before = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await valkey.run_script(COUNT, [name], [])
        assert 0.9 < time.monotonic() - before < 3
    # The late answer to the first one is not taken for the answer to the second.
    assert await valkey.run_script("return 'mine'", [], []) == b"mine"


async def test_refused_command(valkey: Valkey) -> None:
    """What the server refuses is the same error, and says nothing about the place."""
    with pytest.raises(StoreUnavailableError) as caught:
        await valkey.run_script("return redis.call('NOSUCH')", [], [])
    assert str(caught.value) == "the store cannot be asked"


async def relay(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with suppress(OSError):
        while part := await source.read(4096):
            target.write(part)
            await target.drain()
    target.close()


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
async def test_tls(shared: ValkeyProcess, tmp_path: Path, name: str) -> None:
    """A server behind TLS is asked only if an authority of the settings vouches for its name."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_unix_connection(shared.url.removeprefix("unix://"))
        await asyncio.gather(relay(reader, behind[1]), relay(behind[0], writer))

    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        await stack.enter_async_context(server)
        url = f"rediss://localhost:{server.sockets[0].getsockname()[1]}/0"
        client = Valkey(StoreSettings(url=Secret(url), ca_file=tmp_path / "ca.pem"))
        stack.push_async_callback(client.close)
        if name == "localhost":
            assert await client.run_script("return 'tls'", [], []) == b"tls"
        else:
            with pytest.raises(StoreUnavailableError):
                await client.run_script("return 'tls'", [], [])


async def test_errors_of_ours_pass(valkey: Valkey) -> None:
    """What has nothing to do with the store is not taken for its failure."""
    with pytest.raises(KeyError):
        async with valkey.guarded():
            raise KeyError


def test_no_url() -> None:
    """A client without an address is a mistake of ours."""
    with pytest.raises(ValueError, match="URL"):
        Valkey(StoreSettings())


@pytest.mark.parametrize(
    "url",
    [
        # Realistic
        "redis://localhost",
        "redis://valkey:6379/0",
        "rediss://user:pass@valkey.example:6380/3",
        "redis://:password@10.0.0.1",
        "unix:///run/valkey.sock",
        # Synthetic
        "redis://[::1]:6379",
    ],
)
def test_urls(url: str) -> None:
    """These name a store; the settings never show them."""
    store = Settings(store={"url": url}).store  # type: ignore[arg-type]
    assert store.url is not None
    assert store.url.reveal() == url
    assert url not in repr(store)


@pytest.mark.parametrize(
    "url",
    [
        # Realistic
        "",
        "valkey.example:6379",
        "http://valkey.example",
        "redis://",
        "redis://host/zero",
        # Synthetic
        "unix://relative",
        "unix:///",
        "redis://host:99999",
        # Pathological
        "rediss://secret-host?ssl_cert_reqs=none",
        "redis://secret-host/0#x",
        "redis://[::1",
    ],
)
def test_refused_urls(url: str) -> None:
    """These do not, and the message does not repeat them."""
    with pytest.raises(ValidationError) as caught:
        StoreSettings.model_validate({"url": url})
    assert "expected redis://" in str(caught.value)
    assert "secret-host" not in str(caught.value)
