"""Virtual keys, and where they are looked up."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from ringback.secrets import Secret

MASTER_ALIAS: Final = "master"


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """What a key may do, without the key itself.

    Attributes:
        hash: sha256 of the whole key in hex, as in LiteLLM's database.
        alias: The name that people know it by.
        models: Groups and aliases that it may use; none means all, as in LiteLLM.
        expires: The first moment, in UTC, at which it is no longer valid.
        blocked: Whether an administrator has switched it off.
        team: Id of the team that it belongs to.
        user: Id of the user that it belongs to.
        sdp_policy: Name of an SDP policy that its calls are held to, beside those of the settings.
        is_master: Whether it is the master key, which has every right.
    """

    hash: str
    alias: str | None = None
    models: tuple[str, ...] = ()
    expires: datetime | None = None
    blocked: bool = False
    team: str | None = None
    user: str | None = None
    sdp_policy: str | None = None
    is_master: bool = False


def hash_key(raw: Secret) -> str:
    """Return a key's identity: sha256, in hex, of the whole key with its ``sk-``."""
    return hashlib.sha256(raw.to_bytes()).hexdigest()


class KeySource(Protocol):
    """A place where keys are found by their hash."""

    async def find(self, key_hash: str) -> VirtualKey | None:
        """Return the key, valid or not, or None if this source does not know it.

        Raises:
            KeySourceUnavailableError: If the source cannot be asked; then the downstream must
                receive 503, since nobody can tell an unknown key from a valid one.
        """
        ...


class MasterKeySource:
    """Knows the master key and nothing else.

    Args:
        master_key: ``general_settings.master_key``.
    """

    def __init__(self, master_key: Secret) -> None:
        self._key = VirtualKey(hash_key(master_key), alias=MASTER_ALIAS, is_master=True)

    async def find(self, key_hash: str) -> VirtualKey | None:
        """Return the master key if this is its hash; compares in constant time."""
        is_master = hmac.compare_digest(key_hash.encode(), self._key.hash.encode())
        return self._key if is_master else None


class KeySources:
    """Several sources as one; the first that knows a key decides.

    A source that is unavailable ends the search: a later one might admit a key that the silent
    one blocks.

    Args:
        sources: In the order in which they are asked.
    """

    def __init__(self, *sources: KeySource) -> None:
        self._sources = sources

    async def find(self, key_hash: str) -> VirtualKey | None:
        """Return the key from the first source that knows it, or None."""
        for source in self._sources:
            key = await source.find(key_hash)
            if key is not None:
                return key
        return None
