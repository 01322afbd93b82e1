"""Groups of settings: where keys are looked up beside the key file, and how long they are known."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ringback.secrets import Secret
from ringback.settings.sections import Seconds, Section

KeySourceName = Literal["file", "database", "litellm", "oidc"]
# JWTs first: that one knows at once what is none, and needs none of the others.
DEFAULT_KEY_SOURCES: tuple[KeySourceName, ...] = ("oidc", "file", "database", "litellm")
DEFAULT_KEY_TTL_S = 60.0

_SecondsOrNone = Annotated[float, Field(ge=0, le=86_400)]


class LiteLLMSettings(Section):
    """A LiteLLM proxy that is asked for keys, for those who do not share its database."""

    url: str | None = None
    """Its base URL, ``https://litellm.example.com``. Keys are looked up there if it is set."""

    admin_key: Secret | None = None
    """The master key of the proxy, or a key of a ``proxy_admin_viewer``. Needed unless
    ``own_key``."""

    own_key: bool = False
    """Ask with the caller's own key instead. Keys that are limited to some routes cannot be asked
    about themselves, and tokens can be redeemed only at the worker that minted them."""

    timeout_s: Annotated[float, Field(gt=0, le=10)] = 3
    """For all requests of one lookup. Envoy waits 15 s for extauthz."""

    @model_validator(mode="after")
    def _check_credential(self) -> Self:
        if self.url is not None and self.own_key == (self.admin_key is not None):
            raise ValueError("expected either admin_key or own_key: true beside url")
        return self


class KeyCacheSettings(Section):
    """What is remembered of keys that a database or another service was asked for."""

    ttl_s: Seconds | None = None
    """How long an answer is used. Default: ``general_settings.user_api_key_cache_ttl``, else
    60."""

    unknown_ttl_s: _SecondsOrNone = 5
    """The same for keys that nobody knows."""

    revocation_s: _SecondsOrNone = 5
    """The same where a token is used: how long those of a blocked key keep working."""

    stale_s: _SecondsOrNone = 300
    """How long after its time an answer is used while the source is down."""

    max_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Keys that are remembered, for each worker."""

    max_bytes: Annotated[int, Field(ge=65_536, le=2**31)] = 64 * 1024 * 1024
    """Memory that they may take, for each worker."""
