"""Fixtures that tests of several packages use."""

from collections.abc import Iterator

import pytest

from helpers.postgres import Database, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A Postgres to be left running; tests that stop theirs start one of their own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Database:
    """An empty database with LiteLLM's newest schema."""
    return postgres.create_database()
