"""Places where keys are looked up, and several of them as one."""

import hmac
from typing import Final, Protocol

from extauthz.keys.model import KeyQuery, VirtualKey, hash_key
from ringback.secrets import Secret

MASTER_ALIAS: Final = "master"


class KeySource(Protocol):
    """A place where keys are found."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key, valid or not, or None if this source does not know it.

        Raises:
            KeySourceUnavailableError: If the source cannot be asked; then the downstream must
                receive 503, since nobody can tell an unknown key from a valid one.
        """
        ...


class RemoteSource(KeySource, Protocol):
    """A source with connections or tasks of its own."""

    async def start(self) -> None:
        """Begin; a remote that is down is no reason to fail."""
        ...

    async def stop(self) -> None:
        """End all tasks and close all connections."""
        ...


class MasterKeySource:
    """Knows the master key and nothing else.

    Args:
        master_key: ``general_settings.master_key``.
    """

    def __init__(self, master_key: Secret) -> None:
        self._key = VirtualKey(hash_key(master_key), alias=MASTER_ALIAS, is_master=True)

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the master key if this is its hash; compares in constant time."""
        is_master = hmac.compare_digest(query.hash.encode(), self._key.hash.encode())
        return self._key if is_master else None


class KeySources:
    """Several sources as one; the first that knows a key decides.

    A source that is unavailable ends the search: a later one might admit a key that the silent
    one blocks.

    Args:
        sources: In the order in which they are asked.
    """

    def __init__(self, *sources: KeySource) -> None:
        self.sources = sources
        """In the order in which they are asked."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key from the first source that knows it, or None."""
        for source in self.sources:
            key = await source.find(query)
            if key is not None:
                return key
        return None
