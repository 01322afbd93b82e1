"""Settings for what LiteLLM's config has no word for: ``ringback.yaml`` and ``RINGBACK_*``.

A variable beats the file; nested names are joined by two underscores
(``RINGBACK_TOKEN__MAX_LIFETIME_S=600``). ``docs/configuration.md`` lists every setting.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ringback.errors import StartError, why_unusable
from ringback.sdppolicy import PolicySettings
from ringback.secrets import Secret

# Shorter secrets can be guessed offline from one sealed token.
MIN_SECRET_CHARS = 16
# The longest life of a client secret that providers grant (expires_after.seconds).
PROVIDER_MAX_LIFETIME_S = 7200
_PREFIX = "RINGBACK_"
_NO_SETTING = "there is no such setting; docs/configuration.md lists them"
# The last label is never a wildcard: `https://app.*` would let in whoever registers `app.example`.
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ORIGIN_PATTERN = re.compile(
    rf"https?://(?:(?:(?:\*|{_LABEL})\.)*{_LABEL}|\[[0-9a-f:.]+\])(?::(?:\*|[1-9][0-9]{{0,4}}))?"
)
_DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class SettingsError(StartError):
    """Settings that cannot be used; the start stops with exit code 2.

    Args:
        problems: One line each: the setting's name and what is wrong with it, never its value.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def __str__(self) -> str:
        return "These settings cannot be used:\n" + "\n".join(f"  {line}" for line in self.problems)


def check_origin_pattern(origin: str) -> str:
    """Check one entry of ``cors_origins`` and return it.

    Raises:
        ValueError: If no browser could send an origin (RFC 6454 section 6.2) that matches it.
    """
    if not _ORIGIN_PATTERN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
        raise ValueError(
            "an origin is scheme://host[:port] in lower case without a path or a default port, "
            "for example https://app.example.com; * stands for any port, or for one label of the "
            "host other than the last"
        )
    return origin


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TokenSettings(_Section):
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


class UpstreamSettings(_Section):
    """How OpenAI and Azure are reached."""

    egress_url: str = "http://127.0.0.1:4001"
    """Envoy's egress listener, through which the services call upstreams."""

    ca_file: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    """Certificate authorities that may vouch for an upstream, a PEM file that Envoy can read."""

    connect_timeout_s: Seconds = 3
    """For Envoy's connection to an upstream."""

    mint_timeout_s: Annotated[float, Field(gt=0, le=14)] = 10
    """For one ``client_secrets`` request upstream. Envoy waits 15 s for extauthz."""


class ReloadSettings(_Section):
    """How a changed configuration file takes effect without losing a request."""

    settle_s: Seconds = 1
    """Between announcing new clusters to Envoy and using them: replicas see a change at different
    moments."""

    drain_s: Seconds = 60
    """How long clusters that the new file no longer names stay for requests in flight."""


class _Variables(EnvSettingsSource):
    """Leaves what should be JSON and is not to validation, which knows the setting's name."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """All settings of the services and of ``ringback up``."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
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

    token: TokenSettings = TokenSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    reload: ReloadSettings = ReloadSettings()

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


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings file, if any, and the ``RINGBACK_*`` variables.

    Args:
        path: A YAML file; its keys are the field names of `Settings`.

    Raises:
        SettingsError: If anything is unknown or wrong; lists all of it.
    """
    from_file = {} if path is None else _read_file(path)
    # Names with a leading underscore would be options of BaseSettings itself.
    unknown = {name for name in os.environ if _is_unknown(name)} | {
        name for name in from_file if name.startswith("_")
    }
    problems = [f"{name}: {_NO_SETTING}" for name in sorted(unknown)]
    try:
        known = {name: value for name, value in from_file.items() if name not in unknown}
        settings = Settings(**known)
    except ValidationError as error:
        problems += [
            _describe(detail)
            for detail in error.errors(include_input=False)
            if _to_variable(detail["loc"]) not in unknown
        ]
    if problems:
        raise SettingsError(problems)
    return settings


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read: {why_unusable(error)}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Neither quoted nor chained: the parser's own message shows the line, and so may a secret.
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise SettingsError(
            [f"{path}: {place}not YAML; a value with special characters needs quotes"]
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError([f"{path}: expected settings as `name: value` lines"])
    return content


def _is_unknown(variable: str) -> bool:
    """Tell whether a variable looks like one of ours but names no field."""
    # Case does not matter to pydantic-settings either.
    if not variable.upper().startswith(_PREFIX):
        return False
    model: Any = Settings
    for part in variable[len(_PREFIX) :].lower().split("__"):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return True
        model = fields[part].annotation
    return False


def _to_variable(place: tuple[int | str, ...]) -> str:
    return _PREFIX + "__".join(str(part) for part in place).upper()


def _describe(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return f"{place}: {_NO_SETTING}"
        case "model_type":
            return f"{place}: expected settings as `name: value` lines, or JSON in a variable"
        case "list_type":
            return f"{place}: expected a list, or JSON in a variable"
        case "path_type":
            return f"{place}: expected a path"
        case _:
            return f"{place}: {detail['msg'].removeprefix('Value error, ')}"
