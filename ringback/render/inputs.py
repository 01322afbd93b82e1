"""What manifests are made from: a LiteLLM configuration, settings, and the upstreams in them."""

import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.deployments import Origin
from extauthz.errors import ConfigError
from extauthz.litellm import config_files, load_config
from extauthz.services import service_origins
from extauthz.yamlfile import read_yaml
from ringback.render.variables import StandIns, undecided
from ringback.settings import Settings, load_settings

# Of a name in Kubernetes that is a DNS label (RFC 1123 section 2.1).
_MAX_NAME_CHARS: Final = 63
_HASH_CHARS: Final = 8
_SALT: Final = "LITELLM_SALT_KEY"
_ADMIN_KEY: Final = "RINGBACK_LITELLM__ADMIN_KEY"


@dataclass(frozen=True, slots=True)
class Upstream:
    """Somebody whom requests go to.

    Attributes:
        origin: Scheme, host and port; `Origin.cluster` is the cluster that extauthz names.
        name: For resources of Kubernetes; the same in each run, and of no other origin.
        takes_calls: Whether calls and WebSockets go there, and not extauthz' own requests alone.
    """

    origin: Origin
    name: str
    takes_calls: bool = True

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.origin.scheme == "https"

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, which is no server name (RFC 6066 section 3)."""
        try:
            ipaddress.ip_address(self.origin.host)
        except ValueError:
            return False
        return True

    @property
    def sni(self) -> str | None:
        """The server name of TLS, None if there is none."""
        return self.origin.host if self.is_tls and not self.is_address else None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What every target is made from.

    Attributes:
        settings: Of ``ringback.yaml``.
        settings_file: That file, if there is one.
        config_files: LiteLLM's ``config.yaml`` first, then the files that it includes.
        upstreams: Providers and services that are reached through Envoy, sorted by name.
        variables: Names of the variables with secrets that extauthz needs, sorted.
    """

    settings: Settings
    settings_file: Path | None
    config_files: tuple[Path, ...]
    upstreams: tuple[Upstream, ...]
    variables: tuple[str, ...]

    @property
    def sealing_variables(self) -> tuple[str, ...]:
        """Those of them that tokens are sealed with: all that sdpfilter needs."""
        return tuple(name for name in self.variables if name == _SALT)


def load_inputs(config: Path, settings_file: Path | None, environ: Mapping[str, str]) -> Inputs:
    """Read what manifests are made from; secrets need not be at hand.

    Args:
        config: LiteLLM's ``config.yaml``.
        settings_file: ``ringback.yaml``.
        environ: Needed only for what says where an upstream is.

    Raises:
        StartError: If a file cannot be used, or an address is in a variable that is not set.
    """
    settings = load_settings(settings_file, without_secrets=True)
    documents = [read_yaml(file) for file in config_files(config) if file.exists()]
    if problems := undecided(documents, environ):
        raise ConfigError([f"{config}: {problem}" for problem in problems])
    stand_ins = StandIns(environ)
    loaded = load_config(config, {}, stand_ins)
    origins = {origin for deployment in loaded.deployments for origin in deployment.origins}
    called = {
        origin
        for deployment in loaded.deployments
        for origin in (deployment.origin, deployment.calls_origin)
    }
    upstreams = [
        Upstream(origin, resource_name(origin), takes_calls=origin in called)
        for origin in origins | service_origins(settings, loaded)
    ]
    return Inputs(
        settings=settings,
        settings_file=settings_file,
        config_files=loaded.files,
        upstreams=tuple(sorted(upstreams, key=lambda upstream: upstream.name)),
        variables=tuple(sorted({*stand_ins.needed(documents), *_of_settings(settings)})),
    )


def _of_settings(settings: Settings) -> Iterator[str]:
    if settings.token.jwk_set_file is None:
        yield _SALT
    if settings.litellm.url is not None and not settings.litellm.own_key:
        yield _ADMIN_KEY


def resource_name(origin: Origin) -> str:
    """Return a name for the resources of an upstream: ``https-api-openai-com-443``.

    Different origins have different names: dots become hyphens and hyphens double ones; whatever
    else a host may hold, and a name that is too long, is told apart by a hash.
    """
    host = re.sub(r"[^a-z0-9-]", "-", origin.host.replace("-", "--"))
    name = f"{origin.scheme}-{host}-{origin.port}"
    if len(name) <= _MAX_NAME_CHARS and re.fullmatch(r"[a-z0-9.-]+", origin.host):
        return name
    digest = hashlib.sha256(str(origin).encode()).hexdigest()[:_HASH_CHARS]
    return f"{name[: _MAX_NAME_CHARS - _HASH_CHARS - 1].rstrip('-')}-{digest}"
