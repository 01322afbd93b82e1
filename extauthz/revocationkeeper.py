"""Learns what is revoked, from a file or from the store, within seconds."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, cast

from extauthz.errors import ConfigError, TokenUncheckedError
from extauthz.metrics import RELOADS
from extauthz.revocations import KINDS, Revocation, Revocations, TokenCall, load_revocations
from ringback.filewatch import MISSING_S, POLL_S, fingerprint, watch
from ringback.logs import describe, get_logger
from ringback.settings import TokenSettings
from ringback.tokens.claims import CallClaims
from ringback.tokens.jwe import Sealer
from ringback.valkey import StoreUnavailableError, Valkey, end

# How often the store is asked; a revocation holds everywhere after this time.
STORE_POLL_S: Final = 1.0
_HASH: Final = "revoked"
# A member that stays when the last entry goes: without it the list is not empty but lost.
_MARK: Final = b"list"
_MAX_DIGITS: Final = 12


class RevocationsUnavailableError(TokenUncheckedError):
    """The store has not yet said what is revoked, so no token can be trusted: 503."""

    code = "revocations_unavailable"


class RevocationKeeper:
    """Knows which tokens are revoked.

    What a file or the store has said holds until they say otherwise: while the store is away, and
    when the file has a mistake. Before the store has said anything no token is good.

    Args:
        settings: Where revocations are listed; both places count.
        sealers: What opens tokens and handles, told of sealing keys that are revoked.
        valkey: The store; None if there is none.
        poll_s: Time between two looks at the file.
        store_poll_s: Time between two looks at the store.

    Raises:
        ConfigError: If the file cannot be used.
    """

    def __init__(
        self,
        settings: TokenSettings,
        sealers: Sequence[Sealer] = (),
        valkey: Valkey | None = None,
        *,
        poll_s: float = POLL_S,
        store_poll_s: float = STORE_POLL_S,
    ) -> None:
        self._path = settings.revoked_file
        self._leeway_s = settings.leeway_s
        self._sealers = sealers
        self._valkey = valkey if settings.revoked_in_store else None
        self._poll_s = poll_s
        self._store_poll_s = store_poll_s
        files = [self._path] if self._path else []
        self._known = fingerprint(files)
        self._from_file: tuple[Revocation, ...] = load_revocations(self._path) if self._path else ()
        # None: not asked yet.
        self._from_store: tuple[Revocation, ...] | None = None if self._valkey else ()
        self._revocations = Revocations()
        self._tasks: list[asyncio.Task[None]] = []
        self._log = get_logger()
        self._take_up()

    def is_revoked(self, claims: CallClaims | TokenCall) -> bool:
        """Tell whether a token is revoked.

        Raises:
            RevocationsUnavailableError: If nobody can tell: 503.
        """
        if self._from_store is None:
            raise RevocationsUnavailableError
        return self._revocations.cover(claims, self._leeway_s)

    def start(self) -> None:
        """Begin to watch."""
        if self._path is not None:
            known = self._known
            watching = watch(
                known, lambda: known, self._reload, poll_s=self._poll_s, missing_s=MISSING_S
            )
            self._tasks.append(asyncio.create_task(watching))
        if self._valkey is not None:
            self._tasks.append(asyncio.create_task(self._ask_store(self._valkey)))

    async def stop(self) -> None:
        """Stop watching."""
        await end(*self._tasks)

    async def _reload(self) -> None:
        assert self._path is not None  # noqa: S101  nobody watches otherwise
        try:
            self._from_file = await asyncio.to_thread(load_revocations, self._path)
        except ConfigError as error:
            RELOADS.labels("revoked", "refused").inc()
            self._log.error("revoked_refused", problems=error.problems)
            return
        self._take_up()
        RELOADS.labels("revoked", "taken_up").inc()
        self._log.info("revoked_changed", entries=len(self._from_file))

    async def _ask_store(self, valkey: Valkey) -> None:
        while True:
            try:
                await self._ask_once(valkey)
            except StoreUnavailableError:
                # The store tells of itself.
                pass
            except Exception as error:  # noqa: BLE001  whatever it is, ask again
                self._log.error("revoked_unreadable", **describe(error))
            await asyncio.sleep(self._store_poll_s)

    async def _ask_once(self, valkey: Valkey) -> None:
        found = await read_store(valkey)
        if found is None and self._from_store:
            # A server that was restarted empty has not restored anything: it is told again.
            self._log.error("revoked_lost_in_store", entries=len(self._from_store))
            await write_store(valkey, self._from_store)
            return
        if (found or ()) != self._from_store:
            self._from_store = found or ()
            self._take_up()
            self._log.info("revoked_changed", entries=len(self._from_store))

    def _take_up(self) -> None:
        self._revocations = Revocations.of((*self._from_file, *(self._from_store or ())))
        for sealer in self._sealers:
            sealer.revoked_kids = self._revocations.kids


async def read_store(valkey: Valkey) -> tuple[Revocation, ...] | None:
    """Return what the store lists, in a fixed order; None if it knows of no list.

    Raises:
        StoreUnavailableError: If it does not answer.
    """
    async with valkey.guarded():
        answer = await valkey.client.hgetall(valkey.name(_HASH))
    listed = cast("dict[bytes, bytes]", answer)
    if _MARK not in listed:
        return None
    entries = []
    for field, at in listed.items():
        kind, _, name = field.decode(errors="replace").partition(":")
        # What others have written there is none of ours.
        if kind in KINDS and at.isdigit() and len(at) <= _MAX_DIGITS:
            entries.append(Revocation(kind, name, int(at)))
    return tuple(sorted(entries, key=lambda entry: (entry.at, entry.kind, entry.name)))


async def write_store(
    valkey: Valkey, added: Iterable[Revocation], removed: Iterable[Revocation] = ()
) -> None:
    """Add entries to those of the store, and take others away.

    Raises:
        StoreUnavailableError: If it does not answer; then some of it may have been done.
    """
    name = valkey.name(_HASH)
    async with valkey.guarded():
        await valkey.client.hset(name, _MARK.decode(), "")
        for entry in added:
            await valkey.client.hset(name, f"{entry.kind}:{entry.name}", str(entry.at))
        for entry in removed:
            await valkey.client.hdel(name, f"{entry.kind}:{entry.name}")
