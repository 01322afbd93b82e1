"""The configuration in force, and how a changed file takes its place without losing a request."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from extauthz.catalogue import Catalogue
from extauthz.clusters import snapshot_of
from extauthz.deployments import Origin
from extauthz.discovery import ClusterDiscovery
from extauthz.egress import Egress
from extauthz.egressway import way_of
from extauthz.errors import ConfigError
from extauthz.generalsettings import NO_SETTINGS, GeneralSettings
from extauthz.keys import KeySources
from extauthz.keys.keyfile import KeyFileSource
from extauthz.keys.stores import KeyStores
from extauthz.litellm import config_files, load_config
from extauthz.metrics import RELOADS
from extauthz.routersettings import DEFAULT_ROUTER, RouterSettings
from extauthz.services import service_origins
from ringback.filewatch import MISSING_S, POLL_S, Fingerprint, fingerprint, watch
from ringback.logs import get_logger
from ringback.secretfiles import secret_files
from ringback.secrets import Secret
from ringback.settings import Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """What decisions are made by; replaced as a whole.

    Attributes:
        catalogue: Models and deployments.
        keys: Where callers' keys are looked up.
        master_key: The one of the LiteLLM config, if any.
        key_file: The key file among `keys`; its changes are taken up in place.
        files: What the LiteLLM config, first, the files that it includes and those that hold
            values of variables held just before they were read.
        key_files: The same of the key file; empty if there is none.
        general: Who may call, as the LiteLLM config says.
        services: Where services beside the providers listen.
        stores: What made `keys`, and makes those of the next configuration.
        router: How deployments are chosen, as the LiteLLM config says.
    """

    catalogue: Catalogue
    keys: KeySources
    master_key: Secret | None
    key_file: KeyFileSource | None
    files: Fingerprint
    key_files: Fingerprint
    general: GeneralSettings = NO_SETTINGS
    services: frozenset[Origin] = frozenset()
    stores: KeyStores | None = None
    router: RouterSettings = DEFAULT_ROUTER

    @property
    def origins(self) -> frozenset[Origin]:
        """Every origin that Envoy needs a cluster for."""
        return self.services | frozenset(self.catalogue.origins())


# Returns the configuration that knows a deployment, as `ConfigurationKeeper.knowing` does.
Knowing: TypeAlias = Callable[[Callable[[Configuration], bool]], Configuration]


def load_configuration(settings: Settings, stores: KeyStores | None = None) -> Configuration:
    """Read all files that the settings name.

    Args:
        settings: The settings.
        stores: Makes the key sources; started and stopped by the caller, so that one who looks no
            key up may leave them out.

    Raises:
        ConfigError: If any of them cannot be used; lists every mistake.
    """
    problems: list[str] = []
    key_file, key_files = None, fingerprint([settings.keys_file] if settings.keys_file else [])
    if settings.keys_file is not None:
        try:
            key_file = KeyFileSource(settings.keys_file)
        except ConfigError as error:
            problems += error.problems
    try:
        configuration = _load(settings, stores, key_file, key_files)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from error
    if problems:
        raise ConfigError(problems)
    return configuration


def _files_of(path: Path) -> list[Path]:
    """Return all that a configuration is read from, itself first."""
    return [*config_files(path), *secret_files(os.environ)]


def _load(
    settings: Settings,
    stores: KeyStores | None,
    key_file: KeyFileSource | None,
    key_files: Fingerprint,
) -> Configuration:
    if settings.config_file is None:
        raise ConfigError(["There is no configuration. Name LiteLLM's file with --config FILE."])
    path = settings.config_file
    stores = stores or KeyStores(settings, Egress(way_of(settings)))
    files = fingerprint(_files_of(path))
    config = load_config(path, os.environ)
    return Configuration(
        Catalogue(config),
        stores.sources(config, key_file),
        config.master_key,
        key_file,
        files,
        key_files,
        config.general,
        service_origins(settings, config),
        stores,
        config.router,
    )


class ConfigurationKeeper:
    """Watches the files and takes up their changes.

    A file that cannot be used is refused with its reasons, and what was read before stays in
    force. New clusters are announced before the first request uses them; old ones stay while
    requests that do may be in flight. The workers of a gateway take up a change one after another,
    and yet what one of them mints is good at all of them (`knowing`). The key file is watched
    apart: a key that is blocked there is blocked at once, whatever state the LiteLLM config is in.

    Args:
        configuration: The one to begin with.
        settings: How long to wait, and how upstreams are reached.
        discovery: Where clusters are announced.
        poll_s: Time between two looks at the files.
        missing_s: How long a file may be away before that counts as a change.
    """

    def __init__(
        self,
        configuration: Configuration,
        settings: Settings,
        discovery: ClusterDiscovery,
        *,
        poll_s: float = POLL_S,
        missing_s: float = MISSING_S,
    ) -> None:
        self._current = configuration
        # What is announced and comes into force next; what was in force until a moment ago.
        self._next: Configuration | None = None
        self._last: Configuration | None = None
        self._settings = settings
        self._discovery = discovery
        self._poll_s = poll_s
        self._missing_s = missing_s
        self._announced = set(configuration.origins)
        self._watching: list[asyncio.Task[None]] = []
        self._retiring: asyncio.Task[None] | None = None
        self._log = get_logger()

    @property
    def current(self) -> Configuration:
        """The configuration in force."""
        return self._current

    def knowing(self, knows: Callable[[Configuration], bool]) -> Configuration:
        """Return the configuration that knows a deployment, else the one in force.

        A worker that is ahead may have minted at a new deployment: one that is behind then goes
        by the new configuration from now on, whose clusters are announced. One that is behind may
        have minted at an old deployment: one that is ahead remembers it for ``reload.settle_s``.

        Args:
            knows: Tells whether a configuration does.
        """
        if knows(self._current):
            return self._current
        if self._next is not None and knows(self._next):
            self._put_in_force(self._next)
        elif self._last is not None and knows(self._last):
            return self._last
        return self._current

    def start(self) -> None:
        """Begin to watch."""
        path = next(iter(self._current.files))
        self._watch(self._current.files, lambda: _files_of(path), self._take_up_config)
        if (key_file := self._current.key_file) is not None:
            key_files = self._current.key_files
            self._watch(key_files, lambda: key_files, lambda: self._take_up_keys(key_file))

    async def stop(self) -> None:
        """Stop watching."""
        tasks = self._watching if self._retiring is None else [*self._watching, self._retiring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(
        self,
        known: Fingerprint,
        find_files: Callable[[], Iterable[Path]],
        take_up: Callable[[], Awaitable[None]],
    ) -> None:
        watching = watch(known, find_files, take_up, poll_s=self._poll_s, missing_s=self._missing_s)
        self._watching.append(asyncio.create_task(watching))

    async def _take_up_keys(self, key_file: KeyFileSource) -> None:
        try:
            await asyncio.to_thread(key_file.reload)
        except ConfigError as error:
            self._refuse("keys", error)
            return
        RELOADS.labels("keys", "taken_up").inc()
        self._log.info("keys_changed")

    async def _take_up_config(self) -> None:
        old = self._current
        try:
            new = await asyncio.to_thread(
                _load, self._settings, old.stores, old.key_file, old.key_files
            )
        except ConfigError as error:
            self._refuse("config", error)
            return
        # First of all: it would take back the clusters that are announced next.
        if self._retiring is not None:
            self._retiring.cancel()
        self._announce(self._announced | set(new.origins))
        self._next = new
        await asyncio.sleep(self._settings.reload.settle_s)
        if self._next is new:
            self._put_in_force(new)

    def _put_in_force(self, new: Configuration) -> None:
        self._last, self._current, self._next = self._current, new, None
        self._retiring = asyncio.create_task(self._retire())
        RELOADS.labels("config", "taken_up").inc()
        self._log.info("config_changed", groups=len(new.catalogue.groups))

    async def _retire(self) -> None:
        drain_s = self._settings.reload.drain_s
        settle_s = min(self._settings.reload.settle_s, drain_s)
        await asyncio.sleep(settle_s)
        self._last = None
        await asyncio.sleep(drain_s - settle_s)
        self._announce(set(self._current.origins))

    def _refuse(self, file: str, error: ConfigError) -> None:
        RELOADS.labels(file, "refused").inc()
        self._log.error(f"{file}_refused", problems=error.problems)

    def _announce(self, origins: set[Origin]) -> None:
        self._announced = origins
        self._discovery.publish(snapshot_of(origins, self._settings.upstream))
