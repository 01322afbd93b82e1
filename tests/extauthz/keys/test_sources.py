import hashlib

import pytest

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import KeyQuery, KeySource, KeySources, MasterKeySource, VirtualKey, hash_key
from ringback.secrets import Secret

MASTER = Secret("sk-master-0123456789")


class OneKeySource:
    """Knows one key."""

    def __init__(self, key: VirtualKey) -> None:
        self._key = key

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key if this is its hash."""
        return self._key if query.hash == self._key.hash else None


class SilentSource:
    """Cannot be asked."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:  # noqa: ARG002  the interface
        """Raise, whatever the hash."""
        raise KeySourceUnavailableError


def test_a_key_is_known_by_the_hash_of_all_of_it() -> None:
    """The identity of a key is the sha256 of the whole text, in hex, as in LiteLLM."""
    assert hash_key(Secret("sk-1234")) == hashlib.sha256(b"sk-1234").hexdigest()
    assert hash_key(Secret("sk-é")) == hashlib.sha256("sk-é".encode()).hexdigest()


async def test_the_master_key_has_every_right() -> None:
    """The master key is known by its hash, and by nothing else."""
    source = MasterKeySource(MASTER)
    key = await source.find(KeyQuery(hash_key(MASTER)))
    assert key is not None
    assert key.is_master
    assert (key.hash, key.alias, key.models, key.blocked, key.expires) == (
        hash_key(MASTER),
        "master",
        (),
        False,
        None,
    )
    assert await source.find(KeyQuery(hash_key(Secret("sk-other")))) is None
    assert await source.find(KeyQuery(MASTER.reveal())) is None
    assert await source.find(KeyQuery("é")) is None


@pytest.mark.parametrize(
    ("sources", "alias"),
    [
        pytest.param((), None, id="none"),
        pytest.param((MasterKeySource(MASTER),), None, id="unknown"),
        pytest.param(
            (MasterKeySource(MASTER), OneKeySource(VirtualKey("h", "one"))), "one", id="second"
        ),
        pytest.param(
            (OneKeySource(VirtualKey("h", "one")), OneKeySource(VirtualKey("h", "two"))),
            "one",
            id="first-decides",
        ),
        pytest.param((OneKeySource(VirtualKey("h", "one")), SilentSource()), "one", id="in-order"),
    ],
)
async def test_sources_are_asked_in_order(
    sources: tuple[KeySource, ...], alias: str | None
) -> None:
    """The first source that knows a key decides; the rest is not asked."""
    key = await KeySources(*sources).find(KeyQuery("h"))
    assert (key and key.alias) == alias


async def test_a_silent_source_ends_the_search() -> None:
    """A source that cannot be asked is not skipped: a later one might admit what it blocks."""
    sources = KeySources(SilentSource(), OneKeySource(VirtualKey("h", "one")))
    with pytest.raises(KeySourceUnavailableError):
        await sources.find(KeyQuery("h"))
