import gc
import weakref
from collections.abc import Iterator

import pytest

from callkeeper.garbage import Tidier


class Knot:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_is_frozen() -> Iterator[None]:
    """Leave the collector as it was."""
    gc.unfreeze()
    gc.collect()
    yield
    gc.unfreeze()


def test_many_objects_are_left_alone_until_they_are_very_many() -> None:
    """What became garbage meanwhile goes with the full collection."""
    tidier = Tidier(few=1, many=2 * len(gc.get_objects()))
    old = weakref.ref(knot := Knot())
    tidier.tidy()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    del knot
    gc.collect()
    assert old() is not None
    kept = [Knot() for _ in range(frozen // 2)]
    tidier.tidy()
    assert old() is not None
    kept += [Knot() for _ in range(frozen)]
    tidier.tidy()
    assert old() is None
    assert kept[0].itself is kept[0]


def test_few_objects_are_pythons_own_business() -> None:
    """Nothing is done about them."""
    Tidier(few=2 * len(gc.get_objects())).tidy()
    assert gc.get_freeze_count() == 0


async def test_in_the_end_everything_is_as_before() -> None:
    """Nothing stays frozen."""
    tidier = Tidier(few=1)
    tidier.start()
    tidier.tidy()
    assert gc.get_freeze_count() > 0
    await tidier.stop()
    assert gc.get_freeze_count() == 0
