import asyncio

from emulator.faults import EventsFault, Faults
from emulator.observers import Inbox, Observers


def drain(inbox: Inbox) -> list[str | None]:
    """Return what is in an inbox."""
    return [inbox.get_nowait() for _ in range(inbox.qsize())]


async def test_who_comes_after_the_end_is_told_so() -> None:
    """A call can end while the socket of an observer is being opened."""
    observers = Observers(Faults())
    observers.watch()
    early = observers.add()
    observers.tell("response.done", "said")
    observers.end()
    late = observers.add()
    assert (drain(early), drain(late)) == (["said", None], [None])
    assert observers.snapshot()["observers"] == 0


async def test_the_longest_time_alone_counts() -> None:
    """From when the call is live, while nobody listens; what comes after the end does not."""
    observers = Observers(Faults())
    await asyncio.sleep(0.05)
    assert observers.snapshot() == {"observers": 0, "observers_most": 0, "unobserved_s": 0}
    observers.watch()
    first, second = observers.add(), observers.add()
    before = observers.snapshot()
    observers.remove(first)
    await asyncio.sleep(0.05)
    assert observers.snapshot() == before | {"observers": 1}
    observers.remove(second)
    observers.remove(second)
    await asyncio.sleep(0.05)
    observers.add()
    assert before["unobserved_s"] + 0.04 < observers.snapshot()["unobserved_s"]
    observers.end()
    before = observers.snapshot()
    await asyncio.sleep(0.05)
    assert observers.snapshot() == before


async def test_what_was_held_back_comes_with_the_end() -> None:
    """In the order in which it was said, and once."""
    observers = Observers(Faults({"events": EventsFault(late_s=600)}))
    inbox = observers.add()
    for text in ("one", "two"):
        observers.tell("response.done", text)
    observers.tell("response.created", "other")
    observers.end()
    assert drain(inbox) == ["other", "one", "two", None]
