"""``ringback sdp``: what the filter does with a description, and what a description says."""

# ruff: noqa: PLC0415  imported where it is needed, so that `ringback --help` is quick

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ringback.cli.sdpreport import Subject
    from ringback.sdppolicy import Policy
    from sdpfilter.sdp.session import SessionDescription

REFUSED = 1
"""The exit code of a description that the filter refuses."""

UNUSABLE = 2
"""The exit code of a file or a policy that cannot be used."""

app = typer.Typer(help="Look at offers and answers (SDP).", no_args_is_help=True)

File = Annotated[str, typer.Argument(help="A file with the description; - reads standard input.")]


@app.command()
def check(
    file: File,
    *,
    policy: Annotated[
        str | None,
        typer.Option(help="A preset, a file with one policy, or a ringback.yaml with `sdp:`."),
    ] = None,
    answer_to: Annotated[
        str | None, typer.Option(metavar="OFFER", help="FILE is the answer to this offer.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model group that is called.")] = None,
    team: Annotated[str | None, typer.Option(help="The id of the key's team.")] = None,
    key_alias: Annotated[str | None, typer.Option(help="The alias of the virtual key.")] = None,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Default: on a terminal.")
    ] = None,
) -> None:
    """Show what the filter does with an offer, or with an answer: its edits, or why it refuses.

    Exit codes: 0 it passes, unchanged or edited; 1 it is refused; 2 the file or the policy cannot
    be used. The diff quotes the description, addresses included.
    """
    from ringback.cli.sdpfiles import UnusableFileError, load_policy, read_descriptions
    from ringback.cli.sdpreport import Subject

    try:
        data = read_descriptions(file, answer_to)
        found = load_policy(policy, model=model, team=team, key_alias=key_alias)
    except UnusableFileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNUSABLE) from error
    typer.echo(f"policy: {found.label}")
    subjects = [Subject("offer" if answer_to is None else "answer", file, data[0])]
    if answer_to is not None:
        subjects.insert(0, Subject("offer", answer_to, data[1]))
    elif _looks_like_an_answer(data[0]):
        typer.echo(
            f"note: {file} looks like an answer; --answer-to OFFER checks it as one", err=True
        )
    raise typer.Exit(_check(subjects, found.policy, color=_use_color(chosen=color)))


@app.command()
def describe(
    file: File,
    *,
    answer: Annotated[str | None, typer.Option(help="A file with the answer to FILE.")] = None,
) -> None:
    """Summarize a description, and hint at what keeps audio from flowing.

    Addresses, ICE credentials and fingerprints are not shown.
    """
    from ringback.cli.sdpfiles import UnusableFileError, parse_file, read_descriptions
    from ringback.cli.sdpreport import format_hints, format_summary
    from sdpfilter.describe import Kind
    from sdpfilter.describe import describe as summarize
    from sdpfilter.hints import find_hints

    try:
        data = read_descriptions(file, answer)
        first = parse_file(file, data[0])
        second = None if answer is None else parse_file(answer, data[1])
    except UnusableFileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNUSABLE) from error
    if second is None or answer is None:
        summary = summarize(first)
        hints = find_hints(summary)
        typer.echo(format_summary(file, summary))
    else:
        offered = summarize(first, Kind.OFFER)
        answered = summarize(second, Kind.ANSWER, first)
        hints = find_hints(offered, answered)
        typer.echo(format_summary(file, offered))
        typer.echo()
        typer.echo(format_summary(answer, answered))
    typer.echo()
    typer.echo(format_hints(hints))


def _check(subjects: "list[Subject]", policy: "Policy", *, color: bool) -> int:
    """Check an offer, or an offer and then its answer; return the exit code."""
    from ringback.cli.sdpreport import format_passed, format_refused
    from sdpfilter.errors import SDPError
    from sdpfilter.rewrite import apply_to_answer, apply_to_offer
    from sdpfilter.rules import check_answer, check_offer

    offer: SessionDescription | None = None
    for subject in subjects:
        try:
            if offer is None:
                rewritten = apply_to_offer(check_offer(subject.data), policy)
            else:
                rewritten = apply_to_answer(check_answer(subject.data, offer), offer, policy)
        except SDPError as error:
            typer.echo(format_refused(subject, error), color=color)
            return REFUSED
        offer = rewritten.description
        # Of two, the offer is only what the answer is compared with.
        if subject is subjects[-1]:
            typer.echo(format_passed(subject, rewritten), color=color)
    return 0


def _looks_like_an_answer(data: bytes) -> bool:
    from sdpfilter.describe import Kind
    from sdpfilter.describe import describe as summarize
    from sdpfilter.errors import SDPError
    from sdpfilter.sdp.session import parse_description

    try:
        return summarize(parse_description(data)).kind is Kind.ANSWER
    except SDPError:
        return False


def _use_color(*, chosen: bool | None) -> bool:
    """Tell whether to write colours; NO_COLOR is described at https://no-color.org."""
    if chosen is not None:
        return chosen
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
