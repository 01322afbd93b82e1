"""How calls are supervised after their answer, when their media go peer to peer."""

from typing import Annotated, Literal

from pydantic import Field

from ringback.settings.sections import Section

# Providers end every call after that.
PROVIDER_MAX_DURATION_S = 3600.0

_Seconds = Annotated[float, Field(gt=0, le=PROVIDER_MAX_DURATION_S)]


class SupervisionSettings(Section):
    """Whether callkeeper meters and ends calls, and when it ends them."""

    mode: Literal["off", "best_effort", "required"] = "off"
    """``required``: no call goes on that callkeeper does not know or cannot listen to.
    ``best_effort``: it goes on, counted and logged. ``off``: callkeeper does not run."""

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
    """Addresses of callkeeper's workers, for sdpfilter: ``unix:/path`` or ``host:port``."""

    extauthz: Annotated[tuple[str, ...], Field(min_length=1)] = ("127.0.0.1:9001",)
    """Addresses of extauthz's workers, for callkeeper and sdpfilter."""

    max_cost: Annotated[float, Field(gt=0)] | None = None
    """What one call may cost, in US dollars; None is no limit."""
