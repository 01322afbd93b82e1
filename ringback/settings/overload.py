"""How much is taken on at once; what comes on top is refused at once, with 503."""

from typing import Annotated

from pydantic import Field

from ringback.settings.sections import Section

Count = Annotated[int, Field(ge=1, le=65_536)]


class OverloadSettings(Section):
    """Limits of each worker process but the last one.

    Envoy counts all but ``max_commands`` and ``max_waiting``, over all workers together, so these
    take effect where the bootstrap is made. A worker by itself refuses above twice its share of
    mints and checks: another Envoy may not count, and no load is quite even.
    """

    max_checks: Count = 32
    """Calls with a token that wait for extauthz. They wait for nobody, but for a key source or a
    store that is slow. Far less than ``max_calls``: what is let in here and refused there has cost
    half of the work for nothing."""

    max_mints: Count = 64
    """Tokens, and calls with a key, that wait for extauthz, and it for a provider."""

    max_decisions: Count = 128
    """All other requests that wait for extauthz."""

    max_commands: Count = 32
    """Of these, commands for calls, which wait for a provider, too; and beside them as many
    questions how calls are, which wait for callkeeper."""

    max_calls: Count = 128
    """Calls of which sdpfilter waits for the offer or for the provider's answer."""

    max_waiting: Count = 256
    """Requests that have arrived and that the process has not looked at yet, whoever sent them;
    refusing at random begins at half of it."""

    max_connections: Count = 8000
    """Connections of downstreams, of one Envoy."""
