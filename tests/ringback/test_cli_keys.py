import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from extauthz.keys import Limits, VirtualKey, hash_key
from extauthz.keys.keyfile import load_keys, save_keys
from ringback.calllimits import CallLimits
from ringback.cli import app
from ringback.cli.keys import parse_expires
from ringback.secrets import Secret

NOW = datetime(2026, 11, 22, 12, 30, 15, 999_999, tzinfo=UTC)


def run(*arguments: object) -> Result:
    """Run `ringback keys`."""
    return CliRunner().invoke(app, ["keys", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a key file that does not exist yet."""
    return tmp_path / "keys.yaml"


def test_create_prints_a_key_once(file: Path) -> None:
    """Standard output is the key alone; the file holds its hash and what was asked for."""
    result = run(
        *("create", "--file", file, "--alias", "web", "--models", "voice, chat"),
        *("--expires", "30d", "--team", "t", "--user", "u"),
        *("--rpm", 60, "--parallel", 5, "--open-calls", 3),
        *("--call-duration", 900, "--call-idle", 60, "--call-cost", 0.5),
    )
    assert result.exit_code == 0
    raw = result.stdout.strip()
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", raw)
    assert raw not in result.stderr
    assert raw not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = load_keys(file)
    assert key.expires is not None
    assert timedelta(days=29) < key.expires - datetime.now(UTC) <= timedelta(days=30)
    assert key == VirtualKey(
        hash_key(Secret(raw)),
        "web",
        ("voice", "chat"),
        key.expires,
        team="t",
        user="u",
        limits=Limits(60, 5),
        max_open_calls=3,
        call_limits=CallLimits(None, 900, 60, 500_000),
    )


def test_a_key_has_every_model_and_no_end_by_default(file: Path) -> None:
    """Only the alias is needed."""
    result = run("create", "--file", file, "--alias", "web")
    assert load_keys(file) == (VirtualKey(hash_key(Secret(result.stdout.strip())), "web"),)


def test_list_shows_no_key(file: Path) -> None:
    """The list shows names, rights and states, and of a hash only the end."""
    save_keys(
        file,
        [
            VirtualKey(
                "ab" * 32,
                "web",
                ("voice", "chat"),
                datetime(2999, 1, 1, tzinfo=UTC),
                sdp_policy="kiosk",
            ),
            VirtualKey("cd" * 32, "old", expires=datetime(2020, 1, 1, tzinfo=UTC), team="t"),
            VirtualKey("ef" * 32, "bad", blocked=True, user="u"),
        ],
    )
    result = run("list", "--file", file)
    assert result.stdout.splitlines() == [
        "ALIAS  HASH     STATUS   EXPIRES               MODELS      TEAM  USER  SDP POLICY",
        "web    ...abab  active   2999-01-01T00:00:00Z  voice,chat  -     -     kiosk",
        "old    ...cdcd  expired  2020-01-01T00:00:00Z  all         t     -     -",
        "bad    ...efef  blocked  never                 all         -     u     -",
    ]


def test_list_of_no_keys_is_a_header(file: Path) -> None:
    """An empty file is no mistake."""
    save_keys(file, [])
    header = "ALIAS  HASH  STATUS  EXPIRES  MODELS  TEAM  USER  SDP POLICY\n"
    assert run("list", "--file", file).stdout == header


def test_block_and_delete_change_one_key(file: Path) -> None:
    """Blocking and deleting leave the other keys as they are."""
    one, two, three = (VirtualKey(hash_ * 32, hash_) for hash_ in ("aa", "bb", "cc"))
    save_keys(file, [one, two, three])
    assert run("block", "--file", file, "--alias", "bb").stdout == "bb is blocked.\n"
    assert load_keys(file) == (one, VirtualKey("bb" * 32, "bb", blocked=True), three)
    assert run("delete", "--file", file, "--alias", "aa").stdout == "aa is deleted.\n"
    assert [key.alias for key in load_keys(file)] == ["bb", "cc"]


def test_the_file_may_be_a_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RINGBACK_KEYS_FILE names the file, as it does for the services."""
    monkeypatch.setenv("RINGBACK_KEYS_FILE", str(file))
    assert run("create", "--alias", "web").exit_code == 0
    assert file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ("create", "--alias", "web"),
            "Invalid value for --alias: a key of the file has this alias; choose another, or first "
            "`ringback keys delete` it\n",
            id="alias-taken",
        ),
        pytest.param(
            ("create", "--alias", " "),
            "Invalid value for --alias: expected a name for the key\n",
            id="alias-empty",
        ),
        pytest.param(
            ("create", "--alias", "b\nc"),
            "The configuration cannot be used:\n"
            "  keys.yaml: keys[1].alias: holds line breaks or other characters that cannot be "
            "shown; remove them\n",
            id="alias-that-could-not-be-read-back",
        ),
        pytest.param(
            ("block", "--alias", "nobody"),
            "Invalid value for --alias: no key of the file has this alias; see `ringback keys "
            "list`\n",
            id="block-unknown",
        ),
        pytest.param(
            ("delete", "--alias", "nobody"),
            "Invalid value for --alias: no key of the file has this alias; see `ringback keys "
            "list`\n",
            id="delete-unknown",
        ),
        pytest.param(
            ("create", "--alias", "b", "--expires", "soon"),
            "Invalid value for --expires: expected a duration such as 30d or 12h, or a date such "
            "as 2027-01-31\n",
            id="expires",
        ),
        pytest.param(
            ("list", "--file", "missing.yaml"),
            "The configuration cannot be used:\n"
            "  missing.yaml: cannot be read: No such file or directory\n",
            id="list-missing",
        ),
        pytest.param(
            ("block", "--file", "missing.yaml", "--alias", "web"),
            "The configuration cannot be used:\n"
            "  missing.yaml: cannot be read: No such file or directory\n",
            id="block-missing",
        ),
        pytest.param(
            ("create", "--file", "folder/keys.yaml", "--alias", "web"),
            "folder/keys.yaml: cannot be used: No such file or directory\n",
            id="no-folder",
        ),
    ],
)
def test_a_refusal_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    """A refused command says why on standard error, exits with 2 and leaves the file alone."""
    monkeypatch.chdir(file.parent)
    save_keys(file, [VirtualKey("ab" * 32, "web")])
    before = file.read_bytes()
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith(message)
    assert result.stdout == ""
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["keys.yaml"]


