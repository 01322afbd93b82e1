"""Hangs up calls, however often that has to be tried."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from callkeeper import metrics
from callkeeper.backoff import wait_s
from callkeeper.egress import Egress
from callkeeper.errors import NotThereError, ReachError, UncontrollableError, UpstreamError
from callkeeper.kept import Kept, facts_of
from callkeeper.reach import Reach, Reaches
from ringback.logs import describe, get_logger

# A provider answers 404 for a call that its browser has not reached yet. So long after the answer
# one that was never attached may still come alive.
_MAY_COME_ALIVE_S: Final = 60.0
# No call lasts longer, whatever anybody does.
_GONE_AFTER_S: Final = 3900.0


async def hang_up(
    kept: Kept, egress: Egress, reaches: Reaches, on_absent: Callable[[], None]
) -> None:
    """Hang up until the provider confirms that the call has ended, or surely has by itself.

    Args:
        kept: The call.
        egress: Reaches its provider.
        reaches: Tells how.
        on_absent: Called whenever the provider knows no such call, which may yet come alive; then
            it is hung up within moments.
    """
    log = get_logger()
    tries, deadline = 0, kept.state.opened_at + _GONE_AFTER_S
    while time.monotonic() < deadline:
        try:
            await egress.hang_up(await reach_of(kept, reaches))
        except NotThereError:
            if kept.was_attached or is_too_old_to_begin(kept):
                return
            on_absent()
        except (UpstreamError, ReachError, UncontrollableError) as error:
            metrics.HANGUP_FAILURES.inc()
            log.warning("hangup_failed", reason=str(error), **facts_of(kept))
        except Exception as error:  # noqa: BLE001  whatever it is, the call must not be let go
            metrics.HANGUP_FAILURES.inc()
            # Not its text, which may quote anything.
            log.error("hangup_broke", **describe(error), **facts_of(kept))  # noqa: TRY400
        else:
            return
        await asyncio.sleep(wait_s(tries))
        tries += 1
    metrics.HANGUPS_GIVEN_UP.inc()
    log.error("hangup_given_up", **facts_of(kept))


async def reach_of(kept: Kept, reaches: Reaches) -> Reach:
    """Return how the provider of a call is reached; the last answer if there is no new one.

    Raises:
        ReachError: If there never was one.
        UncontrollableError: If there is no way.
    """
    try:
        kept.reach = await reaches.of(kept.handle, kept.sealed_key)
    except ReachError:
        if kept.reach is None:
            raise
    return kept.reach


def is_too_old_to_begin(kept: Kept) -> bool:
    """Tell whether a call that was never attached will never be."""
    return time.monotonic() - kept.state.opened_at > _MAY_COME_ALIVE_S
