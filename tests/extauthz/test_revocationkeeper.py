import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from extauthz.calls import TokenRefusedError
from extauthz.errors import ConfigError
from extauthz.revocationkeeper import (
    RevocationKeeper,
    RevocationsUnavailableError,
    read_store,
    write_store,
)
from extauthz.revocations import Revocation, save_revocations
from extauthz.tokenguard import TokenGuard
from helpers.authz import CLAIMS, NOW, Clock, request, sealer
from helpers.valkey import ValkeyProcess
from helpers.waiting import until
from ringback.settings import TokenSettings
from ringback.tokens.errors import TokenError
from ringback.valkey import Valkey

ONE = Revocation("token_id", CLAIMS.jti, NOW)
DAY = Revocation("kid", "2026-11-22", NOW)
OTHER = replace(CLAIMS, jti="another")


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    """A Valkey for all tests here."""
    with ValkeyProcess() as running:
        yield running


@asynccontextmanager
async def kept(
    settings: TokenSettings, *sealers: Any, valkey: Valkey | None = None
) -> AsyncIterator[RevocationKeeper]:
    """Give a keeper that looks often."""
    keeper = RevocationKeeper(settings, sealers, valkey, poll_s=0.02, store_poll_s=0.05)
    keeper.start()
    yield keeper
    await keeper.stop()
    if valkey is not None:
        await valkey.close()


async def test_a_file_is_taken_up_when_it_changes(tmp_path: Path) -> None:
    """A token is refused soon after its id is in the file, and good again when it is not."""
    file = tmp_path / "revoked.yaml"
    save_revocations(file, ())
    tokens, handles = sealer(), sealer()
    sealed = tokens.seal(CLAIMS.to_claims(), NOW)
    async with kept(TokenSettings(revoked_file=file), tokens, handles) as keeper:
        guard = TokenGuard(tokens, Clock(), is_revoked=keeper.is_revoked)
        assert guard.open(sealed, request("/", None)) == CLAIMS
        save_revocations(file, [ONE])
        await until(lambda: keeper.is_revoked(CLAIMS))
        assert not keeper.is_revoked(OTHER)
        with pytest.raises(TokenRefusedError):
            guard.open(sealed, request("/", None))
        with pytest.raises(TokenRefusedError):
            # To end a call, too: whoever holds it may not be its owner.
            guard.open(sealed, request("/", None), grace_s=3600)
        save_revocations(file, [DAY])
        await until(lambda: not keeper.is_revoked(CLAIMS))
        for one in (tokens, handles):
            with pytest.raises(TokenError, match="revoked"):
                one.open(sealed, NOW)


async def test_a_bad_file_is_refused_and_the_old_list_stays(tmp_path: Path) -> None:
    """What was revoked stays so when the file has a mistake, or is gone; the log says why."""
    file = tmp_path / "revoked.yaml"
    save_revocations(file, [ONE])
    with capture_logs() as log:
        async with kept(TokenSettings(revoked_file=file)) as keeper:
            file.write_text("revoked: [{token_id: x}]")
            await until(lambda: log)
            assert log[0]["event"] == "revoked_refused"
            assert "expected `at`" in str(log[0]["problems"])
            assert keeper.is_revoked(CLAIMS)
    file.unlink()
    with pytest.raises(ConfigError, match=r"revoked\.yaml"):
        RevocationKeeper(TokenSettings(revoked_file=file))


async def test_the_store_tells_all_replicas(server: ValkeyProcess) -> None:
    """What one writes, all that ask the store learn; what it has said holds while it is away."""
    settings = TokenSettings(revoked_in_store=True)
    one, two = (Valkey(server.settings(timeout_s=0.5)) for _ in range(2))
    async with kept(settings, valkey=one) as first, kept(settings, valkey=two) as second:
        with pytest.raises(RevocationsUnavailableError):
            first.is_revoked(CLAIMS)

        def is_known() -> bool:
            try:
                return not (first.is_revoked(CLAIMS) or second.is_revoked(CLAIMS))
            except RevocationsUnavailableError:
                return False

        await until(is_known)
        writer = Valkey(server.settings())
        await write_store(writer, [ONE, DAY])
        await until(lambda: first.is_revoked(CLAIMS) and second.is_revoked(CLAIMS))
        assert not first.is_revoked(OTHER)
        with server.paused():
            await asyncio.sleep(0.7)
            assert first.is_revoked(CLAIMS)
            assert not first.is_revoked(OTHER)
        await write_store(writer, [], [ONE])
        assert await read_store(writer) == (DAY,)
        await until(lambda: not first.is_revoked(CLAIMS))
        for field, at in (("nonsense", "x"), (b"kid:\xff", "1"), ("kid:x", "9" * 5000)):
            await writer.client.hset("ringback:revoked", field, at)
        found = await read_store(writer)
        assert found is not None
        assert DAY in found
        await writer.close()


async def test_a_store_that_forgets_is_told_again(server: ValkeyProcess) -> None:
    """A server that comes back empty has restored nothing: workers go on, and write it down."""
    client, writer = Valkey(server.settings()), Valkey(server.settings())
    await write_store(writer, [ONE])
    async with kept(TokenSettings(revoked_in_store=True), valkey=client) as keeper:

        def is_known() -> bool:
            try:
                return keeper.is_revoked(CLAIMS)
            except RevocationsUnavailableError:
                return False

        await until(is_known)
        with server.client() as raw:
            raw.flushall()
            await until(lambda: raw.hexists("ringback:revoked", f"token_id:{ONE.name}"))
        assert keeper.is_revoked(CLAIMS)
        await write_store(writer, [], [ONE])
        await until(lambda: not keeper.is_revoked(CLAIMS))
    await writer.close()


async def test_nobody_is_let_in_before_the_store_has_spoken() -> None:
    """A worker that starts while the store is down trusts no token: 503."""
    gone = Valkey(ValkeyProcess().settings(timeout_s=0.2))
    async with kept(TokenSettings(revoked_in_store=True), valkey=gone) as keeper:
        await asyncio.sleep(0.3)
        with pytest.raises(RevocationsUnavailableError, match="Try again") as caught:
            keeper.is_revoked(CLAIMS)
        assert caught.value.http_status == 503


async def test_without_a_list_nothing_is_revoked(server: ValkeyProcess) -> None:
    """By default there is nothing to ask, also where there is a store."""
    async with kept(TokenSettings(), valkey=Valkey(server.settings())) as keeper:
        assert not keeper.is_revoked(CLAIMS)
