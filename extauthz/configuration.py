"""The configuration in force, and how a changed file takes its place without losing a request."""

import asyncio
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from extauthz.clusters import snapshot_of
from extauthz.deployments import Catalogue, Origin
from extauthz.discovery import ClusterDiscovery
from extauthz.errors import ConfigError
from extauthz.keyfile import KeyFileSource
from extauthz.keys import KeySource, KeySources, MasterKeySource
from extauthz.litellm import load_config
from extauthz.metrics import RELOADS
from ringback.logs import describe, get_logger
from ringback.secrets import Secret
from ringback.settings import Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """What decisions are made by; replaced as a whole.

    Attributes:
        catalogue: Models and deployments.
        keys: Where callers' keys are looked up.
        master_key: The one of the LiteLLM config, if any.
        files: What was read, to be watched.
    """

    catalogue: Catalogue
    keys: KeySources
    master_key: Secret | None
    files: tuple[Path, ...]


def load_configuration(settings: Settings) -> Configuration:
    """Read all files that the settings name.

    Raises:
        ConfigError: If any of them cannot be used; lists every mistake.
    """
    if settings.config_file is None:
        raise ConfigError(["There is no configuration. Name LiteLLM's file with --config FILE."])
    config = load_config(settings.config_file, os.environ)
    sources: list[KeySource] = []
    files = [settings.config_file]
    if config.master_key is not None:
        sources.append(MasterKeySource(config.master_key))
    if settings.keys_file is not None:
        sources.append(KeyFileSource(settings.keys_file))
        files.append(settings.keys_file)
    return Configuration(Catalogue(config), KeySources(*sources), config.master_key, tuple(files))


class ConfigurationKeeper:
    """Watches the files and replaces the configuration when they change.

    A file that cannot be used is refused with its reasons, and the old configuration stays. New
    clusters are announced before the first request uses them; old ones stay while requests that do
    may be in flight.

    Args:
        configuration: The one to begin with.
        settings: Which files, and how long to wait.
        discovery: Where clusters are announced.
    """

    def __init__(
        self, configuration: Configuration, settings: Settings, discovery: ClusterDiscovery
    ) -> None:
        self._current = configuration
        self._settings = settings
        self._discovery = discovery
        self._announced = set(configuration.catalogue.origins())
        self._watching: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._log = get_logger()

    @property
    def current(self) -> Configuration:
        """The configuration in force."""
        return self._current

    def start(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching."""
        tasks = [task for task in (self._watching, self._retiring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        # Folders, not files: editors and Kubernetes replace a file by renaming another one.
        folders = {path.resolve().parent for path in self._current.files}
        seen = _contents(self._current.files)
        async for _ in awatch(*folders, recursive=False, debounce=200, step=50):
            contents = _contents(self._current.files)
            if contents == seen:
                continue
            seen = contents
            if await self._reload():
                if self._retiring is not None:
                    self._retiring.cancel()
                self._retiring = asyncio.create_task(self._retire())

    async def _reload(self) -> bool:
        try:
            new = await asyncio.to_thread(load_configuration, self._settings)
        except ConfigError as error:
            RELOADS.labels("refused").inc()
            self._log.error("configuration_refused", problems=error.problems)
            return False
        except Exception as error:  # noqa: BLE001  the old configuration stays, whatever it is
            RELOADS.labels("refused").inc()
            self._log.error("configuration_refused", **describe(error))
            return False
        self._announced |= set(new.catalogue.origins())
        self._announce(self._announced)
        await asyncio.sleep(self._settings.reload.settle_s)
        self._current = new
        RELOADS.labels("taken_up").inc()
        self._log.info("configuration_changed", groups=len(new.catalogue.groups))
        return True

    async def _retire(self) -> None:
        await asyncio.sleep(self._settings.reload.drain_s)
        self._announced = set(self._current.catalogue.origins())
        self._announce(self._announced)

    def _announce(self, origins: Iterable[Origin]) -> None:
        self._discovery.publish(snapshot_of(origins, self._settings.upstream))


def _contents(files: Iterable[Path]) -> tuple[bytes, ...]:
    contents = []
    for path in files:
        content = b""
        with contextlib.suppress(OSError):
            content = path.read_bytes()
        contents.append(content)
    return tuple(contents)
