"""Takes the place of Prisma's Python client in the LiteLLM that is measured, and nowhere else.

The engine of the real one is a program that comes from no package registry. LiteLLM asks for a key
once a minute and worker, and remembers it in between, so what is here hardly matters, and where it
does it is in LiteLLM's favour: SQL goes straight to Postgres, and what LiteLLM notes down about
spend, and reads of tables that the benchmark leaves empty, cost nothing.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import asyncpg

_LISTS = frozenset({"find_many", "group_by"})
_COUNTS = frozenset({"count", "create_many", "update_many", "delete_many"})


class Json:
    """A value for a column of JSON.

    Args:
        data: What it holds.
    """

    def __init__(self, data: object) -> None:
        self.data = data


class PrismaError(Exception):
    """Base of all errors of the real client."""


class _Answer:
    """What every query of the query builder finds: nothing. It may go without being awaited."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, object]:
        yield from ()
        return self._value


class _Table:
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: _Answer([] if name in _LISTS else 0 if name in _COUNTS else None)


class _Engine:
    """There is no process of an engine; LiteLLM looks for its number."""

    class process:  # noqa: N801  an attribute
        """Not there."""

        pid = 0


class Prisma:
    """The part of the client that LiteLLM's check of a key uses.

    Args:
        _options: Those of the real one.
    """

    def __init__(self, **_options: object) -> None:
        self._engine = self._Prisma__engine = _Engine()
        self._pool: Any = None

    def is_connected(self) -> bool:
        """Tell whether there are connections."""
        return self._pool is not None

    async def connect(self, **_options: object) -> None:
        """Connect to DATABASE_URL."""
        url = os.environ["DATABASE_URL"].partition("?")[0]
        self._pool = await asyncpg.create_pool(url, min_size=1, max_size=10, init=_read_json)

    async def disconnect(self, **_options: object) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool:
            await pool.close()

    async def query_raw(self, query: str, *values: object, **_: object) -> list[dict[str, Any]]:
        """Run a query and return its rows."""
        return [dict(row) for row in await self._pool.fetch(query, *values)]

    async def query_first(self, query: str, *values: object, **_: object) -> dict[str, Any] | None:
        """Run a query and return its first row, if there is one."""
        row = await self._pool.fetchrow(query, *values)
        return dict(row) if row else None

    async def execute_raw(self, query: str, *values: object) -> int:
        """Run a statement."""
        await self._pool.execute(query, *values)
        return 0

    @asynccontextmanager
    async def tx(self, **_options: object) -> AsyncIterator["Prisma"]:
        """Make a transaction that holds nothing together."""
        yield self

    @asynccontextmanager
    async def batch_(self) -> AsyncIterator["Prisma"]:
        """Collect writes that are not made."""
        yield self

    def __getattr__(self, name: str) -> _Table:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Table()


async def _read_json(connection: Any) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )


class _Generated(ModuleType):
    """A module whose every name is a class: what ``prisma generate`` would have written."""

    __path__: list[str] = []  # noqa: RUF012  that of a module

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (PrismaError,) if self.__name__.endswith("errors") else (), {})
        setattr(self, name, made)
        return made


for _name in ("client", "engine", "engine.errors", "enums", "errors", "fields", "models", "types"):
    _module = _Generated(f"prisma.{_name}")
    sys.modules[_module.__name__] = _module
    setattr(sys.modules[f"prisma.{_name}".rpartition(".")[0]], _name.rpartition(".")[2], _module)
