"""What callers see of a call: callkeeper's message as JSON."""

from typing import Any, Final

from callsapi.v1.calls_pb2 import CallState, Phase, Usage

_MICRO: Final = 1_000_000


def show_call(call: CallState, now: float, *, with_budget: bool = True) -> dict[str, Any]:
    """Return a call for those whose call it is.

    Durations in seconds, times in seconds since 1970, amounts in US dollars; what is left of a
    limit is null where there is none, and once the call has ended.

    Args:
        call: As callkeeper knows it.
        now: In seconds since 1970.
        with_budget: Tell what is left of the budget with the least, which others may share.
    """
    has_budget = with_budget and call.HasField("budget_left_microdollars")
    ended_at = call.ended_at or None
    return {
        "id": call.handle,
        "object": "realtime.call",
        "model": call.model,
        "state": Phase.Name(call.phase).removeprefix("PHASE_").lower(),
        "reason": call.reason or None,
        "opened_at": _seconds(call.opened_at),
        "ended_at": ended_at and _seconds(ended_at),
        "duration_s": _seconds(max(0.0, (ended_at or now) - call.opened_at)),
        "usage": _usage(call.usage),
        "cost": call.cost_microdollars / _MICRO,
        "left": {
            "duration_s": None if ended_at else _until(call.ends_at, now),
            "idle_s": None if ended_at else _until(call.idle_ends_at, now),
            "cost": None if ended_at else _cost_left(call),
            "budget": call.budget_left_microdollars / _MICRO if has_budget else None,
        },
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """Return a usage in the words of ``response.done``, where cached tokens are counted twice."""
    cached = {
        "text_tokens": usage.cached_text_in,
        "audio_tokens": usage.cached_audio_in,
        "image_tokens": usage.cached_image_in,
    }
    fresh = {
        "text_tokens": usage.text_in,
        "audio_tokens": usage.audio_in,
        "image_tokens": usage.image_in,
    }
    read = {kind: tokens + cached[kind] for kind, tokens in fresh.items()}
    written = {"text_tokens": usage.text_out, "audio_tokens": usage.audio_out}
    cached_tokens = {"cached_tokens": sum(cached.values()), "cached_tokens_details": cached}
    return {
        "input_tokens": sum(read.values()),
        "input_token_details": read | cached_tokens,
        "output_tokens": sum(written.values()),
        "output_token_details": written,
        # Of transcriptions that are billed by their duration.
        "transcribed_s": usage.seconds,
    }


def _until(time: float, now: float) -> float | None:
    return _seconds(max(0.0, time - now)) if time else None


def _cost_left(call: CallState) -> float | None:
    if not call.max_cost_microdollars:
        return None
    return max(0, call.max_cost_microdollars - call.cost_microdollars) / _MICRO


def _seconds(seconds: float) -> float:
    return round(seconds, 1)
