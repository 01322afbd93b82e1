"""Services beside the providers that are reached through Envoy, each by a cluster of its own."""

from collections.abc import Iterator

from extauthz.apibase import parse_base_url
from extauthz.deployments import Origin
from extauthz.errors import ConfigError
from extauthz.litellm import LiteLLMConfig
from ringback.settings import Settings


def service_origins(settings: Settings, config: LiteLLMConfig) -> frozenset[Origin]:
    """Return where services listen that settings and configuration name.

    Raises:
        ConfigError: If a URL cannot be used; lists all of them.
    """
    origins: set[Origin] = set()
    problems: list[str] = []
    for place, url in _urls(settings, config):
        try:
            origins.add(parse_base_url(url)[0])
        except ValueError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise ConfigError(problems)
    return frozenset(origins)


def _urls(settings: Settings, config: LiteLLMConfig) -> Iterator[tuple[str, str]]:  # noqa: ARG001
    """Give the base URL of each service behind the place that names it."""
    if settings.litellm.url is not None:
        yield "litellm.url", settings.litellm.url
    if settings.oidc.jwks_url is not None:
        yield "oidc.jwks_url", settings.oidc.jwks_url
