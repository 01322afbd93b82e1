"""Coverage-guided search for bytes that a reader cannot stand; README.md says how to run it."""

import importlib
import sys
from pathlib import Path
from typing import Any

# It has no types, and wheels for few platforms: it is installed where fuzzing is done.
atheris: Any = importlib.import_module("atheris")

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(
    include=["extauthz", "ringback", "multipart", "joserfc"], enable_loader_override=False
):
    from helpers.fuzztargets import TARGETS


def main() -> None:
    """Run one target with libFuzzer's own options, beginning with its seeds."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    folder = next(Path(option) for option in options if not option.startswith("-"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
