"""The key source under test, beside a database that belongs to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from extauthz.keys import KeyQuery, VirtualKey
from extauthz.keys.postgres import PostgresSource
from extauthz.keys.postgreschanges import Forgetful
from helpers.litellmrows import hash_of
from ringback.postgresconnect import Database
from ringback.secrets import Secret
from ringback.settings.database import DatabaseSettings


@asynccontextmanager
async def open_source(
    url: str, memory: Forgetful | None = None, **settings: Any
) -> AsyncIterator[PostgresSource]:
    """Run a source between the ends of a block.

    Args:
        url: Of the database.
        memory: What is told of changes.
        settings: Of the section ``database:``.
    """
    source = PostgresSource(Database(DatabaseSettings(**settings), Secret(url)))
    source.memory = memory
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


async def find(source: PostgresSource, raw: str) -> VirtualKey | None:
    """Return the key with this text."""
    return await source.find(KeyQuery(hash_of(raw)))
