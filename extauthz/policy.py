"""Who may do what: pure rules over a key and a request."""

from datetime import datetime
from typing import Final

from extauthz.errors import (
    KeyBlockedError,
    KeyExpiredError,
    ModelDeniedError,
    UnknownKeyError,
)
from extauthz.keys.model import VirtualKey

# Entries of a key's model list that stand for every model.
ALL_MODELS: Final = frozenset({"*", "all-proxy-models"})


def check_key(key: VirtualKey | None, now: datetime) -> None:
    """Check that a key is known, not blocked and not expired, in this order.

    Args:
        key: What a `KeySource` found.
        now: The current time, with a time zone.

    Raises:
        UnknownKeyError: If there is no such key: 401.
        KeyBlockedError: If it is blocked: 401.
        KeyExpiredError: If its time is over; the second of ``expires`` is no longer valid: 401.
    """
    if key is None:
        raise UnknownKeyError
    if key.blocked:
        raise KeyBlockedError
    if key.expires is not None and now >= key.expires:
        raise KeyExpiredError(key.expires)


def check_model(key: VirtualKey, group: str, *aliases: str) -> None:
    """Check that a key may use a group.

    A group that no deployment serves is checked too, so that only keys that might use it learn
    that it does not exist.

    Args:
        key: A key that has passed `check_key`.
        group: The group, or the requested name if it resolves to none.
        aliases: The name that the request used, if another: a list that names either admits it.

    Raises:
        ModelDeniedError: If the key's list names none of them: 403.
    """
    if key.is_master or not key.models:
        return
    admitted = {*ALL_MODELS, group, *aliases}
    if admitted.isdisjoint(key.models):
        raise ModelDeniedError
