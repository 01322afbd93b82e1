"""All settings, by name."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ringback.sdppolicy import PolicySettings
from ringback.secretfiles import SUFFIX, read_secret
from ringback.settings.database import DatabaseSettings
from ringback.settings.keysources import (
    DEFAULT_KEY_SOURCES,
    KeyCacheSettings,
    KeySourceName,
    LiteLLMSettings,
)
from ringback.settings.limits import LimitSettings
from ringback.settings.oidc import OidcSettings
from ringback.settings.origins import check_origin_pattern
from ringback.settings.overload import OverloadSettings
from ringback.settings.passthrough import PassthroughSettings
from ringback.settings.safety import SafetyIdentifier
from ringback.settings.sections import ReloadSettings, TokenSettings, UpstreamSettings
from ringback.settings.services import ServiceSettings
from ringback.settings.store import StoreSettings
from ringback.settings.supervision import SupervisionSettings
from ringback.settings.tracing import TracingSettings
from ringback.settings.websocket import WebSocketSettings

PREFIX = "RINGBACK_"


class _Variables(EnvSettingsSource):
    """Variables, some of which may be in files; what should be JSON and is not is validated."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = dict(super()._load_env_vars())
        for name in secret_variables(os.environ):
            # Or else it would be taken for a setting of its own.
            found.pop(name.lower(), None)
            variable = name[: -len(SUFFIX)].lower()
            if not found.get(variable):
                found[variable] = read_secret(name, Path(os.environ[name]))
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """All settings of the services and of ``ringback up``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    mode: Literal["production", "development"] = "production"
    """``development`` allows sealing secrets of fewer than 16 characters."""

    config_file: Path | None = None
    """LiteLLM's ``config.yaml``."""

    keys_file: Path | None = None
    """The key file that ``ringback keys`` writes."""

    cors_origins: list[Annotated[str, AfterValidator(check_origin_pattern)]] = [
        "http://localhost:*",
        "http://127.0.0.1:*",
    ]
    """Origins whose pages may call: ``scheme://host[:port]``, ``*`` for any port or for any one
    label but the last. Used where the bootstrap is made: ``ringback up`` and
    ``ringback render envoy``."""

    playground: bool = False
    """Serve the page at ``/playground``."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes of each service."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    metrics_address: str | None = None
    """``host:port`` of the Prometheus endpoint of a service; none when absent."""

    services: ServiceSettings = ServiceSettings()
    token: TokenSettings = TokenSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    reload: ReloadSettings = ReloadSettings()
    store: StoreSettings = StoreSettings()
    websocket: WebSocketSettings = WebSocketSettings()
    passthrough: PassthroughSettings = PassthroughSettings()
    limits: LimitSettings = LimitSettings()
    overload: OverloadSettings = OverloadSettings()
    supervision: SupervisionSettings = SupervisionSettings()
    tracing: TracingSettings = TracingSettings()

    safety_identifier: SafetyIdentifier = "off"
    """What providers get as ``OpenAI-Safety-Identifier`` where the caller sends none: nothing, or a
    keyed hash of the key's user or of the key."""

    key_sources: tuple[KeySourceName, ...] = DEFAULT_KEY_SOURCES
    """Where keys are looked up, in this order, behind the master key; those that nothing else
    configures are passed over."""

    database: DatabaseSettings = DatabaseSettings()
    litellm: LiteLLMSettings = LiteLLMSettings()
    oidc: OidcSettings = OidcSettings()
    key_cache: KeyCacheSettings = KeyCacheSettings()

    sdp: PolicySettings = PolicySettings()
    """What offers and answers may hold, and for whom."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the hook's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the hook's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the hook's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let variables beat the file, which arrives as constructor arguments."""
        return _Variables(settings_cls), init_settings


def is_setting(variable: str) -> bool:
    """Tell whether a variable with our prefix names a setting."""
    model: Any = Settings
    # Case does not matter to pydantic-settings either.
    for part in variable[len(PREFIX) :].lower().split("__"):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


def secret_variables(names: Iterable[str]) -> Iterator[str]:
    """Give the variables that name a file with the value of a setting."""
    for name in names:
        upper, setting = name.upper(), name[: -len(SUFFIX)]
        is_ours = upper.startswith(PREFIX) and upper.endswith(SUFFIX)
        if is_ours and is_setting(setting) and not is_setting(name):
            yield name
