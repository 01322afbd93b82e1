"""Settings for what LiteLLM's config has no word for: ``ringback.yaml`` and ``RINGBACK_*``.

A variable beats the file; nested names are joined by two underscores
(``RINGBACK_TOKEN__MAX_LIFETIME_S=600``). ``docs/configuration.md`` lists every setting.
"""

from ringback.settings.load import SettingsError, load_settings
from ringback.settings.model import Settings
from ringback.settings.origins import check_origin_pattern
from ringback.settings.passthrough import PassthroughSettings
from ringback.settings.sections import (
    MIN_SECRET_CHARS,
    PROVIDER_MAX_LIFETIME_S,
    ReloadSettings,
    Section,
    TokenSettings,
    UpstreamSettings,
)
from ringback.settings.services import ServiceSettings
from ringback.settings.supervision import SupervisionSettings
from ringback.settings.tracing import TracingSettings
from ringback.settings.websocket import WebSocketSettings

__all__ = [
    "MIN_SECRET_CHARS",
    "PROVIDER_MAX_LIFETIME_S",
    "PassthroughSettings",
    "ReloadSettings",
    "Section",
    "ServiceSettings",
    "Settings",
    "SettingsError",
    "SupervisionSettings",
    "TokenSettings",
    "TracingSettings",
    "UpstreamSettings",
    "WebSocketSettings",
    "check_origin_pattern",
    "load_settings",
]
