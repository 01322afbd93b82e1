"""``ringback whoami``: what a key may do, and why not."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import asyncio
import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ringback.cli.table import format_table

if TYPE_CHECKING:
    from extauthz.access.explain import Step
    from extauthz.configuration import Configuration
    from extauthz.keys import KeySource, VirtualKey
    from ringback.secrets import Secret
    from ringback.settings import Settings

_MAX_KEY_BYTES: Final = 65_536


def whoami(
    given: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    _asks: Annotated[
        bool, typer.Option("--key", help="Ask for a key. The default: it is never an argument.")
    ] = False,
    model: Annotated[str, typer.Option(help="The model to ask for. Default: none is named.")] = "",
    config: Annotated[Path | None, typer.Option(help="LiteLLM's config.yaml.")] = None,
    settings: Annotated[Path | None, typer.Option(help="ringback.yaml.")] = None,
    keys: Annotated[Path | None, typer.Option(help="The key file.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the key from stdin.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain what a key may do for a model, rule by rule.

    Asks for the key without showing it. Exit code 0 if a request would be admitted, 1 if it would
    be refused, 2 if no key was given or the configuration cannot be used. Nothing is sent to a
    provider, and nothing is counted.
    """
    from ringback.errors import StartError
    from ringback.secrets import Secret

    if given:
        typer.echo(
            "A key on the command line is seen by everybody on this machine: leave it out. It is "
            "asked for, or read from stdin with --stdin.",
            err=True,
        )
        raise typer.Exit(2)
    # At a pipe nobody could be asked without the echo.
    if stdin or not sys.stdin.isatty():
        text = sys.stdin.buffer.readline(_MAX_KEY_BYTES).decode(errors="replace")
    else:
        text = typer.prompt("Key", hide_input=True, err=True)
    if not text.strip():
        typer.echo("No key was given; send it as the first line of stdin.", err=True)
        raise typer.Exit(2)
    try:
        found = _settings(settings, config, keys)
        # What key sources log would get into the report.
        with redirect_stdout(sys.stderr):
            key, steps = asyncio.run(_explain(found, Secret(text.strip()), model or None))
    except StartError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    is_admitted = all(step.outcome != "refused" for step in steps)
    typer.echo(_as_json(key, steps, is_admitted) if as_json else _as_text(steps))
    raise typer.Exit(0 if is_admitted else 1)


def _settings(settings: Path | None, config: Path | None, keys: Path | None) -> "Settings":
    from ringback.settings import load_settings

    given = {"config_file": config, "keys_file": keys}
    update = {name: path for name, path in given.items() if path is not None}
    return load_settings(settings).model_copy(update=update)


async def _explain(
    settings: "Settings", credential: "Secret", model: str | None
) -> "tuple[VirtualKey | None, tuple[Step, ...]]":
    from extauthz.access.explain import explain
    from extauthz.configuration import load_configuration
    from extauthz.egress import Egress
    from extauthz.egressway import way_of
    from extauthz.keys.stores import KeyStores

    egress = Egress(way_of(settings))
    try:
        stores = KeyStores(settings, egress)
        configuration = load_configuration(settings, stores)
        try:
            await stores.start()
            key, found = await _find(configuration, credential)
        finally:
            await stores.stop()
    finally:
        await egress.close()
    if key is None:
        return None, found
    now = datetime.fromtimestamp(time.time(), UTC)
    rules = explain(key, model, configuration.catalogue, now, configuration.general)
    return key, (*found, *rules)


async def _find(
    configuration: "Configuration", credential: "Secret"
) -> "tuple[VirtualKey | None, tuple[Step, ...]]":
    """Return the key from the first source that knows it, and what each one said."""
    from extauthz.access.errors import UnknownKeyError
    from extauthz.access.explain import Step, refused
    from extauthz.errors import KeySourceUnavailableError
    from extauthz.keys import KeyQuery, hash_key

    query = KeyQuery(hash_key(credential), credential)
    steps = []
    for source in configuration.keys.sources:
        name = _name_of(source)
        try:
            key = await source.find(query)
        except KeySourceUnavailableError as error:
            # As in the service: a later source might admit what this one blocks.
            steps.append(refused("source", error, f"The source that cannot be asked: {name}."))
            return None, tuple(steps)
        if key is not None:
            steps.append(Step("source", "ok", f"found in {name}{_title(key)}"))
            return key, tuple(steps)
        steps.append(Step("source", "skipped", await _why_unknown(source, name, credential)))
    return None, (*steps, refused("source", UnknownKeyError()))


async def _why_unknown(source: "KeySource", name: str, credential: "Secret") -> str:
    from extauthz.keys.oidc import OidcSource
    from extauthz.keys.oidcclaims import JwtRefusedError, is_jwt

    if isinstance(source, OidcSource) and is_jwt(credential):
        try:
            await source.verify(credential)
        except JwtRefusedError as error:
            return f"refused by {name}: {error}"
    return f"not known to {name}"


def _name_of(source: "KeySource") -> str:
    from extauthz.keys import MasterKeySource
    from extauthz.keys.cache import CachedSource
    from extauthz.keys.keyfile import KeyFileSource
    from extauthz.keys.oidc import OidcSource

    match source:
        case MasterKeySource():
            return "the LiteLLM configuration"
        case KeyFileSource():
            return "the key file"
        case OidcSource():
            return "the OpenID provider"
        case CachedSource(name="database"):
            return "LiteLLM's database"
        case CachedSource(name="litellm"):
            return "the LiteLLM proxy"
    return type(source).__name__


def _title(key: "VirtualKey") -> str:
    return "".join(f", {text}" for text in (key.alias, key.masked) if text)


def _as_text(steps: "tuple[Step, ...]") -> str:
    rows = [(step.name, step.outcome, step.text) for step in steps]
    first = next((step for step in steps if step.outcome == "refused"), None)
    verdict = "be admitted" if first is None else f"get {first.status} {first.code}"
    return f"{format_table(('RULE', 'SAYS', 'WHY'), rows)}\n\nA request would {verdict}."


def _as_json(key: "VirtualKey | None", steps: "tuple[Step, ...]", is_admitted: bool) -> str:
    content: dict[str, Any] = {
        "admitted": is_admitted,
        "key": None
        if key is None
        else {"alias": key.alias, "hash": key.hash, "team": key.team, "user": key.user},
        "steps": [asdict(step) for step in steps],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
