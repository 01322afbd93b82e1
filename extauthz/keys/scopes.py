"""Teams and users of LiteLLM's database, for callers who have no key there."""

import hashlib
from dataclasses import replace
from typing import Protocol

from extauthz.keys.model import KeyQuery, VirtualKey
from extauthz.keys.records import Owners
from extauthz.keys.sources import KeySource


class KnowsOwners(Protocol):
    """A database that can be asked for a team and a user alone."""

    async def scopes(self, team: str | None, user: str | None) -> Owners:
        """Return what they are held to."""
        ...


class OwnersSource:
    """Answers every query with a key that belongs to its team and its user.

    Args:
        database: Started and stopped by whoever has it.
    """

    def __init__(self, database: KnowsOwners) -> None:
        self._database = database

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key; never None.

        Raises:
            KeySourceUnavailableError: If the database cannot be asked: 503.
        """
        owners = await self._database.scopes(query.team, query.user)
        return owners.of(VirtualKey(query.hash, team=query.team, user=query.user))


class ScopeQueries:
    """Asks a cache of an `OwnersSource`, which knows a team and user under one name for all.

    Args:
        cache: By the hash in a query.
    """

    def __init__(self, cache: KeySource) -> None:
        self._cache = cache

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return what the team and the user of a query are held to."""
        name = f"{query.team or ''}\0{query.user or ''}"
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        return await self._cache.find(replace(query, hash=digest, secret=None))
