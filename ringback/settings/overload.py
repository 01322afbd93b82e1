"""How much is taken on at once; what comes on top is refused at once, with 503."""

from typing import Annotated

from pydantic import Field

from ringback.settings.sections import Section

Count = Annotated[int, Field(ge=1, le=65_536)]


class OverloadSettings(Section):
    """Limits of each worker process but the last one.

    Envoy counts ``max_decisions``, ``max_calls`` and ``max_connections``, so these three take
    effect where the bootstrap is made.
    """

    max_decisions: Count = 128
    """Requests that wait for extauthz."""

    max_mints: Count = 64
    """Of these, mints: tokens, and calls with a key. They wait for a provider."""

    max_commands: Count = 32
    """Of these, commands for calls. They wait for a provider, too."""

    max_checks: Count = 128
    """Of these, all others: calls with a token, WebSockets. They wait for nobody, but for a key
    source or a store that is slow."""

    max_calls: Count = 128
    """Calls of which sdpfilter waits for the offer or for the provider's answer."""

    max_waiting: Count = 256
    """Requests that have arrived and that the process has not looked at yet, whoever sent them;
    refusing at random begins at half of it."""

    max_connections: Count = 8000
    """Connections of downstreams, of one Envoy."""
