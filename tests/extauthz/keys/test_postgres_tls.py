import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from extauthz.errors import KeySourceUnavailableError
from helpers.postgres import Database, PostgresServer
from helpers.postgressource import find, open_source
from helpers.postgrestls import tls_in_front
from ringback.postgresconnect import Database as Connector
from ringback.postgresurl import DatabaseUrlError
from ringback.secrets import Secret
from ringback.settings.database import DatabaseSettings

AUTHORITY = trustme.CA()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """The certificate of the authority."""
    file = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
async def tls_port(postgres: PostgresServer) -> AsyncIterator[int]:
    """Where the server speaks TLS, with a certificate for localhost alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    async with tls_in_front(postgres.port, context) as port:
        yield port


async def is_found(url: str, raw: str, ca_file: Path | None = None) -> bool:
    """Tell whether a key is found; else the source is unavailable."""
    async with open_source(url, ca_file=ca_file) as source:
        try:
            return await find(source, raw) is not None
        except KeySourceUnavailableError:
            return False


@pytest.mark.parametrize(
    ("server", "options", "has_ca_file", "works"),
    [
        ("localhost", "", False, True),
        ("localhost", "?sslmode=disable", False, True),
        ("localhost", "?sslmode=prefer", False, True),
        ("localhost", "?sslmode=require", False, True),
        ("localhost", "?sslmode=require&sslrootcert=CA", False, True),
        ("localhost", "?sslmode=verify-full&sslrootcert=CA", False, True),
        ("localhost", "?sslmode=require&sslaccept=strict&sslcert=CA", False, True),
        ("localhost", "?sslmode=disable", True, True),
        ("127.0.0.1", "?sslmode=require", False, True),
        ("127.0.0.1", "?sslmode=verify-ca&sslrootcert=CA", False, True),
        ("127.0.0.1", "?sslmode=verify-full&sslrootcert=CA", False, False),
        ("127.0.0.1", "?sslmode=prefer&sslaccept=strict&sslcert=CA", False, False),
        ("127.0.0.1", "?sslmode=disable", True, False),
        ("localhost", "?sslmode=verify-full", False, False),
        ("localhost", "?sslmode=verify-ca", False, False),
    ],
)
async def test_tls_is_as_strict_as_told(
    *,
    shared_database: Database,
    postgres: PostgresServer,
    tls_port: int,
    ca_file: Path,
    server: str,
    options: str,
    has_ca_file: bool,
    works: bool,
) -> None:
    """The URL's ``sslmode`` counts; a ``ca_file`` demands a certificate for the server's name."""
    raw = shared_database.rows.key()
    url = shared_database.url.replace(f"127.0.0.1:{postgres.port}", f"{server}:{tls_port}")
    url += options.replace("CA", str(ca_file))
    assert await is_found(url, raw, ca_file if has_ca_file else None) == works


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_tls_is_demanded_of_a_server_without_it(shared_database: Database, mode: str) -> None:
    """What demands TLS never falls back to plain text."""
    assert not await is_found(f"{shared_database.url}?sslmode={mode}", shared_database.rows.key())


def test_authorities_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    """A ``ca_file`` that is missing or none is a mistake of the settings."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for file in (tmp_path / "missing.pem", empty):
        with pytest.raises(DatabaseUrlError, match="certificate authorities"):
            Connector(DatabaseSettings(ca_file=file), Secret("postgresql://u:p@h/d"))
