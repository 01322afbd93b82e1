"""Opens the writers that the settings ask for."""

from collections.abc import Callable

from callkeeper.callevents import CallEvent
from callkeeper.model import Charge
from callkeeper.sinks.litellm import LiteLLMSink
from callkeeper.sinks.otlp import PATH, OtlpSink
from callkeeper.sinks.posting import Poster
from callkeeper.sinks.records import CHARGES, EVENTS, Codec, R
from callkeeper.sinks.signing import BadSigningSecretError, parse_secrets
from callkeeper.sinks.spool import SEGMENT_BYTES, Spool, SpoolInMemory, SpoolOnDisk
from callkeeper.sinks.webhook import WebhookSink
from callkeeper.sinks.writer import Settled, State, Writer
from ringback.errors import StartError, why_unusable
from ringback.postgresconnect import Database
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.upstreamtls import upstream_tls

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


def check_sinks(settings: Settings) -> None:
    """Check what does not need a database, a disk or a network.

    Raises:
        SinkUnusableError: If a sink has no database, or the webhook no secret that is one.
    """
    own = settings.supervision
    if own.sinks:
        _database_url(settings, None)
    if own.webhook.url is not None:
        _signing_keys(own.webhook.secret)


def open_writers(
    settings: Settings,
    database_url: Secret | None = None,
    on_state: Callable[[State], None] = lambda _: None,
    on_settled: Settled[Charge] = lambda _charges, _at: None,
) -> list[Writer[Charge]]:
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
    writers: list[Writer[Charge]] = []
    for name in own.sinks:
        url = _database_url(settings, database_url)
        timeouts = {"statement_timeout_s": _STATEMENT_TIMEOUT_S}
        database = Database(settings.database.model_copy(update=timeouts), url, read_only=False)
        sink = LiteLLMSink(database.connect, database.url.schema)
        spool = _open_spool(settings, name, CHARGES)
        writers.append(Writer(sink, spool, on_state=on_state, on_settled=on_settled))
    return writers


def open_event_writers(settings: Settings) -> list[Writer[CallEvent]]:
    """Return a writer for each place that is told what happens to calls.

    Raises:
        SinkUnusableError: If the webhook has no secret or none that is one, certificates could not
            be checked, or the folder of the spool cannot be used.
    """
    own = settings.supervision
    writers: list[Writer[CallEvent]] = []
    if (url := own.webhook.url) is not None:
        keys = _signing_keys(own.webhook.secret)
        sink = WebhookSink(_open_poster(settings, url, own.webhook.timeout_s), keys)
        # Few at a time: what was sent before something failed is sent again.
        writers.append(Writer(sink, _open_spool(settings, sink.name, EVENTS), batch_count=32))
    if (url := own.collector.url) is not None:
        logs = url.rstrip("/") + PATH
        collector = OtlpSink(_open_poster(settings, logs, own.collector.timeout_s))
        writers.append(Writer(collector, _open_spool(settings, collector.name, EVENTS)))
    return writers


def _database_url(settings: Settings, other: Secret | None) -> Secret:
    url = settings.supervision.database_url or settings.database.url or other
    if url is None:
        raise SinkUnusableError(
            "supervision.sinks: litellm needs supervision.database_url or database.url"
        )
    return url


def _signing_keys(secret: Secret | None) -> tuple[bytes, ...]:
    try:
        return parse_secrets(secret or Secret(""))
    except BadSigningSecretError as error:
        raise SinkUnusableError(f"supervision.webhook.secret: {error}") from error


def _open_poster(settings: Settings, url: str, timeout_s: float) -> Poster:
    if not url.startswith("https:"):
        return Poster(url, None, timeout_s)
    try:
        return Poster(url, upstream_tls(settings.upstream), timeout_s)
    except (OSError, ValueError) as error:
        problem = f"upstream.ca_file: {settings.upstream.ca_file}: {why_unusable(error)}"
        raise SinkUnusableError(problem) from error


def _open_spool(settings: Settings, name: str, codec: Codec[R]) -> Spool[R]:
    own = settings.supervision
    if own.spool_folder is None:
        return SpoolInMemory(own.spool_max_bytes, codec)
    try:
        return SpoolOnDisk(own.spool_folder, name, own.spool_max_bytes, SEGMENT_BYTES, codec)
    except OSError as error:
        raise SinkUnusableError(
            f"supervision.spool_folder: {own.spool_folder}: {why_unusable(error)}"
        ) from error
