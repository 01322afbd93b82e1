"""``ringback keys``: the virtual keys of a key file."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ringback.cli.editing import locked, refusals
from ringback.cli.table import format_table

if TYPE_CHECKING:
    from extauthz.keys import VirtualKey

_RANDOM_BYTES: Final = 32
_DURATION: Final = re.compile(r"([0-9]{1,5})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DEFAULT_FILE: Final = Path("keys.yaml")

File = Annotated[Path, typer.Option("--file", envvar="RINGBACK_KEYS_FILE", help="The key file.")]
Alias = Annotated[str, typer.Option(help="The name of the key.")]

app = typer.Typer(help="Manage the virtual keys of a key file.", no_args_is_help=True)


@app.command()
def create(
    *,
    alias: Alias,
    file: File = _DEFAULT_FILE,
    models: Annotated[str, typer.Option(help="Models that it may use: a,b. Default: all.")] = "",
    expires: Annotated[str, typer.Option(help="30d, 12h or 2027-01-31 (0:00 UTC).")] = "",
    team: Annotated[str, typer.Option(help="Id of the team that it belongs to.")] = "",
    user: Annotated[str, typer.Option(help="Id of the user that it belongs to.")] = "",
    sdp_policy: Annotated[str, typer.Option(help="SDP policy that its calls are held to.")] = "",
    rpm: Annotated[int | None, typer.Option(min=0, help="Requests in a minute.")] = None,
    parallel: Annotated[int | None, typer.Option(min=0, help="Requests at once.")] = None,
    open_calls: Annotated[int | None, typer.Option(min=0, help="Calls open at once.")] = None,
    call_duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds that each call may last.")
    ] = None,
    call_idle: Annotated[
        float | None, typer.Option(min=1, help="Seconds of silence in a call.")
    ] = None,
    call_cost: Annotated[
        float | None, typer.Option(min=0.000001, help="US dollars that each call may cost.")
    ] = None,
) -> None:
    """Create a key and print it, this once: the file holds only its hash."""
    from extauthz.keys import Limits, VirtualKey, hash_key
    from ringback.calllimits import CallLimits, microdollars
    from ringback.secrets import Secret

    raw = Secret(f"sk-{secrets.token_urlsafe(_RANDOM_BYTES)}")
    key = VirtualKey(
        hash=hash_key(raw),
        alias=alias,
        models=tuple(name.strip() for name in models.split(",")) if models else (),
        expires=parse_expires(expires, datetime.now(UTC)) if expires else None,
        team=team or None,
        user=user or None,
        sdp_policy=sdp_policy or None,
        limits=Limits(rpm=rpm, parallel=parallel),
        max_open_calls=open_calls,
        call_limits=CallLimits(None, call_duration, call_idle, microdollars(call_cost)),
    )
    with _changing(file, may_be_new=True) as keys:
        _check_free(alias, keys)
        keys.append(key)
    typer.echo(raw.reveal())
    typer.echo(f"This is the only time the key is shown. {file} holds its hash.", err=True)


@app.command("list")
def list_keys(file: File = _DEFAULT_FILE) -> None:
    """List the keys: names, rights and states, never the keys themselves."""
    from extauthz.keys.keyfile import load_keys

    with refusals(file):
        keys = load_keys(file)
    now = datetime.now(UTC)
    header = ("ALIAS", "HASH", "STATUS", "EXPIRES", "MODELS", "TEAM", "USER", "SDP POLICY")
    typer.echo(format_table(header, [_row(key, now) for key in keys]))


@app.command()
def block(alias: Alias, file: File = _DEFAULT_FILE) -> None:
    """Block a key: it is refused from the next request on, and stays in the file."""
    from dataclasses import replace

    with _changing(file) as keys:
        index = _index_of(alias, keys)
        keys[index] = replace(keys[index], blocked=True)
    typer.echo(f"{alias} is blocked.")


@app.command()
def delete(alias: Alias, file: File = _DEFAULT_FILE) -> None:
    """Delete a key: it is no longer known from the next request on."""
    with _changing(file) as keys:
        del keys[_index_of(alias, keys)]
    typer.echo(f"{alias} is deleted.")


def parse_expires(text: str, now: datetime) -> datetime:
    """Return the time that ``--expires`` means, in whole seconds.

    Args:
        text: A duration (``45s``, ``90m``, ``12h``, ``30d``, ``2w``), a date (its first second
            in UTC) or a time in UTC (``2027-01-31T12:00:00Z``).
        now: The time that durations count from.

    Raises:
        typer.BadParameter: If it is none of these, or not in the future.
    """
    try:
        if duration := _DURATION.fullmatch(text):
            number, unit = duration.groups()
            expires = now + timedelta(**{_UNITS[unit]: int(number)})
        else:
            expires = datetime.fromisoformat(text)
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=UTC)
        expires = expires.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            "expected a duration such as 30d or 12h, or a date such as 2027-01-31",
            param_hint="--expires",
        ) from error
    if expires <= now:
        raise typer.BadParameter("expected a time in the future", param_hint="--expires")
    return expires


@contextmanager
def _changing(file: Path, *, may_be_new: bool = False) -> Iterator[list["VirtualKey"]]:
    """Give the keys of a file to change, and write them if that raised nothing."""
    from extauthz.keys.keyfile import load_keys, save_keys

    with refusals(file), locked(file):
        keys = [] if may_be_new and not file.exists() else list(load_keys(file))
        yield keys
        save_keys(file, keys)


def _check_free(alias: str, keys: list["VirtualKey"]) -> None:
    if not alias.strip():
        raise typer.BadParameter("expected a name for the key", param_hint="--alias")
    if any(key.alias == alias for key in keys):
        raise typer.BadParameter(
            "a key of the file has this alias; choose another, or first `ringback keys delete` it",
            param_hint="--alias",
        )


def _index_of(alias: str, keys: list["VirtualKey"]) -> int:
    for index, key in enumerate(keys):
        if key.alias == alias:
            return index
    raise typer.BadParameter(
        "no key of the file has this alias; see `ringback keys list`", param_hint="--alias"
    )


def _row(key: "VirtualKey", now: datetime) -> tuple[str, ...]:
    return (
        key.alias or "",
        f"...{key.hash[-4:]}",
        _status(key, now),
        "never" if key.expires is None else f"{key.expires:%Y-%m-%dT%H:%M:%SZ}",
        ",".join(key.models) or "all",
        key.team or "-",
        key.user or "-",
        key.sdp_policy or "-",
    )


def _status(key: "VirtualKey", now: datetime) -> str:
    from extauthz.access import check_key
    from extauthz.errors import AuthError

    try:
        check_key(key, now)
    except AuthError as error:
        return error.code.removeprefix("key_")
    return "active"
