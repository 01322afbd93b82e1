"""What the calls of a replica have used, and what the store has not been told of it."""

from callkeeper.model import Tokens
from callkeeper.shared.store import CallStore
from callkeeper.shared.tally import Tally
from ringback.valkey import StoreUnavailableError


class Tallies:
    """Tells the store of usages.

    Args:
        store: Which counts each once.
    """

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._tallies: dict[str, Tally] = {}
        self._untold: set[str] = set()
        self._open: set[str] = set()

    def __getitem__(self, call: str) -> Tally:
        return self._tallies[call]

    def open(self, call: str, used: Tokens, cost_microdollars: int) -> Tally:
        """Begin to count for a call; what was heard of it before is not forgotten.

        Args:
            call: Its id.
            used: What the store says that it has used.
            cost_microdollars: What that costs.
        """
        self._open.add(call)
        tally = self._tallies.setdefault(call, Tally())
        tally.confirm((), used, cost_microdollars)
        return tally

    def add(self, call: str, usage_id: str, tokens: Tokens, cost_microdollars: int) -> None:
        """Count what was heard, if it is counted for the call."""
        if call in self._open:
            self._tallies[call].add(usage_id, tokens, cost_microdollars)
            self._untold.add(call)

    def tell_again(self, call: str) -> None:
        """Tell the store of a call that it had forgotten."""
        self._untold.add(call)

    def close(self, call: str) -> None:
        """Count no more for a call; what the store has not been told it still is."""
        self._open.discard(call)
        if call in self._tallies and not self._tallies[call].waiting:
            del self._tallies[call]

    async def tell(self) -> set[str]:
        """Tell the store what was heard; return the calls that it was told of.

        Raises:
            StoreUnavailableError: If it is away; then it is told later.
        """
        names, self._untold = self._untold & self._tallies.keys(), set()
        usages = [
            (name, usage, tokens, cost)
            for name in names
            for usage, (tokens, cost) in self._tallies[name].waiting.items()
        ]
        try:
            answers = await self._store.add(usages)
        except StoreUnavailableError:
            self._untold |= names
            raise
        for (name, usage, _, _), answer in zip(usages, answers, strict=True):
            if answer is not None:
                self._tallies[name].confirm([usage], *answer)
            elif name not in self._open:
                # Nobody will tell the store of the call again.
                self._tallies[name].waiting.pop(usage, None)
        for name in names - self._open:
            self.close(name)
        return names
