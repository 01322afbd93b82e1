"""What ``ringback sdp`` prints. Pure: text in, text out; colours are taken off where not wanted."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Final

import typer

from sdpfilter.describe import Kind, SectionSummary, Summary, to_text
from sdpfilter.draft import Edit, Rewritten
from sdpfilter.errors import InvalidAnswerError, NotSDPError, SDPError
from sdpfilter.explain import explain_edit
from sdpfilter.hints import Hint
from sdpfilter.policyerrors import ForbiddenAnswerError

_CONTEXT_LINES: Final = 1
_MAX_SHOWN_CHARS: Final = 120
_RECEIVERS: Final = {"offer": "upstream", "answer": "downstream"}
_NO_CANDIDATE: Final = {
    Kind.OFFER: "none, as usual: the upstream learns the address from this side's ICE checks",
    Kind.ANSWER: "none: the upstream has to find the downstream at the candidates of the offer",
    Kind.UNKNOWN: "none",
}
_SETUPS: Final = {
    "actpass": "client or server, as the answer chooses",
    "active": "client: begins",
    "passive": "server: waits",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A description that is checked."""

    kind: str
    """``offer`` or ``answer``."""

    file: str
    data: bytes


def format_passed(subject: Subject, rewritten: Rewritten) -> str:
    """Return what is said of a description that passes: the diff and the edits, if any."""
    if not rewritten.edits:
        return typer.style(f"The {subject.kind} passes unchanged.", fg=typer.colors.GREEN)
    count = len(rewritten.edits)
    verdict = f"The {subject.kind} passes with {count} edit{'s' if count > 1 else ''}:"
    return "\n".join(
        (
            *_format_diff(subject, rewritten.data),
            "",
            typer.style(verdict, fg=typer.colors.YELLOW),
            *_format_edits(rewritten.edits),
        )
    )


def format_refused(subject: Subject, error: SDPError) -> str:
    """Return what is said of a description that is refused: the rule, the line and the fix."""
    verdict = f"The {subject.kind} is refused: {error.code} (HTTP {error.http_status})"
    lines = [typer.style(verdict, fg=typer.colors.RED), f"  {error.problem}"]
    if (lineno := _lineno(error)) is not None:
        found = subject.data.split(b"\n")[lineno - 1 : lineno]
        shown = (to_text(line.removesuffix(b"\r"))[:_MAX_SHOWN_CHARS] for line in found)
        lines += [f"  {lineno} | {text}" for text in shown]
    return "\n".join((*lines, f"  {typer.style('to do:', bold=True)} {error.fix}"))


def format_summary(name: str, summary: Summary) -> str:
    """Return a summary for people."""
    article = "a" if summary.kind is Kind.UNKNOWN else "an"
    head = f"{name}: {article} {summary.kind}, {summary.size_bytes} bytes, "
    lines = [typer.style(f"{head}{summary.line_count} lines", bold=True)]
    for place, section in enumerate(summary.sections):
        lines += _format_section(place, section)
    hashes = ", ".join(summary.hashes) or "none"
    roles = (f"{setup} ({_SETUPS.get(setup, 'unknown')})" for setup in summary.setups)
    lines += [
        _row("BUNDLE", "; ".join(" ".join(mids) for mids in summary.bundles) or "none"),
        _row("ICE", _ice(summary)),
        _row("DTLS", f"{', '.join(roles) or 'no role'}; fingerprint: {hashes}"),
    ]
    if not summary.candidates:
        lines.append(_row("candidates", _NO_CANDIDATE[summary.kind]))
    else:
        lines.append(_row("candidates", str(sum(count for _, count in summary.candidates))))
    for kind, count in summary.candidates:
        words = (str(count), kind.type, kind.transport, kind.address)
        lines.append(_row("", f"  {' '.join(filter(None, words))}"))
    return "\n".join(lines)


def format_hints(hints: list[Hint]) -> str:
    """Return the hints, each under its code."""
    if not hints:
        return "No hint: as far as the descriptions tell, audio can flow."
    return "\n".join(("Hints:", *(f"  {hint.code}: {hint.text}" for hint in hints)))


def _format_edits(edits: tuple[Edit, ...]) -> Iterator[str]:
    """Give a line for each rule and reason, with the lines of the description that it changed."""
    linenos: dict[tuple[str, str], list[int]] = {}
    for edit in edits:
        found = linenos.setdefault((edit.rule, explain_edit(edit)), [])
        if edit.lineno not in found:
            found.append(edit.lineno)
    for (rule, why), found in linenos.items():
        where = f"line{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
        yield f"  {typer.style(rule, bold=True)} at {where}: {why}"


def _format_diff(subject: Subject, after: bytes) -> Iterator[str]:
    receiver = _RECEIVERS[subject.kind]
    diff = unified_diff(
        [to_text(line) for line in subject.data.splitlines()],
        [to_text(line) for line in after.splitlines()],
        f"{subject.file} as it came",
        f"{subject.file} as the {receiver} receives it",
        n=_CONTEXT_LINES,
        lineterm="",
    )
    for at, line in enumerate(diff):
        if at < 2:
            yield typer.style(line, bold=True)
        elif line.startswith("@@"):
            yield typer.style(line, fg=typer.colors.CYAN)
        elif line.startswith("-"):
            yield typer.style(line, fg=typer.colors.RED)
        elif line.startswith("+"):
            yield typer.style(line, fg=typer.colors.GREEN)
        else:
            yield line


def _lineno(error: SDPError) -> int | None:
    """Return the line that an error names; an answer's may have it in its reason."""
    if isinstance(error, (InvalidAnswerError, ForbiddenAnswerError)):
        error = error.reason
    lineno: int | None = getattr(error, "lineno", 1 if isinstance(error, NotSDPError) else None)
    return lineno


def _format_section(place: int, section: SectionSummary) -> Iterator[str]:
    words = [section.media]
    if section.is_rejected:
        words.append("rejected (port 0)")
    elif not section.is_data_channel:
        words.append(section.direction)
    words.append("no mid" if section.mid is None else f"mid {section.mid}")
    yield _row(f"section {place}", f"{', '.join(words)} (line {section.lineno})")
    if section.is_data_channel:
        yield _row("", "data channel")
        return
    yield _row("  codecs", ", ".join(section.codecs) or "none")
    if section.helpers:
        yield _row("  helpers", ", ".join(section.helpers))
    for parameters in section.parameters:
        yield _row("  Opus", parameters)
    if section.bandwidth:
        yield _row("  bandwidth", ", ".join(section.bandwidth))


def _ice(summary: Summary) -> str:
    words = ["lite: waits for checks" if summary.is_lite else "full"]
    if summary.is_trickle:
        words.append("trickle")
    if summary.is_ended:
        words.append("end-of-candidates")
    return ", ".join(words)


def _row(label: str, text: str) -> str:
    return f"  {label:<14}{text}"
