"""What ``ringback calls`` shows of calls."""

import time
from collections.abc import Iterable
from typing import Final

from callsapi.v1.calls_pb2 import CallState, Event, Phase
from ringback.cli.table import format_table

_MICRO: Final = 1_000_000
_HEADER: Final = ("CALL", "AGE", "LEFT", "STATE", "MODEL", "KEY", "TEAM", "TOKENS", "COST")


def call_table(calls: Iterable[CallState], now: float, room: int | None = None) -> str:
    """Return calls as a table.

    Args:
        calls: In the order in which they are shown.
        now: In seconds since 1970.
        room: How many lines there may be, at least two; None for all.
    """
    rows = [_row(call, now) for call in calls]
    if not rows:
        return "No call is open."
    lines = format_table(_HEADER, rows).splitlines()
    if room is not None and len(lines) > room:
        lines[room - 1 :] = [f"... and {len(lines) - room + 1} more"]
    return "\n".join(lines)


def event_line(event: Event) -> str:
    """Return a line that says what happened to a call."""
    call = event.call
    at = time.strftime("%H:%M:%S", time.localtime(event.at))
    facts = [at, event.name, call.id, call.model, f"{_tokens(call)} tokens", _cost(call)]
    return "  ".join(facts + ([call.reason] if call.reason else []))


def _row(call: CallState, now: float) -> tuple[str, ...]:
    payer = call.payer
    return (
        call.id,
        _clock(now - call.opened_at),
        _left(call, now),
        _state(call),
        call.model,
        payer.key_alias or payer.key_hash[:8],
        payer.team_id or "-",
        str(_tokens(call)),
        _cost(call),
    )


def _state(call: CallState) -> str:
    state = Phase.Name(call.phase).removeprefix("PHASE_").lower()
    return f"{state}: {call.reason}" if call.reason else state


def _left(call: CallState, now: float) -> str:
    """Return the time until a limit ends a call, if nobody speaks any more."""
    if call.reason:
        return "-"
    if 0 < call.idle_ends_at < call.ends_at:
        return f"{_clock(call.idle_ends_at - now)} idle"
    return _clock(call.ends_at - now)


def _clock(duration_s: float) -> str:
    minutes, seconds = divmod(max(0, int(duration_s)), 60)
    return f"{minutes}:{seconds:02}"


def _tokens(call: CallState) -> int:
    used = call.usage
    return sum(
        (
            *(used.text_in, used.audio_in, used.image_in),
            *(used.cached_text_in, used.cached_audio_in, used.cached_image_in),
            *(used.text_out, used.audio_out),
        )
    )


def _cost(call: CallState) -> str:
    return f"${call.cost_microdollars / _MICRO:.4f}"
