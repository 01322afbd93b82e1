import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from extauthz.clusters import Snapshot, snapshot_of
from extauthz.configuration import Configuration, ConfigurationKeeper, load_configuration
from extauthz.deployments import Origin
from extauthz.discovery import ClusterDiscovery
from extauthz.errors import ConfigError
from extauthz.keys import KeyQuery, VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.authz import settings, write_config
from helpers.waiting import until
from ringback.secrets import Secret

POLL_S = 0.02
MISSING_S = 0.6
WEB = VirtualKey(hash_key(Secret("sk-web")), alias="web")
APP = VirtualKey(hash_key(Secret("sk-app")), alias="app")
MASTER = hash_key(Secret("sk-master-0123456789"))
OTHER_MASTER = hash_key(Secret("sk-other-0123456789"))


def entry(name: str, host: str = "one.example") -> dict[str, Any]:
    """Return an entry of model_list."""
    params = {"model": "openai/gpt-realtime", "api_key": "sk-up", "api_base": f"https://{host}"}
    return {"model_name": name, "litellm_params": params}


def master(key: str = "sk-master-0123456789") -> dict[str, Any]:
    """Return the section with the master key."""
    return {"general_settings": {"master_key": key}}


class Recorder(ClusterDiscovery):
    """A discovery service that remembers what it was told.

    Attributes:
        published: Snapshots in their order, each with the groups that were in force at the time.
    """

    def __init__(self) -> None:
        super().__init__(Snapshot("", ()))
        self.published: list[tuple[Snapshot, tuple[str, ...]]] = []
        self.keeper: ConfigurationKeeper | None = None

    def publish(self, snapshot: Snapshot) -> None:
        """Remember it."""
        assert self.keeper is not None
        self.published.append((snapshot, self.keeper.current.catalogue.groups))
        super().publish(snapshot)


class House:
    """Files, and a keeper that watches them."""

    def __init__(self, folder: Path, **reload: float) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.keys = folder / "keys.yaml"
        write_config(self.config, entry("voice"), **master())
        save_keys(self.keys, [WEB])
        times = {"settle_s": 0.05, "drain_s": 60.0} | reload
        self.settings = settings(config_file=self.config, keys_file=self.keys, reload=times)
        self.discovery = Recorder()
        self.keeper: ConfigurationKeeper

    def start(self) -> None:
        """Load the files and watch them."""
        self.keeper = ConfigurationKeeper(
            load_configuration(self.settings),
            self.settings,
            self.discovery,
            poll_s=POLL_S,
            missing_s=MISSING_S,
        )
        self.discovery.keeper = self.keeper
        self.keeper.start()

    @property
    def current(self) -> Configuration:
        """What is in force."""
        return self.keeper.current

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that are in force."""
        return self.current.catalogue.groups

    async def knows(self, key_hash: str) -> bool:
        """Tell whether a key is known."""
        return await self.current.keys.find(KeyQuery(key_hash)) is not None

    def clusters(self, *hosts: str) -> Snapshot:
        """Return the clusters of these hosts."""
        origins = [Origin("https", host, 443) for host in hosts]
        return snapshot_of(origins, self.settings.upstream)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Watch a config with one group and a key file with one key."""
    house = House(tmp_path)
    house.start()
    yield house
    await house.keeper.stop()


def reloads(file: str, result: str) -> float:
    """Return how many changes of a file ended so."""
    labels = {"file": file, "result": result}
    return REGISTRY.get_sample_value("ringback_config_reloads_total", labels) or 0


# --- Reading


async def test_the_files_are_read(house: House) -> None:
    """Models and master key come from the config, other keys from the key file."""
    assert house.groups == ("voice",)
    assert house.current.master_key == Secret("sk-master-0123456789")
    assert await house.knows(MASTER)
    assert await house.knows(WEB.hash)
    assert not await house.knows(APP.hash)
    assert set(house.current.files) == {house.config}
    assert set(house.current.key_files) == {house.keys}


async def test_the_key_file_may_be_absent(tmp_path: Path) -> None:
    """Without a key file there is the master key alone, and the config is watched all the same."""
    house = House(tmp_path)
    house.settings = settings(config_file=house.config, reload={"settle_s": 0.05})
    house.start()
    assert house.current.key_file is None
    assert house.current.key_files == {}
    assert not await house.knows(WEB.hash)
    write_config(house.config, entry("new"))
    await until(lambda: house.groups == ("new",))
    await house.keeper.stop()


