"""Counts requests in Valkey, for all workers and replicas together."""

from collections.abc import Sequence
from typing import Final

from extauthz.limits.rules import WINDOW_S, Counter
from extauthz.limits.stores import Exceeded
from ringback.valkey import Valkey

# KEYS: the counters. ARGV: milliseconds of a window, then the limit of each counter.
# A counter is a number that expires with its window. One that is full and would never expire was
# not made here, and gets a window.
_TAKE: Final = """
local window, full, longest = tonumber(ARGV[1]), 0, 0
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[i + 1]) then
    local left = redis.call('PTTL', key)
    if left < 0 then
      redis.call('PEXPIRE', key, window)
      left = window
    end
    if full == 0 or left > longest then full, longest = i, left end
  end
end
if full == 0 then
  for _, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, window) end
  end
end
return {full, longest}
"""


class ValkeyStore:
    """Counts in a fixed window from the first request on, in one round trip.

    All names share the hash tag ``{limits}``: a script touches the keys of one slot only.

    Args:
        valkey: Where to.
        window_s: Length of a window in seconds.
    """

    def __init__(self, valkey: Valkey, *, window_s: float = WINDOW_S) -> None:
        self._valkey = valkey
        self._window_ms = int(window_s * 1000)

    async def take(self, counters: Sequence[Counter]) -> Exceeded | None:
        """Count one request in all counters, or in none if any of them is full.

        Raises:
            StoreUnavailableError: If the server does not tell. It may have counted the request.
        """
        names = [self._valkey.name("{limits}", counter.name) for counter in counters]
        limits = [counter.limit for counter in counters]
        full, longest_ms = await self._valkey.run_script(_TAKE, names, [self._window_ms, *limits])
        return Exceeded(counters[full - 1], longest_ms / 1000) if full else None
