"""The command line. What a command needs is imported inside it, so that ``--help`` is quick."""

import typer

from ringback.cli import calls, check, emulator, keys, render, sdp, tokens, up, whoami

# NOTE: Typer's own tracebacks are off: they print local variables, and some of ours are secrets.
app = typer.Typer(
    name="ringback",
    help="An Envoy front door for OpenAI and Azure OpenAI Realtime voice over WebRTC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# In the order in which `ringback --help` shows them.
app.command(name="up")(up.up)
app.command(name="check")(check.check)
app.add_typer(keys.app, name="keys")
app.add_typer(tokens.app, name="tokens")
app.add_typer(calls.app, name="calls")
app.command(name="whoami")(whoami.whoami)
app.add_typer(render.app, name="render")
app.add_typer(sdp.app, name="sdp")
app.command(name="emulator")(emulator.emulator)


def main() -> None:
    """Run the command line."""
    app()
