"""The URL of LiteLLM's database, with the parameters that Prisma and libpq know. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from ringback.errors import StartError
from ringback.secrets import Secret

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_SSL_MODES: Final[dict[str, SslMode]] = {
    "disable": "disable",
    "allow": "allow",
    "prefer": "prefer",
    "require": "require",
    "verify-ca": "verify-ca",
    "verify-full": "verify-full",
}
_PORT: Final = 5432
_SCHEMA: Final = "public"
_MAX_CONNECTIONS: Final = 100


class DatabaseUrlError(StartError):
    """A URL of a database that cannot be used; ends the start with exit code 2.

    Args:
        problem: What is wrong with it, never its text.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"The URL of LiteLLM's database (database.url, general_settings.database_url or "
            f"DATABASE_URL) cannot be used: {self.problem}."
        )


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """What a URL says.

    Attributes:
        host: A name, an address, or the folder of a Unix socket.
        port: Its port.
        user: The role.
        password: Its password; None where the server asks for none.
        database: The database.
        schema: The schema of LiteLLM's tables (Prisma's ``schema``).
        ssl_mode: As libpq's ``sslmode``; Prisma's ``sslaccept=strict`` is ``verify-full``.
        ca_file: libpq's ``sslrootcert`` or Prisma's ``sslcert``: who may vouch for the server.
        connection_limit: Prisma's: how many connections the pool may have; None if unsaid.
        is_pooled: Whether PgBouncer stands between (Prisma's ``pgbouncer=true``), so that two
            statements may meet different servers.
    """

    host: str
    port: int
    user: str
    password: Secret | None
    database: str
    schema: str = _SCHEMA
    ssl_mode: SslMode = "prefer"
    ca_file: Path | None = None
    connection_limit: int | None = None
    is_pooled: bool = False


def parse_database_url(url: Secret) -> DatabaseUrl:
    """Parse a URL; parameters that mean nothing here are passed over.

    Raises:
        DatabaseUrlError: If it cannot be used.
    """
    try:
        parts = urlsplit(url.reveal().strip())
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, errors="strict"))
        texts = (parts.username, parts.path[1:], parts.password, parts.hostname)
        user, database, password, hostname = (unquote(t or "", errors="strict") for t in texts)
    except ValueError as error:
        # Neither quoted nor chained: the parser's words may show the password.
        place = "its port is not a number" if "port" in str(error).lower() else "it is not a URL"
        raise DatabaseUrlError(
            f"{place}; a password with special characters needs %-escapes"
        ) from None
    host = options.get("host") or hostname
    if parts.scheme not in {"postgresql", "postgres"} or not (host and user and database):
        raise DatabaseUrlError("expected postgresql://user:password@host[:port]/database")
    if "," in host or "/" in database:
        raise DatabaseUrlError("expected one host and one database")
    ssl_mode, ca_file = _tls(options)
    return DatabaseUrl(
        host=host,
        port=port or _PORT,
        user=user,
        password=Secret(password) if password else None,
        database=database,
        schema=options.get("schema") or _SCHEMA,
        ssl_mode=ssl_mode,
        ca_file=ca_file,
        connection_limit=_connection_limit(options.get("connection_limit")),
        is_pooled=options.get("pgbouncer", "").lower() == "true",
    )


def _tls(options: dict[str, str]) -> tuple[SslMode, Path | None]:
    mode = _SSL_MODES.get(options.get("sslmode") or "prefer")
    if mode is None:
        raise DatabaseUrlError(f"its sslmode is none of {', '.join(_SSL_MODES)}")
    if options.get("sslkey") or options.get("sslidentity"):
        raise DatabaseUrlError("client certificates (sslkey, sslidentity) are not supported")
    file = options.get("sslrootcert") or options.get("sslcert")
    if options.get("sslaccept") == "strict" and mode != "disable":
        mode = "verify-full"
    return mode, Path(file) if file else None


def _connection_limit(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1 and len(text) < 10):
        raise DatabaseUrlError("its connection_limit is not a number from 1 on")
    return min(int(text), _MAX_CONNECTIONS)
