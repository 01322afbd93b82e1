"""How long offers and answers take to check and to filter: ``python bench/sdp.py``.

Each row is the best of several rounds of processor time, because everything else that a machine
does only adds to it. ``heavy`` is the presets privacy, kiosk and low_bandwidth together.
"""

from collections.abc import Callable
from pathlib import Path
from time import process_time
from timeit import repeat

from ringback.sdppolicy import PolicySettings
from sdpfilter.errors import SDPError
from sdpfilter.policies import Policies
from sdpfilter.policy import PRESETS, strictest
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.lines import MAX_DESCRIPTION_BYTES, MAX_LINES
from sdpfilter.sdp.session import (
    MAX_MEDIA_SECTIONS,
    parse_description,
    serialize_description,
)

DIRECTORY = Path(__file__).parents[1] / "tests" / "data" / "sdp"
ROUNDS = 7
ROUND_S = 0.05


def read(name: str) -> bytes:
    """Read a description of a real peer."""
    return (DIRECTORY / f"{name}.sdp").read_bytes()


def filled(data: bytes) -> bytes:
    """Fill an offer up to the limits: with media sections, and with private candidates."""
    sections = (MAX_MEDIA_SECTIONS - data.count(b"\nm=")) * b"m=audio 0 x 0\r\n"
    candidate = b"a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n"
    lines = MAX_LINES - (data + sections).count(b"\n")
    room = (MAX_DESCRIPTION_BYTES - len(data + sections)) // len(candidate)
    return data + sections + candidate * min(lines, room)


def outcome(check: Callable[[bytes], object], data: bytes) -> str:
    """Say whether a description passes, or the code of its refusal."""
    try:
        check(data)
    except SDPError as refusal:
        return refusal.code
    return "passes"


def best_us(check: Callable[[bytes], object], data: bytes) -> float:
    """Return the shortest time of one call, in microseconds."""
    once_s = min(repeat(lambda: outcome(check, data), number=1, repeat=5))
    number = max(1, int(ROUND_S / once_s))
    rounds = repeat(lambda: outcome(check, data), number=number, repeat=ROUNDS, timer=process_time)
    return min(rounds) / number * 1e6


def main() -> None:
    """Print the table."""
    chromium = read("offer_chromium156_audio_dc_initial")
    gathered = read("offer_chromium156_audio_dc_gathered")
    video = read("offer_chromium156_audio_video_dc_initial")
    answer = read("answer_openai_2026-08-17_ga_calls")
    offer = check_offer(chromium)
    privacy = PRESETS["privacy"]
    heavy = strictest(strictest(privacy, PRESETS["kiosk"]), PRESETS["low_bandwidth"])
    sent = apply_to_offer(offer, heavy).description
    policies = Policies(PolicySettings(models={"gpt": "kiosk"}, keys={"me": "low_bandwidth"}))
    rows: list[tuple[str, Callable[[bytes], object], bytes]] = [
        ("parse the Chromium offer", parse_description, chromium),
        (
            "... and serialise it",
            lambda data: serialize_description(parse_description(data)),
            chromium,
        ),
        ("check the Chromium offer", check_offer, chromium),
        (
            "... and filter it: privacy",
            lambda data: apply_to_offer(check_offer(data), privacy),
            chromium,
        ),
        (
            "... and filter it: heavy",
            lambda data: apply_to_offer(check_offer(data), heavy),
            chromium,
        ),
        (
            "check and filter with candidates",
            lambda data: apply_to_offer(check_offer(data), privacy),
            gathered,
        ),
        ("check the Chromium offer with video", check_offer, video),
        ("... and filter it: heavy", lambda data: apply_to_offer(check_offer(data), heavy), video),
        ("check OpenAI's answer to its offer", lambda data: check_answer(data, offer), answer),
        (
            "... and filter it: heavy",
            lambda data: apply_to_answer(check_answer(data, sent), sent, heavy),
            answer,
        ),
        ("find the policy of a call", lambda _: policies.for_call("gpt", "team", "me"), b""),
        ("check an offer as large as allowed", check_offer, filled(chromium)),
        (
            "... and filter it: privacy",
            lambda data: apply_to_offer(check_offer(data), privacy),
            filled(chromium),
        ),
        ("refuse 100,000 lines", check_offer, chromium + b"a=candidate\r\n" * 100_000),
        ("refuse 64 KiB of newlines", check_offer, b"\n" * MAX_DESCRIPTION_BYTES),
        ("refuse a mistake in the last line", check_offer, filled(chromium) + b"?"),
    ]
    print(f"{'what':36}{'bytes':>10}{'lines':>9}{'us':>10}  outcome")
    for what, check, data in rows:
        took_us, lines = best_us(check, data), data.count(b"\n")
        print(f"{what:36}{len(data):10,}{lines:9,}{took_us:10.1f}  {outcome(check, data)}")


if __name__ == "__main__":
    main()
