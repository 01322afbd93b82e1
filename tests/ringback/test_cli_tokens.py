import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from extauthz.revocations import Revocation, load_revocations, save_revocations
from helpers.valkey import ValkeyProcess
from ringback.cli import app


def run(*arguments: object) -> Result:
    """Run `ringback tokens`."""
    return CliRunner().invoke(app, ["tokens", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a list that does not exist yet."""
    return tmp_path / "revoked.yaml"


@pytest.mark.parametrize(
    ("option", "kind", "name"),
    [
        (["--token-id", "q3bX0k1m"], "token_id", "q3bX0k1m"),
        (["--alias", "web-team"], "key", "web-team"),
        (["--kid", "2026-11-29"], "kid", "2026-11-29"),
        (["--everything"], "everything", ""),
    ],
)
def test_revoke_list_restore(file: Path, option: list[str], kind: str, name: str) -> None:
    """What is revoked is in the list from now on, and can be taken back."""
    assert run("revoke", *option, "--file", file).exit_code == 0
    (entry,) = load_revocations(file)
    assert (entry.kind, entry.name) == (kind, name)
    assert 0 <= entry.at - time.time() + 30 <= 32
    assert kind in run("list", "--file", file).stdout
    again = run("revoke", *option, "--file", file)
    assert again.exit_code == 0
    assert len(load_revocations(file)) == 1
    assert run("restore", *option, "--file", file).exit_code == 0
    assert load_revocations(file) == ()
    assert run("restore", *option, "--file", file).exit_code == 2


def test_the_settings_name_the_list(file: Path, tmp_path: Path) -> None:
    """The file is the one of ringback.yaml."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text(json.dumps({"token": {"revoked_file": str(file)}}))
    assert run("revoke", "--everything", "--settings", settings).exit_code == 0
    assert [entry.kind for entry in load_revocations(file)] == ["everything"]


def test_the_list_may_be_in_the_store(tmp_path: Path) -> None:
    """With `token.revoked_in_store` entries go to Valkey; without an answer nothing is promised."""
    settings = tmp_path / "ringback.yaml"
    with ValkeyProcess() as valkey:
        store = {"url": valkey.url}
        content = {"token": {"revoked_in_store": True}, "store": store}
        settings.write_text(json.dumps(content))
        for token in ("a", "b"):
            assert run("revoke", "--token-id", token, "--settings", settings).exit_code == 0
        assert run("restore", "--token-id", "a", "--settings", settings).exit_code == 0
        assert run("list", "--settings", settings).stdout.count("token_id") == 1
    gone = run("revoke", "--token-id", "c", "--settings", settings)
    assert gone.exit_code == 2
    assert "the store cannot be asked" in gone.stderr
    assert "Revoked" not in gone.stdout


def test_entries_that_are_over_go(file: Path) -> None:
    """The list stays short: with a change, what no token can come back from is left out."""
    old = Revocation("token_id", "old", 1)
    save_revocations(file, [old, Revocation("kid", "old", 1)])
    run("revoke", "--token-id", "new", "--file", file)
    assert [(e.kind, e.name) for e in load_revocations(file)] == [
        ("kid", "old"),
        ("token_id", "new"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--token-id", "a", "--kid", "b"],
        ["--everything", "--alias", "web"],
        ["--token-id", "ek_eyJhbGciOiJkaXIi"],
        ["--alias", "sk-a-key-and-no-alias"],
    ],
)
def test_what_is_meant_must_be_clear(file: Path, options: list[str]) -> None:
    """One thing at a time, by its name and never by the credential itself, which is not shown."""
    result = run("revoke", *options, "--file", file)
    assert result.exit_code == 2
    assert "eyJ" not in result.output
    assert "sk-a-key" not in result.output
    assert not file.exists()


def test_there_must_be_a_place() -> None:
    """Without a list to write to nothing happens, and the message says what to give."""
    result = run("revoke", "--everything")
    assert result.exit_code == 2
    assert "--file" in result.output


def test_a_list_with_a_mistake_is_left_alone(file: Path) -> None:
    """A mistake that somebody has made by hand is named, not overwritten."""
    file.write_text("revoked: [x]")
    assert run("revoke", "--everything", "--file", file).exit_code == 2
    assert file.read_text() == "revoked: [x]"
