"""``ringback check``: every mistake of a configuration at once, and what it would serve."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from ringback.calllimits import NO_LIMITS
from ringback.cli.table import format_table

if TYPE_CHECKING:
    from extauthz.deployments import Deployment
    from extauthz.keys import VirtualKey
    from extauthz.litellm import LiteLLMConfig
    from ringback.settings import Settings
    from sdpfilter.policies import Policies

Part = TypeVar("Part")
_UNHELD = "its session lock keeps calls away, since calls are not supervised (supervision.mode)"


def check(
    config: Annotated[Path | None, typer.Option(help="LiteLLM's config.yaml.")] = None,
    settings: Annotated[Path | None, typer.Option(help="ringback.yaml.")] = None,
    keys: Annotated[Path | None, typer.Option(help="The key file.")] = None,
    envoy: Annotated[
        list[Path] | None,
        typer.Option(help="An Envoy bootstrap; may be given several times.", show_default=False),
    ] = None,
) -> None:
    """Check the configuration: show what it serves, or every mistake (exit code 2).

    A configuration or key file that is not given is the one that the settings name. With --envoy
    alone, only Envoy's files are checked.
    """
    mistakes = _Mistakes()
    for file in envoy or ():
        mistakes.lines += _envoy_mistakes(file)
    if envoy and not (config or settings or keys):
        if mistakes.lines:
            _refuse(mistakes.lines)
        typer.echo(f"nothing fails open in {', '.join(map(str, envoy))}")
        return
    house = _load(mistakes, config, settings, keys)
    if mistakes.lines or house is None:
        _refuse(mistakes.lines)
    typer.echo(_deployments(house.config))
    notes = (
        *house.config.notes,
        *_mesh_notes(house),
        *_key_notes(house),
        *_lock_notes(house),
        *_policy_notes(house),
    )
    for note in notes:
        typer.echo(f"note: {note}")


def _refuse(lines: Iterable[str]) -> NoReturn:
    lines = (f"  {line}" for line in lines)
    typer.echo("\n".join(("This configuration cannot be used:", *lines)), err=True)
    raise typer.Exit(2)


def _envoy_mistakes(file: Path) -> list[str]:
    """Return what must be changed in a file of Envoy's, one line each with its place."""
    from ringback.envoylint import lint_text

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        return [f"{file}: cannot be read: {error.strerror}"]
    except ValueError:
        return [f"{file}: is no text"]
    return [f"{file}: {line}" for line in lint_text(text)]


@dataclass(frozen=True, slots=True)
class _House:
    """All that a start would read."""

    settings: "Settings"
    config: "LiteLLMConfig"
    keys: tuple["VirtualKey", ...]
    policies: "Policies"