def test_there_must_be_a_config() -> None:
    """Without a config there is nothing to serve; the message says what to do."""
    with pytest.raises(ConfigError) as refused:
        load_configuration(settings())
    assert refused.value.problems == [
        "There is no configuration. Name LiteLLM's file with --config FILE."
    ]


def test_the_mistakes_of_all_files_are_listed(tmp_path: Path) -> None:
    """One message names what is wrong with either file."""
    config, keys = tmp_path / "config.yaml", tmp_path / "keys.yaml"
    config.write_text("model_list: 5")
    keys.write_text("keys: 5")
    with pytest.raises(ConfigError) as refused:
        load_configuration(settings(config_file=config, keys_file=keys))
    text = str(refused.value)
    assert f"{config}: model_list" in text
    assert f"{keys}: keys" in text
    write_config(config, entry("voice"))
    with pytest.raises(ConfigError) as refused:
        load_configuration(settings(config_file=config, keys_file=keys))
    assert all(str(keys) in problem for problem in refused.value.problems)


# --- Changes of the config


async def test_a_change_takes_effect(house: House) -> None:
    """A changed config is in force soon after, its master key included; the log says so."""
    count = reloads("config", "taken_up")
    with capture_logs() as logs:
        write_config(house.config, entry("voice"), entry("new"), **master("sk-other-0123456789"))
        await until(lambda: house.groups == ("voice", "new"))
    assert await house.knows(OTHER_MASTER)
    assert not await house.knows(MASTER)
    assert await house.knows(WEB.hash)
    assert logs == [{"event": "config_changed", "log_level": "info", "groups": 2}]
    assert reloads("config", "taken_up") == count + 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("model_list: [", id="no-yaml"),
        pytest.param("", id="empty"),
        pytest.param("model_list:\n- model_name: voice\n", id="no-model"),
    ],
)
async def test_a_bad_change_is_refused(house: House, content: str) -> None:
    """A config that cannot be used changes nothing; the log has the reasons, once."""
    before = house.current
    count = reloads("config", "refused")
    with capture_logs() as logs:
        house.config.write_text(content)
        await until(lambda: logs)
        await asyncio.sleep(POLL_S * 8)
    (line,) = logs
    assert line["event"] == "config_refused"
    assert line["problems"]
    assert all(str(house.config) in problem for problem in line["problems"])
    assert reloads("config", "refused") == count + 1
    assert house.current is before
    assert house.discovery.published == []


async def test_a_mended_config_is_taken_up(house: House) -> None:
    """After a bad change the next good one counts."""
    with capture_logs() as logs:
        house.config.write_text("model_list: [")
        await until(lambda: logs)
    write_config(house.config, entry("mended"))
    await until(lambda: house.groups == ("mended",))


async def test_two_quick_changes_end_in_the_last(house: House) -> None:
    """A change that comes while another one is being taken up is not lost."""
    write_config(house.config, entry("first", "first.example"))
    await until(lambda: house.discovery.published)
    write_config(house.config, entry("second"))
    await until(lambda: house.groups == ("second",))
    write_config(house.config, entry("third"))
    write_config(house.config, entry("fourth"))
    await until(lambda: house.groups == ("fourth",))
    await asyncio.sleep(POLL_S * 8)
    assert house.groups == ("fourth",)


async def test_a_config_that_is_away_for_a_moment(house: House) -> None:
    """A file that vanishes and comes back makes no noise."""
    before = house.current
    content = house.config.read_bytes()
    with capture_logs() as logs:
        house.config.unlink()
        await asyncio.sleep(MISSING_S / 6)
        house.config.write_bytes(content)
        await asyncio.sleep(MISSING_S)
    assert logs == []
    assert house.current is before


async def test_a_config_that_stays_away(house: House) -> None:
    """A config that is gone is told once, and what it said stays in force until it returns."""
    with capture_logs() as logs:
        house.config.unlink()
        await until(lambda: logs)
        await asyncio.sleep(POLL_S * 8)
    assert [line["event"] for line in logs] == ["config_refused"]
    assert house.groups == ("voice",)
    write_config(house.config, entry("back"))
    await until(lambda: house.groups == ("back",))


