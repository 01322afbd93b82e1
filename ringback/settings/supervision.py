"""How calls are supervised after their answer, when their media go peer to peer."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ringback.secrets import Secret
from ringback.settings.callevents import CollectorSettings, WebhookSettings
from ringback.settings.sections import Section

# Providers end every call after that.
PROVIDER_MAX_DURATION_S = 3600.0
# How long slots wait for the registration of the call that has taken them: extauthz may take 15 s,
# for a mint above all, and the provider as many.
SLOT_LEASE_S = 35.0

SinkName = Literal["litellm"]

_Seconds = Annotated[float, Field(gt=0, le=PROVIDER_MAX_DURATION_S)]


_Calls = Annotated[int, Field(ge=0)]


class OpenCallSettings(Section):
    """How many calls may be open at once; None is no limit."""

    key: _Calls | None = None
    """Of one key; what the key itself says goes first."""

    team: _Calls | None = None
    """Of one team."""

    user: _Calls | None = None
    """Of one user."""

    deployment: _Calls | None = None
    """At one deployment, whosesoever they are."""

    @property
    def is_any(self) -> bool:
        """Whether there is any limit."""
        return self != OpenCallSettings()


class SupervisionSettings(Section):
    """Whether callkeeper meters and ends calls, and when it ends them."""

    mode: Literal["off", "best_effort", "auto", "required"] = "off"
    """``required``: no call goes on that callkeeper does not know or cannot listen to.
    ``best_effort``: it goes on, counted and logged. ``auto``: ``required`` for calls to which a
    limit or a budget applies, else ``best_effort``. ``off``: callkeeper does not run."""

    attach_s: _Seconds = 20
    """With ``required``, how long after its answer a call may be without callkeeper's sideband."""

    unattached_s: _Seconds = 20
    """With ``required``, how long it may be so later, when the sideband was lost."""

    max_duration_s: _Seconds = PROVIDER_MAX_DURATION_S
    """How long a call may last from its answer on."""

    idle_s: _Seconds | None = None
    """How long a call may go on without speech or a response; None is no limit."""

    register_timeout_s: Annotated[float, Field(gt=0, le=1.8)] = 1
    """How long callkeeper may take to take a call on. Envoy waits 2 s for sdpfilter."""

    callkeeper: Annotated[tuple[str, ...], Field(min_length=1)] = ("127.0.0.1:9003",)
    """Addresses of callkeeper's workers, for the others: ``unix:/path`` or ``host:port``."""

    extauthz: Annotated[tuple[str, ...], Field(min_length=1)] = ("127.0.0.1:9001",)
    """Addresses of extauthz's workers, for callkeeper and sdpfilter."""

    max_cost: Annotated[float, Field(gt=0)] | None = None
    """What one call may cost, in US dollars; None is no limit."""

    standing_interval_s: Annotated[float, Field(ge=0.1, le=60)] = 1
    """How often callkeeper asks extauthz whether those who pay for open calls still may."""

    standing_max_age_s: Annotated[float, Field(ge=0, le=60)] = 2
    """How old what extauthz knows of a key may be for that. With the interval and the time of a
    hangup it is how long a call outlives the block of its key."""

    standing_timeout_s: _Seconds = 30
    """With ``required``, how long a call goes on of which nobody can tell whether it may."""

    max_open_calls: OpenCallSettings = OpenCallSettings()
    """How many calls may be open at once, beside ``max_parallel_requests`` of keys and teams."""

    store: Literal["memory", "valkey"] = "memory"
    """Who knows of a call: the worker that keeps it, or all together in ``store.url``, where its
    calls outlive it and open calls are counted."""

    lease_s: Annotated[float, Field(ge=1, le=60)] = 10
    """With ``valkey``, how long after a worker has died another one keeps its calls."""

    observers: Literal[1, 2] = 1
    """With ``valkey``, how many workers listen to a call. What is used while nobody listens is
    lost; with two of them somebody does when one dies."""

    max_violations: Annotated[int, Field(ge=1, le=1000)] = 5
    """How often a caller may change what its session lock does not allow; then the call ends."""

    warn_s: _Seconds | None = None
    """How long before its longest duration a call is warned, once; None: not at all."""

    warn_cost_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The part of what it may cost from which on a call is warned, once; None: not at all."""

    warn_as: Literal["event", "item", "response"] = "item"
    """``item``: the model is told, and may mention it when it speaks next. ``response``: it says so
    at once, or when it has finished. ``event``: nobody in the call hears of it."""

    prices_file: Path | None = None
    """Prices of models, in the schema of LiteLLM's ``model_prices_and_context_window.json``. They
    beat those that ship with us, and those of the configuration beat them."""

    sinks: tuple[SinkName, ...] = ()
    """Where costs are written: ``litellm``, into the spend tables of LiteLLM's database."""

    database_url: Secret | None = None
    """LiteLLM's database for the sink ``litellm``, with a role that may raise spend:
    ``deploy/postgres/spend-role.sql``. Default: `database.url`."""

    webhook: WebhookSettings = WebhookSettings()
    collector: CollectorSettings = CollectorSettings()

    spool_folder: Path | None = None
    """Where costs and events wait on disk until a sink has taken them; without it they wait in
    memory, and are lost with the process. Workers share it, replicas do not."""

    spool_max_bytes: Annotated[int, Field(ge=65_536, le=2**40)] = 64 * 1024 * 1024
    """What may wait for one sink in one worker; a call leaves about 1 kB for each response."""

    @property
    def is_required_for_all(self) -> bool:
        """Whether no call may go on unsupervised, whoever pays for it."""
        has_limit = self.max_cost is not None or self.idle_s is not None
        has_limit |= self.max_duration_s < PROVIDER_MAX_DURATION_S or self.max_open_calls.is_any
        return self.mode == "required" or (self.mode == "auto" and has_limit)

    @field_validator("mode", mode="before")
    @classmethod
    def _read_mode(cls, value: object) -> object:
        # YAML takes the bare word for false.
        return "off" if value is False else value

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.observers > 1 and self.store == "memory":
            raise ValueError("observers needs store: valkey: else nobody knows of a second one")
        if self.store == "valkey" and self.unattached_s <= self.lease_s:
            raise ValueError(
                "unattached_s has to be longer than lease_s: else no call outlives its worker"
            )
        return self

    @model_validator(mode="after")
    def _check_open_calls(self) -> Self:
        if self.max_open_calls.is_any and self.mode == "off":
            raise ValueError("max_open_calls needs a mode other than off: else nobody counts calls")
        if self.max_open_calls.is_any and len(self.callkeeper) > 1 and self.store == "memory":
            raise ValueError(
                "max_open_calls needs store: valkey where callkeeper has several addresses: "
                "else each worker counts for itself"
            )
        return self
