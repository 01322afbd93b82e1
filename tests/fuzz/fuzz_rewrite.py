"""Coverage-guided search for a description that breaks a promise; README.md beside it says how.

An input is 40 bytes that choose a policy, an offer, a line of ``====`` and an answer.
"""

import importlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

# It has no types, and wheels for few platforms: it is installed where fuzzing is done.
atheris: Any = importlib.import_module("atheris")

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["sdpfilter"]):
    from helpers.descriptions import ANSWERS, OFFERS
    from helpers.mutations import ODD_HEADS, ODD_LINES, ODD_SECTIONS
    from helpers.policies import check_hidden, check_rewritten, count_candidates, make_policy
    from ringback.sdppolicy import OfferCandidates, Policy
    from sdpfilter.errors import AnswerError, SDPError
    from sdpfilter.rewrite import apply_to_answer, apply_to_offer
    from sdpfilter.rules import check_answer, check_offer
    from sdpfilter.sdp.session import SessionDescription, parse_description, serialize_description

_CHOICES: Final = 40
_BETWEEN: Final = b"====\n"
# Whatever the fuzzer finds, half of its steps move whole lines of real descriptions about.
_LINES: Final = sorted(
    {line for data in (*OFFERS.values(), *ANSWERS.values()) for line in data.splitlines(True)}
    | {*ODD_LINES, *ODD_HEADS, *ODD_SECTIONS}
)


def check_input(data: bytes) -> None:
    """Run one input through all that a call's descriptions go through.

    Raises:
        Exception: Anything but an SDPError is a finding.
    """
    choices = iter(data[:_CHOICES])

    def pick(values: Sequence[Any]) -> Any:
        return values[next(choices, 0) % len(values)]

    policy = make_policy(pick)
    offer, _, answer = data[_CHOICES:].partition(_BETWEEN)
    try:
        sent = check_offer_rewritten(check_offer(offer), policy)
    except SDPError as refusal:
        check_refusal(refusal, (400, 403, 413))
        return
    try:
        check_answer_rewritten(check_answer(answer, sent), sent, policy)
    except AnswerError as refusal:
        check_refusal(refusal, (502,))


def check_refusal(refusal: SDPError, statuses: tuple[int, ...]) -> None:
    """Check that a refusal has its status and a text."""
    assert refusal.http_status in statuses
    assert str(refusal)


def check_offer_rewritten(offer: SessionDescription, policy: Policy) -> SessionDescription:
    """Check what holds of an offer that a policy was applied to, and return that."""
    assert serialize_description(offer) == offer.data
    rewritten = apply_to_offer(offer, policy)
    check_rewritten(offer, rewritten)
    again = check_offer(rewritten.data)
    assert again == rewritten.description == parse_description(rewritten.data)
    assert not apply_to_offer(again, policy).edits
    if policy.offer_candidates is not OfferCandidates.KEEP:
        check_hidden(again)
    return again


def check_answer_rewritten(
    answer: SessionDescription, offer: SessionDescription, policy: Policy
) -> None:
    """Check what holds of an answer that a policy was applied to."""
    rewritten = apply_to_answer(answer, offer, policy)
    check_rewritten(answer, rewritten)
    again = check_answer(rewritten.data, offer)
    assert not apply_to_answer(again, offer, policy).edits
    if policy.offer_candidates is OfferCandidates.DROP_ALL:
        assert count_candidates(again)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input: by the fuzzer's own ways, or by whole lines."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    choices, lines = data[:_CHOICES], data[_CHOICES:].splitlines(keepends=True) or [b""]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines) + 1)
        match rng.randrange(5):
            case 0:
                del lines[at : at + rng.randint(1, 3)]
            case 1:
                lines.insert(at, rng.choice(_LINES))
            case 2:
                lines[at : at + 1] = [rng.choice(_LINES)]
            case 3 if lines:
                lines.insert(at, rng.choice(lines))
            case _:
                choices = bytes(atheris.Mutate(choices, _CHOICES))
    return (choices.ljust(_CHOICES, b"\0") + b"".join(lines))[:max_size]


def seeds() -> dict[str, bytes]:
    """Return inputs made of real descriptions, by name: each offer with an answer that fits it."""
    answer = ANSWERS["answer_openai_2026-08-17_ga_calls"]
    video = b"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n"
    made = {}
    for name, offer in OFFERS.items():
        fitting = answer
        if "video" in name:
            head, tail = answer.split(b"m=application")
            tail = tail.replace(b"a=mid:1", b"a=mid:2")
            fitting = head.replace(b"BUNDLE 0 1", b"BUNDLE 0 2") + video + b"m=application" + tail
        for policy, start in {
            "none": b"",
            "some": b"\1\1\1\1\1\1\2\2\2\2\2\2\1\0\1\1\1\1\1\1",
        }.items():
            made[f"{name}_{policy}"] = start.ljust(_CHOICES, b"\0") + offer + _BETWEEN + fitting
    return made


def main() -> None:
    """Run the fuzzer with libFuzzer's own options, or write the seeds into a folder."""
    if sys.argv[1:2] == ["--write-seeds"]:
        folder = Path(sys.argv[2])
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            (folder / name).write_bytes(data)
        return
    atheris.Setup(sys.argv, check_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
