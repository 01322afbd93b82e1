"""Tells when files change, by looking at what they hold several times a second.

NOTE: No inotify. It needs a watch on every folder on the way through symbolic links (Kubernetes
swaps one in the middle), sees nothing on network and many bind mounts, and has a limit per user. A
few small files are read in 0.1 ms.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from ringback.logs import describe, get_logger

# The digest of each file; None if it cannot be read.
Fingerprint: TypeAlias = Mapping[Path, bytes | None]

POLL_S: Final = 0.25
# Editors and copy programs take files away for a moment.
MISSING_S: Final = 5.0


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """Return what the files hold now, in short."""
    return {file: _digest(file) for file in files}


async def watch(
    known: Fingerprint,
    find_files: Callable[[], Iterable[Path]],
    take_up: Callable[[], Awaitable[None]],
    *,
    poll_s: float = POLL_S,
    missing_s: float = MISSING_S,
) -> None:
    """Call `take_up` after every change, for ever, one call after the other.

    A change counts once nothing has changed for `poll_s`, so that nobody reads half a file; one
    that takes a file away, once it has been away for `missing_s`.

    Args:
        known: What the files held before they were read for the last time.
        find_files: Returns the files to look at; asked after each change, in a thread.
        take_up: Reads the files; may take as long as it wants, a change meanwhile is not lost.
        poll_s: Time between two looks.
        missing_s: How long a file may be away without a call.
    """
    candidate, since = known, time.monotonic()
    while True:
        await asyncio.sleep(poll_s)
        try:
            found = await asyncio.to_thread(fingerprint, known)
            if found != candidate:
                candidate, since = found, time.monotonic()
            elif found != known and not (
                _is_gone(found, known) and time.monotonic() - since < missing_s
            ):
                # Before they are read: what changes from now on is the next change.
                known = await asyncio.to_thread(lambda: fingerprint(find_files()))
                candidate = known
                await take_up()
        except Exception as error:  # noqa: BLE001  a watch that ends goes unnoticed for weeks
            get_logger().error("watch_failed", **describe(error))


def _is_gone(found: Fingerprint, known: Fingerprint) -> bool:
    return any(found[file] is None and digest is not None for file, digest in known.items())


def _digest(file: Path) -> bytes | None:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").digest()
    except (OSError, ValueError):
        return None
