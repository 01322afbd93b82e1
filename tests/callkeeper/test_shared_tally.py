from callkeeper.model import Tokens
from callkeeper.shared.tally import Tally

ONE, TWO = Tokens(text_in=1, seconds=0.5), Tokens(audio_out=2)


def test_what_was_heard_counts_at_once() -> None:
    """It is on top of what the store has said, until the store contains it."""
    tally = Tally()
    tally.add("resp_1", ONE, 10)
    tally.add("resp_2", TWO, 20)
    assert tally.total() == (ONE + TWO, 30)
    tally.confirm(["resp_1"], ONE, 10)
    assert tally.total() == (ONE + TWO, 30)
    assert tally.waiting.keys() == {"resp_2"}


def test_what_another_observer_has_told_counts_once() -> None:
    """The store's total has it, and what is waiting here is not in it."""
    tally = Tally()
    tally.add("resp_1", ONE, 10)
    # Somebody else has told the store of it, and of one that was not heard here.
    tally.confirm(["resp_1"], ONE + TWO, 30)
    assert tally.total() == (ONE + TWO, 30)
    tally.confirm((), ONE + TWO + TWO, 50)
    assert tally.total() == (ONE + TWO + TWO, 50)


def test_an_old_answer_takes_nothing_back() -> None:
    """Answers may overtake each other; a total only grows."""
    tally = Tally(ONE + TWO, 30)
    tally.confirm((), ONE, 10)
    assert tally.total() == (ONE + TWO, 30)
