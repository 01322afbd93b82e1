"""Connections to LiteLLM's database: a bounded pool, and single ones."""

import ssl
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from ringback.errors import why_unusable
from ringback.postgresurl import DatabaseUrl, DatabaseUrlError, parse_database_url
from ringback.secrets import Secret
from ringback.settings.database import DatabaseSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool, Connection = asyncpg.Pool, asyncpg.Connection

_POOL_SIZE: Final = 10
_APPLICATION: Final = "ringback"
# A connection that nobody used for so long is closed; firewalls forget idle ones without a word.
_IDLE_S: Final = 60.0


class Database:
    """Where the database is and how it is spoken to.

    Args:
        settings: The section ``database:``.
        url: The URL in force.
        read_only: Whether sessions refuse to write.

    Raises:
        DatabaseUrlError: If the URL or a certificate file cannot be used.
    """

    def __init__(self, settings: DatabaseSettings, url: Secret, *, read_only: bool = True) -> None:
        self.url = parse_database_url(url)
        self.settings = settings
        self._read_only = read_only
        self._options = self._connect_options()

    async def open_pool(self) -> Pool:
        """Return a pool that connects when somebody needs it."""
        size = self.settings.pool_size or self.url.connection_limit or _POOL_SIZE
        # Its statement would put the session back to where nobody has moved it from.
        return await asyncpg.create_pool(
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=_IDLE_S,
            reset=_leave_as_it_is,
            **self._options,
        )

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a connection outside of the pool."""
        return await asyncpg.connect(**self._options)

    def _connect_options(self) -> dict[str, Any]:
        url, settings = self.url, self.settings
        session = {"application_name": _APPLICATION}
        if not url.is_pooled:
            # PgBouncer refuses parameters that it does not know.
            session["statement_timeout"] = str(round(settings.statement_timeout_s * 1000))
            session["default_transaction_read_only"] = "on" if self._read_only else "off"
            # One plan fits all keys, and to plan a dozen joins takes longer than to run them.
            session["plan_cache_mode"] = "force_generic_plan"
        return {
            "host": url.host,
            "port": url.port,
            "user": url.user,
            "password": None if url.password is None else url.password.reveal(),
            "database": url.database,
            "ssl": _tls(url, settings),
            "timeout": settings.connect_timeout_s,
            "command_timeout": settings.statement_timeout_s,
            "server_settings": session,
            # Prepared once for each connection. Through PgBouncer, statements do not stay.
            "statement_cache_size": 0 if url.is_pooled else 16,
            "max_cached_statement_lifetime": 0,
            "max_cacheable_statement_size": 0,
        }


async def _leave_as_it_is(_connection: Connection) -> None:
    """Change nothing in a connection that goes back to the pool."""


def _tls(url: DatabaseUrl, settings: DatabaseSettings) -> ssl.SSLContext | str:
    """Return how TLS is used: libpq's ``sslmode``, stricter where there is a ``ca_file``."""
    ca_file = settings.ca_file or url.ca_file
    mode = "verify-full" if settings.ca_file is not None else url.ssl_mode
    if mode in {"disable", "allow", "prefer"}:
        return mode
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise DatabaseUrlError(
            f"{ca_file}: no certificate authorities: {why_unusable(error)}"
        ) from error
    context.check_hostname = mode == "verify-full"
    if mode == "require" and ca_file is None:
        context.verify_mode = ssl.CERT_NONE
    return context
