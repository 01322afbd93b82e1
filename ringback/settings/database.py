"""LiteLLM's Postgres, where virtual keys are looked up."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ringback.secrets import Secret
from ringback.settings.sections import Section


class DatabaseSettings(Section):
    """How LiteLLM's database is read; nothing is ever written to it."""

    url: Secret | None = None
    """``postgresql://user:password@host[:port]/database``, with the parameters that LiteLLM's
    ``database_url`` may have. Default: ``general_settings.database_url``, else DATABASE_URL. A
    role that may only read is enough: ``deploy/postgres/role.sql``."""

    ca_file: Path | None = None
    """Certificate authorities that may vouch for the server, a PEM file. With it the server has to
    use TLS with a certificate for its name, whatever the URL says."""

    pool_size: Annotated[int, Field(ge=1, le=100)] | None = None
    """Connections at most, of each worker. Default: ``connection_limit`` in the URL, else 10."""

    acquire_timeout_s: Annotated[float, Field(gt=0, le=10)] = 1
    """How long a lookup waits for a free connection before it is answered with 503."""

    connect_timeout_s: Annotated[float, Field(gt=0, le=10)] = 2
    """For a new connection, TLS and login included."""

    statement_timeout_s: Annotated[float, Field(gt=0, le=10)] = 1
    """For one lookup, here and in the database. Envoy waits 15 s for extauthz."""

    notify: bool = False
    """Listen for changes, so that they hold at once. Needs ``deploy/postgres/notify.sql``, and one
    more connection for each worker."""
