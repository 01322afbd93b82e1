from pathlib import Path
from typing import Final

import pytest

from helpers.fuzzing import check_input, make_seeds

CORPUS: Final = {
    path.name: path.read_bytes()
    for path in sorted((Path(__file__).parents[1] / "fuzz" / "corpus").iterdir())
}


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_what_the_fuzzer_kept(data: bytes) -> None:
    """Every input that the fuzzer found worth keeping still breaks no promise."""
    check_input(data)


@pytest.mark.parametrize("name", make_seeds())
def test_seeds(name: str) -> None:
    """What the fuzzer starts with breaks none either."""
    check_input(make_seeds()[name])


@pytest.mark.parametrize(
    "data",
    [
        # Pathological
        pytest.param(b"", id="empty"),
        pytest.param(bytes(40), id="no-offer"),
        pytest.param(bytes(40) + b"====\n", id="no-lines"),
    ],
)
def test_odd_inputs(data: bytes) -> None:
    """An input that is not whole is a refused offer."""
    check_input(data)