class _Mistakes:
    """Collects what several loaders have to say before any of it ends the program."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def collect(self, load: Callable[[], Part]) -> Part | None:
        """Return what a loader returns, or None after noting why there is nothing."""
        from ringback.errors import StartError

        try:
            return load()
        except StartError as error:
            self.lines += getattr(error, "problems", [str(error)])
            return None


def _load(
    mistakes: _Mistakes, config: Path | None, settings: Path | None, keys: Path | None
) -> _House | None:
    from callkeeper.pricelists import open_price_book
    from callkeeper.sinks.writers import check_sinks
    from callkeeper.way import way_of
    from extauthz.keys.keyfile import load_keys
    from extauthz.keys.stores import open_sources
    from extauthz.litellm import load_config
    from extauthz.tokensettings import check_token_settings
    from ringback.servertls import read_certificates
    from ringback.settings import load_settings
    from ringback.tokens import token_sealer
    from sdpfilter.policies import Policies

    found = mistakes.collect(lambda: load_settings(settings))
    policies = mistakes.collect(lambda: Policies(found.sdp)) if found else None
    if found:
        mistakes.collect(lambda: check_token_settings(found))
        if found.services.tls.is_on:
            mistakes.collect(lambda: read_certificates(found.services.tls))
        if found.supervision.mode != "off":
            mistakes.collect(lambda: check_sinks(found))
            mistakes.collect(lambda: way_of(found))
            mistakes.collect(lambda: open_price_book(found.supervision.prices_file))
    config_path = config or (found.config_file if found else None)
    keys_path = keys or (found.keys_file if found else None)
    virtual_keys = mistakes.collect(lambda: load_keys(keys_path)) if keys_path else None
    if config_path is None:
        mistakes.lines.append("there is no configuration; give --config FILE")
        return None
    loaded = mistakes.collect(lambda: load_config(config_path, os.environ))
    if found and loaded:
        master_key, mode = loaded.master_key, found.mode
        mistakes.collect(
            lambda: token_sealer(found.token, os.environ, mode=mode, fallback=master_key)
        )
        mistakes.collect(lambda: open_sources(found, loaded))
    if found is None or loaded is None or policies is None:
        return None
    return _House(found, loaded, virtual_keys or (), policies)


def _deployments(config: "LiteLLMConfig") -> str:
    from extauthz.providers import dialect_of

    header = ("GROUP", "DIALECT", "MODEL", "ORIGIN", "CALLS", "CLUSTER")
    rows = [
        (
            deployment.model_name,
            dialect_of(deployment),
            deployment.upstream_model,
            str(deployment.origin),
            _calls(deployment),
            deployment.origin.cluster,
        )
        for deployment in config.deployments
    ]
    return format_table(header, rows)


def _calls(deployment: "Deployment") -> str:
    """Return where offers go; with the origin where it is not the one that mints."""
    from extauthz.providers import provider_of

    provider = provider_of(deployment)
    origin, path = provider.calls_origin(deployment), provider.calls_path(deployment)
    return path if origin == deployment.origin else f"{origin}{path}"


def _mesh_notes(house: _House) -> Iterator[str]:
    """Give where a mesh is asked, since credentials go there in the clear."""
    from extauthz.egressway import mesh_port
    from extauthz.services import service_origins

    if house.settings.upstream.egress != "mesh":
        return
    origins = set(service_origins(house.settings, house.config))
    for deployment in house.config.deployments:
        origins.update(deployment.origins)
    for origin in sorted(origin for origin in origins if origin.scheme == "https"):
        port = mesh_port(origin, house.settings.upstream)
        yield f"{origin} is asked in plain HTTP at port {port}: the mesh has to do TLS"


def _key_notes(house: _House) -> Iterator[str]:
    """Give what is no mistake and yet rarely meant."""
    from extauthz.access import WORDS, matches
    from extauthz.keys.stores import open_sources

    config = house.config
    others = open_sources(house.settings, config).sources
    if not house.keys and not others:
        yield "nobody can call: there is no master key, no key in a key file and no other source"
    known = {*config.aliases}
    for deployment in config.deployments:
        known |= {deployment.model_name, *deployment.access_groups}
    for key in house.keys:
        for model in (model for model in key.models if model not in WORDS):
            if not any(matches(model, name) or matches(name, model) for name in known):
                yield f"key {key.alias}: its model {model} is not served here"
        if key.sdp_policy is not None and key.sdp_policy not in house.policies.names:
            yield (
                f"key {key.alias}: there is no SDP policy {key.sdp_policy}, "
                "so each of its calls is refused"
            )
        is_limited = key.max_open_calls is not None or key.call_limits != NO_LIMITS
        if is_limited and house.settings.supervision.mode == "off":
            yield (
                f"key {key.alias}: its limits of calls limit nothing, "
                "since calls are not supervised (supervision.mode)"
            )


def _policy_notes(house: _House) -> Iterator[str]:
    """Give the SDP policies that hold for nobody: a name with a mistake restricts nothing."""
    from extauthz.keys import MASTER_ALIAS

    groups = {deployment.model_name for deployment in house.config.deployments}
    for model in house.settings.sdp.models:
        if model not in groups:
            yield f"sdp.models.{model}: is no model group that is served here; aliases do not count"
    known = {MASTER_ALIAS, *(key.alias for key in house.keys)}
    for alias in house.settings.sdp.keys:
        if alias not in known:
            yield f"sdp.keys.{alias}: no key has this alias"
    teams = {key.team for key in house.keys}
    for team in house.settings.sdp.teams:
        if team not in teams:
            yield f"sdp.teams.{team}: no key belongs to this team"


def _lock_notes(house: _House) -> Iterator[str]:
    """Give locks that nobody would hold."""
    if house.settings.supervision.mode != "off":
        return
    names = [f"key {key.alias}" for key in house.keys if key.session_lock]
    names += [each.model_name for each in house.config.deployments if each.session_lock]
    for name in names:
        yield (
            f"{name}: the session lock keeps all calls away, "
            "since calls are not supervised (supervision.mode)"
        )
