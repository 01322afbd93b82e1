from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from helpers.jwksets import sealing_key, write_set
from helpers.waiting import until
from ringback.jwkset import JwkSetKeeper
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer, token_sealer
from ringback.tokens.errors import KeyFileError, TokenError
from ringback.tokens.jwe import Sealer

NOW = 1_795_334_400
CLAIMS = {"iat": NOW, "exp": NOW + 60, "x": "y"}
OLD, NEW = sealing_key("old"), sealing_key("new")


class Kept:
    """A set in a file, what seals by it, and its keeper's log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_set(path, [OLD])
        settings = TokenSettings(jwk_set_file=path)
        self.tokens, self.handles = token_sealer(settings, {}), handle_sealer(settings, {})
        self.keeper = JwkSetKeeper(path, [self.tokens, self.handles], poll_s=0.02, missing_s=0.1)
        self.log: list[Any] = []

    async def change(self, *keys: dict[str, str]) -> None:
        """Write other keys, and wait until they have been looked at."""
        write_set(self.path, keys)
        await self.looked()

    async def looked(self) -> None:
        """Wait until a change has been looked at."""
        before = len(self.log)
        await until(lambda: len(self.log) > before)


@pytest_asyncio.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    """A set with one key, watched."""
    found = Kept(tmp_path / "set.json")
    with capture_logs() as log:
        found.log = log
        found.keeper.start()
        yield found
        await found.keeper.stop()


def opens(sealer: Sealer, sealed: str) -> bool:
    """Tell whether a text can be opened."""
    try:
        return sealer.open(sealed, NOW) == CLAIMS
    except TokenError:
        return False


async def test_keys_rotate_in_three_steps(kept: Kept) -> None:
    """A key is added, then seals, then the old one goes; what is sealed opens until then."""
    for sealer in (kept.tokens, kept.handles):
        assert opens(sealer, sealer.seal(CLAIMS, NOW))
    before = kept.tokens.seal(CLAIMS, NOW)
    replica = token_sealer(TokenSettings(jwk_set_file=kept.path), {})

    await kept.change(OLD, NEW)
    assert opens(replica, kept.tokens.seal(CLAIMS, NOW))
    await kept.change(NEW, OLD)
    after = kept.tokens.seal(CLAIMS, NOW)
    assert opens(kept.tokens, before)
    assert not opens(replica, after)
    await kept.change(NEW)
    assert opens(kept.tokens, after)
    assert not opens(kept.tokens, before)
    assert opens(kept.handles, kept.handles.seal(CLAIMS, NOW))
    assert [line["event"] for line in kept.log] == ["jwk_set_changed"] * 3
    assert kept.log[1]["seals"] == "new"
    assert kept.log[1]["opens"] == ["new", "old"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        # Realistic
        pytest.param("", "it is not JSON", id="empty"),
        pytest.param('{"keys": [', "it is not JSON", id="cut"),
        pytest.param('{"keys": []}', "at least one key", id="no-keys"),
        pytest.param(
            '{"keys": [{"kty": "oct", "kid": "old", "k": "c2hvcnQ"}]}', "256 bits", id="short"
        ),
    ],
)
async def test_a_bad_set_is_refused_and_the_old_one_stays(
    kept: Kept, content: str, problem: str
) -> None:
    """A set with a mistake is logged with its reason and without its keys; sealing goes on."""
    before = kept.tokens.seal(CLAIMS, NOW)
    kept.path.write_text(content)
    await kept.looked()
    (line,) = kept.log
    assert (line["event"], line["log_level"]) == ("jwk_set_refused", "error")
    assert any(problem in text for text in line["problems"])
    assert "c2hvcnQ" not in str(line)
    assert opens(kept.tokens, before)
    assert opens(kept.tokens, kept.tokens.seal(CLAIMS, NOW))
    await kept.change(NEW)
    assert not opens(kept.tokens, before)


async def test_a_set_that_is_gone_is_refused(kept: Kept) -> None:
    """A file that stays away is a mistake and no order to forget all keys."""
    kept.path.unlink()
    await kept.looked()
    assert kept.log[0]["event"] == "jwk_set_refused"
    assert opens(kept.tokens, kept.tokens.seal(CLAIMS, NOW))


async def test_a_key_keeps_its_name(kept: Kept) -> None:
    """Another key under a known kid is refused: what was sealed before would be lost."""
    await kept.change(sealing_key("old"), NEW)
    (line,) = kept.log
    assert line["problems"] == [
        "old: the key with this kid has changed: give a new key a kid of its own"
    ]
    assert opens(kept.tokens, kept.tokens.seal(CLAIMS, NOW))


async def test_a_set_that_changes_during_the_start_is_not_missed(tmp_path: Path) -> None:
    """What is written between the first look of the sealer and that of the keeper counts."""
    path = tmp_path / "set.json"
    write_set(path, [OLD])
    sealer = token_sealer(TokenSettings(jwk_set_file=path), {})
    before = sealer.seal(CLAIMS, NOW)
    write_set(path, [NEW])
    JwkSetKeeper(path, [sealer])
    assert not opens(sealer, before)


async def test_without_a_set_there_is_nothing_to_watch() -> None:
    """Keys that come from a secret need no keeper; with a set it must be usable at the start."""
    keeper = JwkSetKeeper(None, [])
    keeper.start()
    await keeper.stop()
    with pytest.raises(KeyFileError):
        JwkSetKeeper(Path("/nonexistent"), [])