async def test_included_files_are_watched(house: House) -> None:
    """A change of an included file counts, also of one that joined later in another folder."""
    other = house.folder / "sub" / "models.yaml"
    other.parent.mkdir()
    write_config(other, entry("included"))
    write_config(house.config, entry("voice"), include=["sub/models.yaml"])
    await until(lambda: house.groups == ("voice", "included"))
    write_config(other, entry("changed"))
    await until(lambda: house.groups == ("voice", "changed"))


async def test_a_missing_included_file_is_awaited(house: House) -> None:
    """A config that includes a file which is not there yet is taken up once it is."""
    with capture_logs() as logs:
        write_config(house.config, entry("voice"), include=["later.yaml"])
        await until(lambda: logs)
    write_config(house.folder / "later.yaml", entry("later"))
    await until(lambda: house.groups == ("voice", "later"))


async def test_kubernetes_swaps_a_link(tmp_path: Path) -> None:
    """Files of a mounted ConfigMap change all at once, when the link to their folder does."""
    volume = tmp_path / "volume"
    for version, group, key in (("..1", "voice", WEB), ("..2", "swapped", APP)):
        (volume / version).mkdir(parents=True)
        write_config(volume / version / "config.yaml", entry(group))
        save_keys(volume / version / "keys.yaml", [key])
    (volume / "..data").symlink_to("..1")
    house = House(tmp_path)
    for name in ("config.yaml", "keys.yaml"):
        (volume / name).symlink_to(f"..data/{name}")
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(volume / name)
    house.start()
    assert house.groups == ("voice",)
    (volume / "..data_tmp").symlink_to("..2")
    (volume / "..data_tmp").rename(volume / "..data")
    await until(lambda: house.groups == ("swapped",))
    assert await house.knows(APP.hash)
    assert not await house.knows(WEB.hash)
    await house.keeper.stop()


# --- Changes of the key file


async def test_a_changed_key_file_takes_effect(house: House) -> None:
    """A key that is removed is unknown at once and a new one known; the config is not read."""
    before = house.current
    count = reloads("keys", "taken_up")
    with capture_logs() as logs:
        save_keys(house.keys, [APP])
        await until(lambda: logs)
    assert logs == [{"event": "keys_changed", "log_level": "info"}]
    assert await house.knows(APP.hash)
    assert not await house.knows(WEB.hash)
    assert house.current is before
    assert reloads("keys", "taken_up") == count + 1


async def test_a_key_is_blocked_while_the_config_is_broken(house: House) -> None:
    """A config that cannot be used does not keep a blocked key open."""
    with capture_logs() as logs:
        house.config.write_text("model_list: [")
        await until(lambda: logs)
        save_keys(house.keys, [replace(WEB, blocked=True)])
        await until(lambda: len(logs) == 2)
    key = await house.current.keys.find(KeyQuery(WEB.hash))
    assert key is not None
    assert key.blocked


async def test_keys_are_taken_up_while_the_config_settles(tmp_path: Path) -> None:
    """Waiting for clusters holds up no key, and the new configuration has the new keys."""
    house = House(tmp_path, settle_s=1)
    house.start()
    write_config(house.config, entry("other"))
    await until(lambda: house.discovery.published)
    with capture_logs() as logs:
        save_keys(house.keys, [APP])
        await until(lambda: len(logs) == 2)
    assert [line["event"] for line in logs] == ["keys_changed", "config_changed"]
    assert await house.knows(APP.hash)
    assert not await house.knows(WEB.hash)
    await house.keeper.stop()


@pytest.mark.parametrize("content", ["", "keys: [", "keys:\n- hash: abc\n", "other: 1"])
async def test_a_bad_key_file_is_refused(house: House, content: str) -> None:
    """A key file that cannot be used takes no key away; the log has the reasons."""
    count = reloads("keys", "refused")
    with capture_logs() as logs:
        house.keys.write_text(content)
        await until(lambda: logs)
    (line,) = logs
    assert line["event"] == "keys_refused"
    assert all(str(house.keys) in problem for problem in line["problems"])
    assert await house.knows(WEB.hash)
    assert reloads("keys", "refused") == count + 1


async def test_a_key_file_that_is_away(house: House) -> None:
    """A key file that vanishes takes no key away, and makes no noise if it comes back soon."""
    content = house.keys.read_bytes()
    with capture_logs() as logs:
        house.keys.unlink()
        await asyncio.sleep(MISSING_S / 6)
        house.keys.write_bytes(content)
        await asyncio.sleep(MISSING_S)
        assert logs == []
        house.keys.unlink()
        await until(lambda: logs)
    assert [line["event"] for line in logs] == ["keys_refused"]
    assert await house.knows(WEB.hash)


