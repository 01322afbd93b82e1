"""How long the checks of offers and answers take: ``python bench/sdp.py``.

Each row is the best of several rounds, because everything else that a machine does only adds to it.
"""

from collections.abc import Callable
from pathlib import Path
from timeit import repeat

from sdpfilter.errors import SDPError
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.lines import MAX_DESCRIPTION_BYTES, MAX_LINES
from sdpfilter.sdp.session import parse_description, serialize_description

DIRECTORY = Path(__file__).parents[1] / "tests" / "data" / "sdp"
ROUNDS = 7
ROUND_S = 0.05


def read(name: str) -> bytes:
    """Read a description of a real peer."""
    return (DIRECTORY / f"{name}.sdp").read_bytes()


def filled(data: bytes) -> bytes:
    """Fill an offer up to the limits, with as many media sections as fit."""
    section = b"m=audio 0 x 0\r\n"
    room = min(MAX_LINES - data.count(b"\n"), (MAX_DESCRIPTION_BYTES - len(data)) // len(section))
    return data + section * room


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
    return min(repeat(lambda: outcome(check, data), number=number, repeat=ROUNDS)) / number * 1e6


def main() -> None:
    """Print the table."""
    chromium = read("offer_chromium156_audio_dc_initial")
    video = read("offer_chromium156_audio_video_dc_initial")
    answer = read("answer_openai_2026-08-17_ga_calls")
    offer = check_offer(chromium)
    rows: list[tuple[str, Callable[[bytes], object], bytes]] = [
        ("parse the Chromium offer", parse_description, chromium),
        (
            "... and serialise it",
            lambda data: serialize_description(parse_description(data)),
            chromium,
        ),
        ("check the Chromium offer", check_offer, chromium),
        ("check the Chromium offer with video", check_offer, video),
        ("check OpenAI's answer to its offer", lambda data: check_answer(data, offer), answer),
        ("check an offer as large as allowed", check_offer, filled(chromium)),
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
