"""Opens the writers that the settings ask for."""

from collections.abc import Callable

from callkeeper.sinks.litellm import LiteLLMSink
from callkeeper.sinks.spool import DiskSpool, MemorySpool, Spool
from callkeeper.sinks.writer import Settled, State, Writer
from ringback.errors import StartError, why_unusable
from ringback.postgresconnect import Database
from ringback.secrets import Secret
from ringback.settings import Settings

# For one statement, which may have to wait for a row that LiteLLM has locked.
_STATEMENT_TIMEOUT_S = 9.0


class SinkUnusableError(StartError):
    """A sink that cannot be opened; the start stops with exit code 2.

    Args:
        problem: The setting, and what is wrong with it.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def open_writers(
    settings: Settings,
    database_url: Secret | None = None,
    on_state: Callable[[State], None] = lambda _: None,
    on_settled: Settled = lambda _charges, _at: None,
) -> list[Writer]:
    """Return a writer for each of ``supervision.sinks``; `Writer.start` begins.

    Args:
        settings: All of them.
        database_url: LiteLLM's database where neither ``supervision.database_url`` nor
            ``database.url`` names it.
        on_state: Told when a writer falls behind, is full, or is well again.
        on_settled: Told what became of charges in LiteLLM's database; see `Writer`.

    Raises:
        SinkUnusableError: If a sink has no database, or the folder of the spool cannot be used.
        DatabaseUrlError: If the URL of the database makes no sense.
    """
    own = settings.supervision
    writers = []
    for name in own.sinks:
        url = own.database_url or settings.database.url or database_url
        if url is None:
            raise SinkUnusableError(
                "supervision.sinks: litellm needs supervision.database_url or database.url"
            )
        timeouts = {"statement_timeout_s": _STATEMENT_TIMEOUT_S}
        database = Database(settings.database.model_copy(update=timeouts), url, read_only=False)
        sink = LiteLLMSink(database.connect, database.url.schema)
        spool = _open_spool(settings, name)
        writers.append(Writer(sink, spool, on_state=on_state, on_settled=on_settled))
    return writers


def _open_spool(settings: Settings, name: str) -> Spool:
    own = settings.supervision
    if own.spool_folder is None:
        return MemorySpool(own.spool_max_bytes)
    try:
        return DiskSpool(own.spool_folder, name, own.spool_max_bytes)
    except OSError as error:
        raise SinkUnusableError(
            f"supervision.spool_folder: {own.spool_folder}: {why_unusable(error)}"
        ) from error