# --- Clusters


async def test_clusters_come_before_and_go_after(tmp_path: Path) -> None:
    """New clusters are announced before their first request, old ones stay for a while."""
    house = House(tmp_path, settle_s=0.2, drain_s=0.3)
    house.start()
    write_config(house.config, entry("new", "two.example"))
    await until(lambda: house.discovery.published)
    both = house.clusters("one.example", "two.example")
    assert house.discovery.published == [(both, ("voice",))]
    await until(lambda: house.groups == ("new",))
    assert len(house.discovery.published) == 1
    await until(lambda: len(house.discovery.published) == 2)
    assert house.discovery.published[1] == (house.clusters("two.example"), ("new",))
    await house.keeper.stop()


async def test_no_cluster_goes_while_another_change_settles(tmp_path: Path) -> None:
    """The clusters of a new change stay announced, whenever those of an old one are due to go."""
    house = House(tmp_path, settle_s=0.6, drain_s=0.5)
    house.start()
    write_config(house.config, entry("second", "two.example"))
    await until(lambda: house.groups == ("second",))
    write_config(house.config, entry("third", "three.example"))
    await until(lambda: house.groups == ("third",))
    last, _ = house.discovery.published[-1]
    assert last == house.clusters("one.example", "two.example", "three.example")
    await until(lambda: house.discovery.published[-1][0] == house.clusters("three.example"))
    for snapshot, groups in house.discovery.published:
        host = {"voice": "one", "second": "two", "third": "three"}[groups[0]]
        (cluster,) = house.clusters(f"{host}.example").resources
        assert cluster in snapshot.resources
    await house.keeper.stop()


# --- Workers that are ahead or behind


def serves(group: str) -> Callable[[Configuration], bool]:
    """Return what tells whether a configuration has a group."""
    return lambda known: group in known.catalogue.groups


async def test_a_worker_that_is_behind_catches_up(tmp_path: Path) -> None:
    """What another worker knows already comes into force with the first request that needs it."""
    house = House(tmp_path, settle_s=60)
    house.start()
    write_config(house.config, entry("new", "two.example"))
    await until(lambda: house.discovery.published)
    assert house.keeper.knowing(serves("nowhere")) is house.current
    assert house.groups == ("voice",)
    with capture_logs() as logs:
        assert house.keeper.knowing(serves("new")) is house.current
    assert house.groups == ("new",)
    assert [line["event"] for line in logs] == ["config_changed"]
    await house.keeper.stop()


@pytest.mark.parametrize("drain_s", [0.6, 0.1], ids=["settles-first", "drains-first"])
async def test_a_worker_that_is_ahead_remembers(tmp_path: Path, drain_s: float) -> None:
    """What another worker still goes by is known for a moment, as long as it has its clusters."""
    house = House(tmp_path, settle_s=0.4, drain_s=drain_s)
    house.start()
    old = house.current
    write_config(house.config, entry("new", "two.example"))
    await until(lambda: house.groups == ("new",))
    assert house.keeper.knowing(serves("voice")) is old
    assert house.keeper.knowing(serves("new")) is house.current
    assert house.keeper.knowing(serves("nowhere")) is house.current
    await until(lambda: house.keeper.knowing(serves("voice")) is house.current)
    await house.keeper.stop()


async def test_a_change_is_taken_up_once(tmp_path: Path) -> None:
    """A worker that has caught up does not do so again when the time comes."""
    before = reloads("config", "taken_up")
    house = House(tmp_path, settle_s=0.2)
    house.start()
    write_config(house.config, entry("new"))
    await until(lambda: house.discovery.published)
    house.keeper.knowing(serves("new"))
    write_config(house.config, entry("newer"))
    await until(lambda: house.groups == ("newer",))
    assert reloads("config", "taken_up") == before + 2
    await house.keeper.stop()


async def test_nothing_is_left_after_stop(tmp_path: Path) -> None:
    """A keeper that stops ends all that it began, in whatever state it is."""
    before = len(asyncio.all_tasks())
    house = House(tmp_path, settle_s=0.01)
    house.start()
    await house.keeper.stop()
    house.start()
    write_config(house.config, entry("new"))
    await until(lambda: house.groups == ("new",))
    await house.keeper.stop()
    assert len(asyncio.all_tasks()) == before
