"""Groups of settings, one class each; `ringback.settings.model` puts them together."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ringback.secrets import Secret

# Shorter secrets can be guessed offline from one sealed token.
MIN_SECRET_CHARS = 16
# The longest life of a client secret that providers grant (expires_after.seconds).
PROVIDER_MAX_LIFETIME_S = 7200

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """Unknown names and wrong values are mistakes, never quoted."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TokenSettings(Section):
    """How ``ek_`` tokens and call handles are sealed."""

    secret: Secret | None = None
    """What the sealing keys are derived from, at least 16 characters. Default:
    LITELLM_SALT_KEY, else the master key, as in LiteLLM."""

    jwk_set_file: Path | None = None
    """A JWK set (RFC 7517) of ``oct`` keys of 256 bits with a ``kid`` each, for those who
    manage keys themselves. The first one seals, all of them open. Replaces ``secret``."""

    max_lifetime_s: Annotated[int, Field(ge=10, le=PROVIDER_MAX_LIFETIME_S)] = (
        PROVIDER_MAX_LIFETIME_S
    )
    """The longest life of a token in seconds, also of one whose provider names no expiry."""

    leeway_s: Annotated[int, Field(ge=0, le=60)] = 5
    """How far, in seconds, the clocks of replicas may be apart."""

    revoked_file: Path | None = None
    """A YAML file of tokens that are refused before their time; ``ringback tokens`` writes it."""

    revoked_in_store: bool = False
    """The same in ``store.url``, for all replicas. No token is good until the store has said what
    is revoked."""

    bind_origin: bool = False
    """A token that is minted with an ``Origin`` header is good only with the same ``Origin``: for
    the page that minted it, or for the one whose origin a backend sent in its place."""

    single_use: bool = False
    """A token opens one call or WebSocket and no second one. Needs ``store.url``, or one worker in
    all."""


class UpstreamSettings(Section):
    """How OpenAI and Azure are reached."""

    egress: Literal["listener", "mesh", "direct"] = "listener"
    """How extauthz sends its own requests. ``listener``: to our Envoy's egress listener. ``mesh``:
    to the origin's host in plain HTTP, which a sidecar or an egress gateway turns into TLS.
    ``direct``: to the origin, with TLS of its own."""

    egress_url: str = "http://127.0.0.1:4001"
    """Envoy's egress listener, of ``egress: listener``."""

    mesh_port: Annotated[int, Field(ge=1, le=65_535)] = 80
    """Where the mesh takes plain HTTP for an ``https`` origin on port 443, of ``egress: mesh``.
    All other origins are asked at their own port."""

    ca_file: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    """Certificate authorities that may vouch for an upstream, a PEM file that Envoy can read, and
    extauthz with ``egress: direct``."""

    connect_timeout_s: Seconds = 3
    """For a connection to an upstream."""

    max_requests: Annotated[int, Field(ge=1, le=65_536)] = 192
    """Mints and calls that one upstream origin has in hand, of one Envoy: fewer than all calls that
    may be under way, so that an upstream that hangs leaves room for the others."""

    max_websockets: Annotated[int, Field(ge=1, le=65_536)] = 4096
    """WebSockets of one upstream origin, of one Envoy: those of callers, and one for each call that
    is supervised. Envoy keeps 10,000 connections of callers and of our own services in all."""

    mint_timeout_s: Annotated[float, Field(gt=0, le=14)] = 10
    """For all requests upstream that one mint makes. Envoy waits 15 s for extauthz."""


class ReloadSettings(Section):
    """How a changed configuration file takes effect without losing a request."""

    settle_s: Seconds = 1
    """Between announcing new clusters to Envoy and using them: replicas see a change at different
    moments."""

    drain_s: Seconds = 60
    """How long clusters that the new file no longer names stay for requests in flight."""
