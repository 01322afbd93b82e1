"""``ringback tokens``: refuse tokens before their time."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeVar

import typer

from ringback.cli.editing import locked, refusals
from ringback.cli.table import format_table

if TYPE_CHECKING:
    from extauthz.revocations import Revocation
    from ringback.settings.store import StoreSettings
    from ringback.valkey import Valkey

Result = TypeVar("Result")
File = Annotated[
    Path | None, typer.Option("--file", help="The list. Default: the one that the settings name.")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="ringback.yaml.")]
TokenId = Annotated[str, typer.Option(help="One token, by its token_id in the access log.")]
Alias = Annotated[str, typer.Option(help="Tokens of a virtual key until now: its alias or sha256.")]
Kid = Annotated[str, typer.Option(help="Whatever this sealing key has sealed: a day or a kid.")]
Everything = Annotated[bool, typer.Option("--everything", help="All tokens until now.")]

_CREDENTIALS: Final = ("sk-", "ek_", "eyJ")

app = typer.Typer(help="Refuse tokens before their time.", no_args_is_help=True)


@app.command()
def revoke(
    *,
    token_id: TokenId = "",
    alias: Alias = "",
    kid: Kid = "",
    everything: Everything = False,
    file: File = None,
    settings: SettingsFile = None,
) -> None:
    """Refuse one token, those of a key, those of a sealing key, or all."""
    entry = _named(token_id, alias, kid, everything=everything)

    def add(entries: Sequence["Revocation"]) -> list["Revocation"]:
        return [*_without(entry, entries), entry]

    with refusals("the list"):
        _place_of(file, settings).change(add)
    typer.echo("Revoked; it holds everywhere within seconds.")


@app.command()
def restore(
    *,
    token_id: TokenId = "",
    alias: Alias = "",
    kid: Kid = "",
    everything: Everything = False,
    file: File = None,
    settings: SettingsFile = None,
) -> None:
    """Take a revocation back; tokens that have not expired are good again."""
    entry = _named(token_id, alias, kid, everything=everything)
    with refusals("the list"):
        place = _place_of(file, settings)
        if len(_without(entry, place.read())) == len(place.read()):
            raise typer.BadParameter("there is no such entry; see `ringback tokens list`")
        place.change(lambda entries: _without(entry, entries))
    typer.echo("Restored; it holds everywhere within seconds.")


@app.command("list")
def list_revocations(file: File = None, settings: SettingsFile = None) -> None:
    """List what is revoked."""
    from extauthz.revocations import format_time

    with refusals("the list"):
        entries = _place_of(file, settings).read()
    rows = [(entry.kind, entry.name or "-", format_time(entry.at)) for entry in entries]
    typer.echo(format_table(("REVOKED", "NAME", "AT"), rows))


class _Place(Protocol):
    """Where revocations are listed."""

    def read(self) -> Sequence["Revocation"]: ...

    def change(self, edit: Callable[[Sequence["Revocation"]], Sequence["Revocation"]]) -> None: ...


class _InFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Sequence["Revocation"]:
        from extauthz.revocations import load_revocations

        return load_revocations(self._path) if self._path.exists() else ()

    def change(self, edit: Callable[[Sequence["Revocation"]], Sequence["Revocation"]]) -> None:
        from extauthz.revocations import save_revocations

        with locked(self._path):
            now = time.time()
            save_revocations(self._path, [e for e in edit(self.read()) if not e.is_over(now)])


class _InStore:
    def __init__(self, settings: "StoreSettings") -> None:
        self._settings = settings

    def read(self) -> Sequence["Revocation"]:
        from extauthz.revocationkeeper import read_store

        return self._run(read_store) or ()

    def change(self, edit: Callable[[Sequence["Revocation"]], Sequence["Revocation"]]) -> None:
        from extauthz.revocationkeeper import write_store

        now, old = time.time(), self.read()
        new = [entry for entry in edit(old) if not entry.is_over(now)]
        gone = {(e.kind, e.name) for e in old} - {(e.kind, e.name) for e in new}
        removed = [entry for entry in old if (entry.kind, entry.name) in gone]
        added = [entry for entry in new if entry not in old]
        self._run(lambda valkey: write_store(valkey, added, removed))

    def _run(self, work: Callable[["Valkey"], Awaitable[Result]]) -> Result:
        from ringback.valkey import StoreUnavailableError, Valkey

        async def run() -> Result:
            valkey = Valkey(self._settings)
            try:
                return await work(valkey)
            finally:
                await valkey.close()

        try:
            return asyncio.run(run())
        except StoreUnavailableError as error:
            raise OSError(None, str(error)) from error


def _place_of(file: Path | None, settings: Path | None) -> _Place:
    from ringback.settings import load_settings

    if file is not None:
        return _InFile(file)
    found = load_settings(settings)
    if found.token.revoked_file is not None:
        return _InFile(found.token.revoked_file)
    if found.token.revoked_in_store and found.store.url is not None:
        return _InStore(found.store)
    raise typer.BadParameter(
        "give --file, or --settings that name token.revoked_file or token.revoked_in_store"
    )


def _named(token_id: str, alias: str, kid: str, *, everything: bool) -> "Revocation":
    from extauthz.revocations import Kind, Revocation

    named: dict[Kind, str] = {"token_id": token_id, "key": alias, "kid": kid}
    chosen: list[Kind] = [kind for kind, name in named.items() if name]
    if everything:
        chosen.append("everything")
    if len(chosen) != 1:
        raise typer.BadParameter("give one of --token-id, --alias, --kid and --everything")
    (kind,) = chosen
    name = named.get(kind, "")
    if name.startswith(_CREDENTIALS):
        raise typer.BadParameter(
            "this is a credential, and everybody on the machine can read a command line: "
            "name the token by its id, and the key by its alias"
        )
    return Revocation(kind, name, math.ceil(time.time()))


def _without(entry: "Revocation", entries: Sequence["Revocation"]) -> list["Revocation"]:
    return [other for other in entries if (other.kind, other.name) != (entry.kind, entry.name)]
