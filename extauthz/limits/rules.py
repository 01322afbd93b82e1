"""Which counters a request takes: those of its key and of everyone that the key belongs to.

As in LiteLLM: each may allow so many requests in a minute, in all and for one model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from extauthz.keys.model import Limits, VirtualKey
from ringback.settings.supervision import OpenCallSettings

WINDOW_S: Final = 60
"""A window begins with the first request and ends after this many seconds, whatever comes."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that is counted and has a limit.

    Attributes:
        holder: Whose it is: ``key``, ``team``, ``member``, ``user``, ``organization``,
            ``project`` or ``deployment``.
        name: Tells it from all others; no two ids make the same one.
        limit: How many there may be.
        is_of_model: Whether only requests for one model count.
    """

    holder: str
    name: str
    limit: int
    is_of_model: bool = False


def rate_counters(key: VirtualKey, group: str, *names: str) -> tuple[Counter, ...]:
    """Return what a request counts for in a window of `WINDOW_S` seconds.

    Args:
        key: The caller's; the master key counts for nothing.
        group: The model group.
        names: Other names that the request used for it; the lowest limit of all of them counts.
    """
    found = []
    for holder, ids, limits in _holders(key):
        if limits.rpm is not None:
            found.append(Counter(holder, _join(holder, *ids), limits.rpm))
        of_model = [limits.model_rpm[name] for name in (group, *names) if name in limits.model_rpm]
        if of_model:
            name = _join(f"{holder}_model", *ids, group)
            found.append(Counter(holder, name, min(of_model), is_of_model=True))
    return tuple(found)


def parallel_counters(key: VirtualKey) -> tuple[Counter, ...]:
    """Return what a request counts for while it lasts (``max_parallel_requests``)."""
    return tuple(
        Counter(holder, _join(holder, *ids), limits.parallel)
        for holder, ids, limits in _holders(key)
        if limits.parallel is not None
    )


def open_call_counters(key: VirtualKey, settings: OpenCallSettings) -> tuple[Counter, ...]:
    """Return what a call counts for while it is open.

    That is ``max_parallel_requests``, and ``max_open_calls`` of key, team and user; where both
    limit the same holder, the lower limit counts.

    Args:
        key: Whose call it is; calls of the master key count for nothing.
        settings: What holds where a key says nothing of its own.
    """
    if key.is_master:
        return ()
    found = {counter.name: counter for counter in parallel_counters(key)}
    of_key = settings.key if key.max_open_calls is None else key.max_open_calls
    limits = (
        ("key", key.hash, of_key),
        ("team", key.team, settings.team),
        ("user", key.user, settings.user),
    )
    for holder, of, limit in limits:
        if of is None or limit is None:
            continue
        counter = Counter(holder, _join(holder, of), limit)
        known = found.get(counter.name, counter)
        found[counter.name] = min(known, counter, key=lambda each: each.limit)
    return tuple(found.values())


def deployment_counter(deployment: str, limit: int) -> Counter:
    """Return what a call counts for at its deployment while it is open."""
    return Counter("deployment", _join("deployment", deployment), limit)


def _holders(key: VirtualKey) -> Iterator[tuple[str, tuple[str, ...], Limits]]:
    if key.is_master:
        return
    yield "key", (key.hash,), key.limits
    if key.team_scope is not None:
        yield "team", (key.team_scope.id,), key.team_scope.limits
    if key.member is not None:
        # Its own id joins the two with a colon, which either of them may hold.
        yield "member", (key.user or "", key.team or ""), key.member.limits
    if key.user_scope is not None:
        yield "user", (key.user_scope.id,), key.user_scope.limits
    if key.organization is not None:
        yield "organization", (key.organization.id,), key.organization.limits
    if key.project is not None:
        yield "project", (key.project.id,), key.project.limits


def _join(*parts: str) -> str:
    return ":".join(quote(part, safe="") for part in parts)
