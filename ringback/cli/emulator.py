"""``ringback emulator``: the OpenAI and Azure Realtime that needs no key, on its own."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

from typing import Annotated

import typer


def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8090,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run an OpenAI and Azure Realtime API that needs no key, with real WebRTC peers.

    Prints `listening URL`. `python -m emulator` has more options: voices, caps, faults.
    """
    from ringback.cli.demo import check_emulator
    from ringback.errors import StartError

    try:
        check_emulator()
    except StartError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    from emulator.options import Options
    from emulator.server import run

    try:
        run(Options(host=host, port=port))
    except OSError as error:
        typer.echo(f"{host}:{port} cannot be listened on: {error.strerror}", err=True)
        typer.echo("Choose another --port, 0 for any that is free, or another --host.", err=True)
        raise typer.Exit(1) from error
