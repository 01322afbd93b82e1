"""Coverage-guided search for a description that breaks a promise; README.md says how to run it."""

import importlib
import random
import sys
from pathlib import Path
from typing import Any, Final

# It has no types, and wheels for few platforms: it is installed where fuzzing is done.
atheris: Any = importlib.import_module("atheris")

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["sdpfilter"]):
    from helpers.descriptions import ANSWERS, OFFERS
    from helpers.fuzzing import CHOICES, check_input, make_seeds
    from helpers.mutations import ODD_HEADS, ODD_LINES, ODD_SECTIONS

_LINES: Final = sorted(
    {line for data in (*OFFERS.values(), *ANSWERS.values()) for line in data.splitlines(True)}
    | {*ODD_LINES, *ODD_HEADS, *ODD_SECTIONS}
)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input: half of the time by the fuzzer's own ways, else by whole lines."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    choices, lines = data[:CHOICES], data[CHOICES:].splitlines(keepends=True) or [b""]
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
                choices = bytes(atheris.Mutate(choices, CHOICES))
    return (choices.ljust(CHOICES, b"\0") + b"".join(lines))[:max_size]


def main() -> None:
    """Run the fuzzer with libFuzzer's own options, or write the seeds into a folder."""
    if sys.argv[1:2] == ["--write-seeds"]:
        folder = Path(sys.argv[2])
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in make_seeds().items():
            (folder / name).write_bytes(data)
        return
    atheris.Setup(sys.argv, check_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
