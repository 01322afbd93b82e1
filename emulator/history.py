"""The items of a conversation, and the client events about them. Pure."""

from collections.abc import Callable
from typing import Any

from emulator import errors
from emulator.items import Item, count_item, parse_item, user_audio_item
from emulator.responses import Event
from emulator.usage import Ledger, Tokens, count_user_audio


class History:
    """What has been said so far, in order, and how many tokens it counts."""

    def __init__(self, make_id: Callable[[str], str]) -> None:
        self.ledger = Ledger()
        self._make_id = make_id
        self._items: dict[str, Item] = {}

    @property
    def last_id(self) -> str | None:
        """The id of the newest item."""
        return next(reversed(self._items), None)

    def put(self, item: Item) -> None:
        """Add or replace an item of the model's; its tokens are counted with its response."""
        self._items[item["id"]] = item

    def add_user_audio(self, item_id: str, length_ms: int) -> list[Event]:
        """Add what the input audio buffer held."""
        self.ledger.add(Tokens(audio=count_user_audio(length_ms)))
        return self._add(user_audio_item(item_id), self.last_id)

    def create(self, event: dict[str, Any]) -> list[Event]:
        """Handle ``conversation.item.create``."""
        item = parse_item(event.get("item"), self._make_id("item"))
        self.ledger.add(count_item(item))
        return self._add(item, event.get("previous_item_id") or self.last_id)

    def retrieve(self, event: dict[str, Any]) -> list[Event]:
        """Handle ``conversation.item.retrieve``."""
        return [{"type": "conversation.item.retrieved", "item": self._known(event)}]

    def delete(self, event: dict[str, Any]) -> list[Event]:
        """Handle ``conversation.item.delete``."""
        item_id = self._known(event)["id"]
        del self._items[item_id]
        return [{"type": "conversation.item.deleted", "item_id": item_id}]

    def truncate(self, event: dict[str, Any]) -> list[Event]:
        """Handle ``conversation.item.truncate``; the transcript stays, which nobody reads."""
        return [
            {
                "type": "conversation.item.truncated",
                "item_id": self._known(event)["id"],
                "content_index": event.get("content_index", 0),
                "audio_end_ms": event.get("audio_end_ms", 0),
            }
        ]

    def _add(self, item: Item, previous: str | None) -> list[Event]:
        self._items[item["id"]] = item
        place = {"previous_item_id": previous, "item": item}
        return [
            {"type": "conversation.item.added", **place},
            {"type": "conversation.item.done", **place},
        ]

    def _known(self, event: dict[str, Any]) -> Item:
        item_id = event.get("item_id")
        if item_id is None:
            raise errors.missing_parameter("item_id")
        item = self._items.get(item_id) if isinstance(item_id, str) else None
        if item is None:
            raise errors.invalid_value("item_id", "the id of an item of this conversation")
        return item
