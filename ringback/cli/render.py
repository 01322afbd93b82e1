"""``ringback render``: Envoy's bootstrap and the manifests of each target, as files."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringback.render import TARGETS

if TYPE_CHECKING:
    from ringback.render.bootstrap import Json
    from ringback.render.inputs import Inputs
    from ringback.settings import UpstreamSettings

app = typer.Typer(help="Write configuration out.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Write configuration out."""


@app.command()
def envoy(
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="LiteLLM's config.yaml: its upstreams become static clusters."),
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="ringback.yaml.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="A file, NAME.yaml. Default: the terminal.")
    ] = None,
) -> None:
    """Write a complete bootstrap for Envoy, with CORS origins and switches of the settings.

    Without --config, Envoy asks extauthz for its clusters, as in envoy/envoy.yaml. With
    services.envoy in the settings, two more files are written beside --output.
    """
    from ringback.errors import StartError

    if output and output.suffix not in {".yaml", ".yml"}:
        raise typer.BadParameter(
            "expected a name that ends in .yaml: Envoy reads others as JSON", param_hint="--output"
        )
    try:
        text = render_bootstrap(config, settings)
        secrets = render_secrets(settings)
    except StartError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if output is None:
        if secrets:
            raise typer.BadParameter(
                "services.envoy needs files beside the bootstrap: say where", param_hint="--output"
            )
        typer.echo(text, nl=False)
        return
    _write(output, text)
    for name, content in secrets.items():
        _write(output.with_name(name), content)


def _add_target(name: str, summary: str) -> None:
    """Add the command of a target whose manifests are made from templates."""

    @app.command(name=name, help=summary)
    def render(
        *,
        config: Annotated[Path, typer.Option(help="LiteLLM's config.yaml.")],
        settings: Annotated[Path | None, typer.Option(help="ringback.yaml.")] = None,
        values: Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="NAME=VALUE",
                help="May be given several times; a wrong one shows those that there are.",
                show_default=False,
            ),
        ] = None,
        output: Annotated[
            Path | None, typer.Option(help="A folder. Default: the terminal.")
        ] = None,
    ) -> None:
        from ringback.errors import StartError
        from ringback.render.inputs import load_inputs
        from ringback.render.targets import render_manifests

        try:
            inputs = load_inputs(config, settings, os.environ)
            manifests = render_manifests(name, inputs, values or ())
        except StartError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
        if output is None:
            typer.echo(manifests.stream, nl=False)
            return
        for path, text in manifests.files.items():
            _write(output / path, text, makes_folder=True)


for _name, _summary in TARGETS.items():
    _add_target(_name, _summary)


def _write(path: Path, text: str, *, makes_folder: bool = False) -> None:
    try:
        if makes_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(f"{path}: cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from error


def render_bootstrap(config: Path | None, settings_file: Path | None) -> str:
    """Return a bootstrap as YAML; the same input gives the same text.

    Secrets need not be at hand.

    Args:
        config: LiteLLM's ``config.yaml``; its upstreams become static clusters.
        settings_file: ``ringback.yaml``.

    Raises:
        StartError: If a file cannot be used.
    """
    from ringback.cli.plan import find_ca_file, metrics_listener
    from ringback.paths import envoy_dir
    from ringback.render.bootstrap import Changes, adapt_bootstrap, read_bootstrap
    from ringback.render.bootstraptext import bootstrap_text
    from ringback.render.envoytypes import check_types
    from ringback.render.inputs import load_inputs
    from ringback.render.passthrough import passthrough_cluster
    from ringback.settings import load_settings

    settings = load_settings(settings_file, without_secrets=True)
    inputs = load_inputs(config, settings_file, os.environ) if config else None
    folder = envoy_dir()
    ca_file = {"ca_file": find_ca_file(settings.upstream)}
    upstream = settings.upstream.model_copy(update=ca_file)
    changes = Changes(
        metrics=metrics_listener(settings),
        cors_origins=settings.cors_origins,
        playground=folder / "playground.html" if settings.playground else None,
        websocket=settings.websocket,
        overload=settings.overload,
        passthrough=passthrough_cluster(settings, upstream),
        passthrough_timeout_s=settings.passthrough.timeout_s,
        tracing=settings.tracing,
        tracing_ca_file=upstream.ca_file,
        services=settings.services,
        upstreams=_upstreams(inputs, upstream) if inputs else None,
    )
    bootstrap = adapt_bootstrap(read_bootstrap(folder / "envoy.yaml"), changes)
    check_types(bootstrap)
    return bootstrap_text(bootstrap, "ringback render envoy", is_static=config is not None)


def render_secrets(settings_file: Path | None) -> dict[str, str]:
    """Return, by name, the files beside a bootstrap that say where Envoy's certificates are.

    Args:
        settings_file: ``ringback.yaml``.

    Raises:
        StartError: If it cannot be used.
    """
    import yaml

    from ringback.render.services import secret_files
    from ringback.settings import load_settings

    settings = load_settings(settings_file, without_secrets=True)
    files = secret_files(settings.services.envoy)
    header = "# Written by `ringback render envoy`. Names files; it holds no secret itself.\n"
    return {
        name: header + yaml.safe_dump(content, sort_keys=False) for name, content in files.items()
    }


def _upstreams(inputs: "Inputs", upstream: "UpstreamSettings") -> "list[Json]":
    from extauthz.clusters import as_json, build_clusters

    clusters = build_clusters([found.origin for found in inputs.upstreams], upstream)
    return [as_json(cluster) for cluster in clusters]