def test_keys_created_at_once_all_stay(file: Path) -> None:
    """Changes of the same file wait for each other."""
    program = (sys.executable, "-c", "from ringback.cli import main; main()", "keys", "create")

    def create(number: int) -> int:
        arguments = ("--file", str(file), "--alias", f"key{number}")
        return subprocess.run(
            [*program, *arguments], check=False, capture_output=True, timeout=60
        ).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(create, range(6))) == [0] * 6
    assert {key.alias for key in load_keys(file)} == {f"key{number}" for number in range(6)}


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        # Realistic
        ("30d", datetime(2026, 12, 22, 12, 30, 15, tzinfo=UTC)),
        ("12h", datetime(2026, 11, 23, 0, 30, 15, tzinfo=UTC)),
        ("2w", datetime(2026, 12, 6, 12, 30, 15, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 22, 14, 0, 15, tzinfo=UTC)),
        ("45s", datetime(2026, 11, 22, 12, 31, 0, tzinfo=UTC)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_expires_is_a_duration_or_a_date(text: str, expires: datetime) -> None:
    """A duration counts from now; a date means its first second in UTC."""
    assert parse_expires(text, NOW) == expires


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "expected a duration") for text in ("", "soon", "30", "d", "-1d", "1.5h", "1y")),
        *((text, "expected a duration") for text in ("1 d", "2027-02-30", "9" * 400 + "d")),
        *((text, "expected a time in the future") for text in ("0s", "2026-11-22", "2020-01-01")),
        ("9999-12-31T23:59:59-01:00", "expected a duration"),
    ],
)
def test_other_ends_are_refused(text: str, message: str) -> None:
    """What is no time, or not in the future, is a usage error."""
    with pytest.raises(typer.BadParameter, match=message):
        parse_expires(text, NOW)


def test_help_is_quick() -> None:
    """The command line alone imports nothing that takes long."""
    code = (
        "import sys, ringback.cli\n"
        "heavy = {'pydantic', 'yaml', 'grpc', 'httpx', 'aiohttp', 'joserfc', 'envoy_data_plane'}\n"
        "sys.exit(sorted(heavy & sys.modules.keys()) or None)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
