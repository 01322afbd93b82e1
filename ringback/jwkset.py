"""Takes up changes of the JWK set of tokens and handles while running."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ringback.counters import JWK_SET_RELOADS
from ringback.filewatch import MISSING_S, POLL_S, fingerprint, watch
from ringback.logs import get_logger
from ringback.tokens.errors import KeyFileError
from ringback.tokens.jwe import Sealer
from ringback.tokens.keys import read_jwk_set

_CHANGED: Final = "the key with this kid has changed: give a new key a kid of its own"


class JwkSetKeeper:
    """Watches the file of the setting ``token.jwk_set_file``.

    A file that cannot be used is refused with its reasons, and the keys of before stay in force.

    Args:
        path: The file; without one there is nothing to watch.
        sealers: What seals by it.
        poll_s: Time between two looks.
        missing_s: How long the file may be away before that counts as a change.

    Raises:
        KeyFileError: If the file cannot be used.
    """

    def __init__(
        self,
        path: Path | None,
        sealers: Sequence[Sealer],
        *,
        poll_s: float = POLL_S,
        missing_s: float = MISSING_S,
    ) -> None:
        self._path = path
        self._sealers = sealers
        self._poll_s = poll_s
        self._missing_s = missing_s
        # Before it is read: a change in between is then taken up, and not lost.
        self._known = fingerprint([path] if path else [])
        self._keys: Mapping[str, bytes] = read_jwk_set(path) if path else {}
        if self._keys:
            self._hand_out()
        self._watching: asyncio.Task[None] | None = None
        self._log = get_logger()

    def start(self) -> None:
        """Begin to watch."""
        if self._path is not None:
            watching = watch(
                self._known,
                lambda: self._known,
                self._take_up,
                poll_s=self._poll_s,
                missing_s=self._missing_s,
            )
            self._watching = asyncio.create_task(watching)

    async def stop(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _take_up(self) -> None:
        try:
            keys = await asyncio.to_thread(self._read)
        except KeyFileError as error:
            JWK_SET_RELOADS.labels("refused").inc()
            self._log.error("jwk_set_refused", problems=list(error.problems))
            return
        self._keys = keys
        self._hand_out()
        JWK_SET_RELOADS.labels("taken_up").inc()
        self._log.info("jwk_set_changed", seals=next(iter(keys)), opens=sorted(keys))

    def _hand_out(self) -> None:
        for sealer in self._sealers:
            sealer.take_up(self._keys)

    def _read(self) -> Mapping[str, bytes]:
        assert self._path is not None  # noqa: S101  nobody watches otherwise
        keys = read_jwk_set(self._path)
        # One name for two keys: the replicas would not agree on which, and what was sealed before
        # would be lost without a word.
        changed = [kid for kid in keys if self._keys.get(kid, keys[kid]) != keys[kid]]
        if changed:
            raise KeyFileError(self._path, [f"{kid}: {_CHANGED}" for kid in changed])
        return keys
