"""Calls that other replicas keep: whoever is asked knows them, and can end them."""

from collections.abc import Sequence

from callkeeper.calls import Reason
from callkeeper.shared.store import CallStore, Shared
from ringback.logs import get_logger
from ringback.valkey import StoreUnavailableError


class Elsewhere:
    """Finds the calls of other replicas.

    Args:
        store: Where calls are shared; None if they are not, and there are no others.
    """

    def __init__(self, store: CallStore | None = None) -> None:
        self._store = store
        self._log = get_logger()

    async def find(self, name: str) -> Shared | None:
        """Return a call by its id or its handle; also one that has ended some minutes ago.

        Raises:
            StoreUnavailableError: If nobody can tell.
        """
        return await self._store.find(name) if self._store is not None else None

    async def list_calls(
        self, *, key_hash: str = "", token_id: str = "", with_ended: bool = False
    ) -> Sequence[Shared]:
        """Return the open calls of a token, or else of a key, or else all of them.

        While the store is away, whoever lists all sees those of who is asked.

        Args:
            key_hash: Of the key.
            token_id: Of the token.
            with_ended: Return those of a token or key, too, that ended some minutes ago.

        Raises:
            StoreUnavailableError: If nobody can tell which calls a token or key has.
        """
        if self._store is None:
            return ()
        if key_hash or token_id:
            found = await self._store.list_of(key_hash=key_hash, token_id=token_id)
        else:
            try:
                found = await self._store.list_open()
            except StoreUnavailableError:
                self._log.warning("calls_of_others_unknown")
                return ()
        return [
            shared
            for shared in found.values()
            if not shared.is_own and (with_ended or not shared.has_ended)
        ]

    async def hang_up(self, name: str, reason: Reason) -> bool:
        """Want a call to end; False if there is none.

        Raises:
            StoreUnavailableError: If nobody can tell.
        """
        shared = await self.find(name)
        if self._store is None or shared is None or shared.has_ended:
            return False
        await self._store.want(reason, [shared.call.id])
        return True

    async def revoke(self, reason: Reason, *, key_hash: str, token_id: str) -> int | None:
        """Want all calls of a token, or else of a key, to end.

        Returns:
            How many there are that nobody wanted to end before, those of this replica among them;
            None if calls are not shared.

        Raises:
            StoreUnavailableError: If nobody can tell. Those of this replica may have been missed.
        """
        if self._store is None:
            return None
        found = await self._store.list_of(key_hash=key_hash, token_id=token_id)
        is_open = [name for name, shared in found.items() if not shared.has_ended]
        return len(await self._store.want(reason, is_open))
