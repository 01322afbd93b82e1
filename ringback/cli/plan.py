"""What ``ringback up`` is asked for, read and checked before anything starts."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from extauthz.keys.keyfile import load_keys
from extauthz.litellm import load_config
from extauthz.tokensettings import check_token_settings
from ringback.cli.demo import MODELS, check_emulator, random_key
from ringback.render.bootstrap import Address
from ringback.secretfiles import Variables
from ringback.secrets import Secret
from ringback.settings import Settings, TokenSettings, UpstreamSettings, load_settings
from sdpfilter.policies import Policies


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What can be asked of ``ringback up``.

    Attributes:
        config: LiteLLM's ``config.yaml``; without it the emulator is the only provider.
        settings: ``ringback.yaml``.
        keys: The key file.
        host: Where downstreams connect: an IP address.
        port: There; 0 for any free one, as for the other ports.
        egress_port: On loopback.
        admin_port: On loopback.
        workers: Processes of each service; the setting of the same name when None.
        run_dir: For sockets, logs and what is generated. When None, a private temporary folder
            that is removed at the end.
        playground: Serve the page. When None: if the setting says so, or there is no configuration.
        concurrency: Envoy's worker threads.
        environ: Variables on top of ours, for the services; settings are not read from them.
        ready_timeout_s: How long all of it may take to become ready.
    """

    config: Path | None = None
    settings: Path | None = None
    keys: Path | None = None
    host: str = "127.0.0.1"
    port: int = 4000
    egress_port: int = 4001
    admin_port: int = 9901
    workers: int | None = None
    run_dir: Path | None = None
    playground: bool | None = None
    concurrency: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the options, the settings and the configuration say together.

    Attributes:
        settings: The settings.
        config: LiteLLM's configuration; None for the emulator's.
        keys: The key file, if there is one.
        models: Names that callers may use.
        token_secret: What both services derive their sealing keys from; None if the settings say.
        ca_file: Certificate authorities for upstreams.
        workers: Processes of each service.
        has_playground: Whether to serve the page.
    """

    settings: Settings
    config: Path | None
    keys: Path | None
    models: tuple[str, ...]
    token_secret: Secret | None
    ca_file: Path
    workers: int
    has_playground: bool


def read_inputs(options: StackOptions) -> Inputs:
    """Read and check what was asked for.

    Raises:
        StartError: If anything of it cannot be used.
    """
    settings = load_settings(options.settings)
    workers = options.workers or settings.workers
    # Refuses what the services would refuse.
    Policies(settings.sdp)
    check_token_settings(settings.model_copy(update={"workers": workers}))
    config = options.config or settings.config_file
    keys = options.keys or settings.keys_file
    if keys is not None:
        load_keys(keys)
    models, token_secret = (
        _read_config(config, settings, {**os.environ, **options.environ})
        if config
        else _emulate(settings)
    )
    playground = options.playground
    return Inputs(
        settings=settings if config else _supervise(settings),
        config=config,
        keys=keys,
        models=models,
        token_secret=token_secret,
        ca_file=find_ca_file(settings.upstream),
        workers=workers,
        has_playground=(settings.playground or config is None)
        if playground is None
        else playground,
    )


def metrics_listener(settings: Settings) -> Address | None:
    """Return where Prometheus finds Envoy's stats, beside those of the services; None for nowhere.

    Raises:
        MetricsAddressError: If there can be no such port.
    """
    if settings.metrics_address is None:
        return None
    from ringback.metrics import (  # noqa: PLC0415  imports a client library
        ENVOY_METRICS_OFFSET,
        resolve,
        shift_port,
    )

    host, port = resolve(shift_port(settings.metrics_address, ENVOY_METRICS_OFFSET))
    return Address(host, port)


def find_ca_file(upstream: UpstreamSettings) -> Path:
    """Return the certificate authorities of the settings, or if they name none, of this machine."""
    default = UpstreamSettings().ca_file
    if upstream.ca_file != default or default.exists():
        return upstream.ca_file
    if found := ssl.get_default_verify_paths().cafile:
        return Path(found)
    import certifi  # noqa: PLC0415  rarely needed

    return Path(certifi.where())


def _supervise(settings: Settings) -> Settings:
    """Return settings that supervise the emulator's calls, unless they say whether to.

    So that who tries it out sees what calls cost, and why they end.
    """
    supervision = settings.supervision
    if "mode" in supervision.model_fields_set:
        return settings
    supervised = supervision.model_copy(update={"mode": "best_effort"})
    return settings.model_copy(update={"supervision": supervised})


def _emulate(settings: Settings) -> tuple[tuple[str, ...], Secret | None]:
    check_emulator()
    return MODELS, None if _has_keys(settings.token) else random_key()


def _read_config(
    path: Path, settings: Settings, environ: Mapping[str, str]
) -> tuple[tuple[str, ...], Secret | None]:
    from ringback.tokens import token_sealer  # noqa: PLC0415  imports cryptography

    config = load_config(path, environ)
    token_sealer(settings.token, environ, mode=settings.mode, fallback=config.master_key)
    models = tuple(dict.fromkeys(deployment.model_name for deployment in config.deployments))
    if _has_keys(settings.token):
        return models, None
    # sdpfilter does not read the configuration and has to seal with the same keys; the order is
    # that of `ringback.tokens`.
    variables = Variables(environ)
    named = variables.get("LITELLM_SALT_KEY") or variables.get("LITELLM_MASTER_KEY")
    return models, Secret(named) if named else config.master_key


def _has_keys(token: TokenSettings) -> bool:
    return bool(token.secret) or token.jwk_set_file is not None
