"""Session descriptions of real peers; ``tests/data/sdp/README.md`` tells where each is from."""

from pathlib import Path
from typing import Final

_DIRECTORY: Final = Path(__file__).parents[1] / "data" / "sdp"

# The name of a file, without its suffix, to its bytes.
ANSWERS: Final = {path.stem: path.read_bytes() for path in sorted(_DIRECTORY.glob("answer_*.sdp"))}
OFFERS: Final = {path.stem: path.read_bytes() for path in sorted(_DIRECTORY.glob("offer_*.sdp"))}
