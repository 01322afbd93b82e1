"""The key sources that the settings name, and those of them that outlive a configuration."""

from extauthz.egress import Egress
from extauthz.egressway import way_of
from extauthz.errors import ConfigError
from extauthz.keys.cache import CachedSource
from extauthz.keys.forgetchannel import ForgetChannel
from extauthz.keys.jwkscache import JwksCache
from extauthz.keys.litellmapi import LiteLLMSource
from extauthz.keys.memory import KeyMemory, Lifetimes
from extauthz.keys.oidc import OidcSource
from extauthz.keys.postgres import PostgresSource
from extauthz.keys.scopes import OwnersSource, ScopeQueries
from extauthz.keys.sources import KeySource, KeySources, MasterKeySource, RemoteSource
from extauthz.litellm import LiteLLMConfig
from extauthz.services import service_origins
from ringback.logs import get_logger
from ringback.postgresconnect import Database
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.settings.keysources import DEFAULT_KEY_TTL_S
from ringback.valkey import Valkey


class KeyStores:
    """Makes the sources of a configuration; those behind a connection are made once.

    Args:
        settings: Which sources there are, and their order.
        egress: How services are asked.
    """

    def __init__(self, settings: Settings, egress: Egress) -> None:
        self._settings = settings
        self._egress = egress
        self._remotes: dict[str, RemoteSource] = {}
        self._caches: list[CachedSource] = []
        self._is_open = False
        self._opened_url: Secret | None = None
        self._channel: ForgetChannel | None = None
        self._log = get_logger()

    def sources(self, config: LiteLLMConfig, key_file: KeySource | None) -> KeySources:
        """Return all sources: the master key first, then in the order of the settings.

        Args:
            config: With the master key. The database that the first one names is used to the end.
            key_file: The source ``file``, if there is one.

        Raises:
            ConfigError: If a source cannot be made of the settings.
        """
        if not self._is_open:
            self._open(config)
            self._is_open = True
        elif self._database_url(config) != self._opened_url:
            self._log.warning("database_url_not_taken_up", hint="restart to use the new one")
        lifetimes = self._lifetimes(config)
        for cache in self._caches:
            cache.lifetimes = lifetimes
        found: dict[str, KeySource] = {**self._remotes}
        if key_file is not None:
            found["file"] = key_file
        ordered = [found[name] for name in self._settings.key_sources if name in found]
        if config.master_key is not None:
            return KeySources(MasterKeySource(config.master_key), *ordered)
        return KeySources(*ordered)

    async def start(self) -> None:
        """Start the sources that are behind a connection."""
        for source in self._remotes.values():
            await source.start()
        if self._settings.store.url is not None and self._caches:
            # With a connection of its own, whatever the limits do with theirs.
            self._channel = ForgetChannel(Valkey(self._settings.store), self)
            self._channel.start()

    async def stop(self) -> None:
        """Stop them."""
        if self._channel is not None:
            await self._channel.stop()
        for source in self._remotes.values():
            await source.stop()

    def forget(self, key_hash: str) -> None:
        """Ask again for a key from now on."""
        for cache in self._caches:
            cache.forget(key_hash)

    def forget_all(self) -> None:
        """Ask again for every key from now on."""
        for cache in self._caches:
            cache.forget_all()

    def _open(self, config: LiteLLMConfig) -> None:
        """Make the sources that are configured, by their names in ``key_sources``."""
        settings, wanted = self._settings, self._settings.key_sources
        # Refuses URLs that the sources could not use.
        service_origins(settings, config)
        scopes: KeySource | None = None
        url = self._opened_url = self._database_url(config)
        if url is not None:
            database = PostgresSource(Database(settings.database, url))
            database.memory = self
            owners = self._cached("owners", OwnersSource(database), config)
            scopes = ScopeQueries(owners)
            # Nothing names the former in `key_sources`.
            self._remotes |= {
                "owners": owners,
                "database": self._cached("database", database, config),
            }
        if settings.litellm.url is not None and "litellm" in wanted:
            self._check_own_key()
            litellm = LiteLLMSource(settings.litellm, self._egress)
            self._remotes["litellm"] = self._cached("litellm", litellm, config)
        if settings.oidc.issuer is not None and "oidc" in wanted:
            jwks = JwksCache(settings.oidc, self._egress)
            self._remotes["oidc"] = OidcSource(settings.oidc, jwks, scopes)

    def _database_url(self, config: LiteLLMConfig) -> Secret | None:
        """Return where the source ``database`` looks keys up; None if there is no such source."""
        if "database" not in self._settings.key_sources:
            return None
        return self._settings.database.url or config.general.database_url

    def _cached(self, name: str, source: RemoteSource, config: LiteLLMConfig) -> CachedSource:
        limits = self._settings.key_cache
        memory = KeyMemory(limits.max_entries, limits.max_bytes)
        cache = CachedSource(name, source, memory, self._lifetimes(config))
        self._caches.append(cache)
        return cache

    def _lifetimes(self, config: LiteLLMConfig) -> Lifetimes:
        times = self._settings.key_cache
        ttl_s = next(
            (ttl for ttl in (times.ttl_s, config.general.cache_ttl_s) if ttl is not None),
            DEFAULT_KEY_TTL_S,
        )
        return Lifetimes(ttl_s, times.unknown_ttl_s, times.stale_s)

    def _check_own_key(self) -> None:
        if self._settings.litellm.own_key and self._settings.workers > 1:
            problem = (
                "litellm.own_key: needs workers: 1, since a token can be redeemed only at the "
                "worker that minted it; or set litellm.admin_key instead"
            )
            raise ConfigError([problem])


def open_sources(settings: Settings, config: LiteLLMConfig) -> KeySources:
    """Return the sources of settings and configuration but for the key file, started by nobody.

    Raises:
        StartError: If one of them cannot be made.
    """
    egress = Egress(way_of(settings))
    return KeyStores(settings, egress).sources(config, None)
