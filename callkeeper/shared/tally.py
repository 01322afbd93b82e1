"""What a call has used, counted by several observers. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from callkeeper.model import Tokens


@dataclass(slots=True)
class Tally:
    """What all replicas know that a call has used, and what only this one knows.

    The store adds up by the ids of usages, so that what two observers bring counts once; until it
    has answered, what this replica has heard is added to what it said last.

    Attributes:
        used: As the store said last.
        cost_microdollars: What that costs.
        waiting: What the store has not confirmed, by the id of the usage, with its cost.
    """

    used: Tokens = field(default_factory=Tokens)
    cost_microdollars: int = 0
    waiting: dict[str, tuple[Tokens, int]] = field(default_factory=dict)

    def add(self, usage_id: str, tokens: Tokens, cost_microdollars: int) -> None:
        """Take what this replica has heard."""
        self.waiting[usage_id] = (tokens, cost_microdollars)

    def confirm(self, usage_ids: Iterable[str], used: Tokens, cost_microdollars: int) -> None:
        """Take what the store says, in which some usages of this replica are contained.

        An answer that is older than one before, and so lower, changes nothing else.
        """
        for usage_id in usage_ids:
            self.waiting.pop(usage_id, None)
        if cost_microdollars >= self.cost_microdollars and _sum(used) >= _sum(self.used):
            self.used, self.cost_microdollars = used, cost_microdollars

    def total(self) -> tuple[Tokens, int]:
        """Return what the call has used for all that is known here, and what that costs."""
        used, cost = self.used, self.cost_microdollars
        for tokens, microdollars in self.waiting.values():
            used, cost = used + tokens, cost + microdollars
        return used, cost


def _sum(tokens: Tokens) -> float:
    return sum(
        (
            *(tokens.text_in, tokens.audio_in, tokens.image_in),
            *(tokens.cached_text_in, tokens.cached_audio_in, tokens.cached_image_in),
            *(tokens.text_out, tokens.audio_out, tokens.seconds),
        )
    )
