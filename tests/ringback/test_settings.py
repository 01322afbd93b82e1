import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ringback.errors import StartError
from ringback.secrets import Secret
from ringback.settings import Settings, SettingsError, check_origin_pattern, load_settings

PASSWORD = "hunter2-and-more-of-it"
NO_SETTING = "there is no such setting; docs/configuration.md lists them"
BAD_ORIGIN = (
    "an origin is scheme://host[:port] in lower case without a path or a default port, for example "
    "https://app.example.com; * stands for any port, or for one label of the host other than the "
    "last"
)

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load settings from a file's text and from variables, and from nothing else."""
    for name in os.environ:
        if name.upper().startswith("RINGBACK_"):
            monkeypatch.delenv(name)

    def load(
        text: str | bytes | None = None, variables: Mapping[str, str] | None = None
    ) -> Settings:
        with monkeypatch.context() as patch:
            for name, value in (variables or {}).items():
                patch.setenv(name, value)
            if text is None:
                return load_settings()
            path = tmp_path / "ringback.yaml"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return load_settings(path)

    return load


def problems_of(load: Load, text: str | bytes | None, variables: Mapping[str, str]) -> list[str]:
    """Return what is wrong, and check that no error shows the password."""
    with pytest.raises(SettingsError) as caught:
        load(text, variables)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert PASSWORD not in shown
    return caught.value.problems


def test_without_file_and_variables_the_defaults_are_for_production(load: Load) -> None:
    """Nothing set means: production, no demo page, browsers on this machine only."""
    defaults = load()
    assert defaults.mode == "production"
    assert not defaults.playground
    assert defaults.cors_origins == ["http://localhost:*", "http://127.0.0.1:*"]
    assert defaults.token.secret is None
    assert load("") == load("# a comment\n") == defaults


def test_the_file_is_read(load: Load) -> None:
    """The keys of the file are the names of the settings."""
    loaded = load(
        "mode: development\n"
        "config_file: litellm.yaml\n"
        "cors_origins: [https://app.example.com]\n"
        f"token:\n  secret: {PASSWORD}\n  max_lifetime_s: 600\n"
    )
    assert loaded.mode == "development"
    assert loaded.config_file == Path("litellm.yaml")
    assert loaded.cors_origins == ["https://app.example.com"]
    assert loaded.token.secret == Secret(PASSWORD)
    assert loaded.token.max_lifetime_s == 600


def test_variables_beat_the_file(load: Load) -> None:
    """A variable wins over the file, one name at a time, in sections too."""
    loaded = load(
        "workers: 3\nlog_level: error\ntoken:\n  leeway_s: 1\n  max_lifetime_s: 600\n",
        {
            "RINGBACK_WORKERS": "5",
            "RINGBACK_TOKEN__LEEWAY_S": "9",
            "RINGBACK_TOKEN__SECRET": "1234567890123456",
            "RINGBACK_CORS_ORIGINS": '["https://app.example.com"]',
            "RINGBACK_RELOAD": '{"drain_s": 7}',
            "ringback_playground": "true",
        },
    )
    assert loaded.workers == 5
    assert loaded.log_level == "error"
    assert (loaded.token.leeway_s, loaded.token.max_lifetime_s) == (9, 600)
    assert loaded.token.secret == Secret("1234567890123456")
    assert loaded.cors_origins == ["https://app.example.com"]
    assert loaded.reload.drain_s == 7
    assert loaded.playground


def test_every_mistake_is_listed_at_once(load: Load) -> None:
    """One error names each unknown and each wrong setting of file and variables, once."""
    variables = {
        "RINGBACK_WORKER": "2",
        "ringback_wrkers": "2",
        "RINGBACK_TOKEN__SECRT": PASSWORD,
        "RINGBACK_TOKEN__LEEWAY_S": "61",
        "RINGBACK_CORS_ORIGINS": "https://app.example.com",
        "RINGBACK_RELOAD": PASSWORD,
    }
    text = "workers: many\nmod: x\n_env_prefix: X\nupstream:\n  ca_file: 3\n  egres: x\n"
    assert problems_of(load, text, variables) == [
        f"RINGBACK_TOKEN__SECRT: {NO_SETTING}",
        f"RINGBACK_WORKER: {NO_SETTING}",
        f"_env_prefix: {NO_SETTING}",
        f"ringback_wrkers: {NO_SETTING}",
        "cors_origins: expected a list, or JSON in a variable",
        "workers: Input should be a valid integer, unable to parse string as an integer",
        "token.leeway_s: Input should be less than or equal to 60",
        "upstream.ca_file: expected a path",
        f"upstream.egres: {NO_SETTING}",
        "reload: expected settings as `name: value` lines, or JSON in a variable",
        f"mod: {NO_SETTING}",
    ]


def test_the_error_reads_as_a_list(load: Load) -> None:
    """The text goes to the terminal as it is, one line for each problem."""
    with pytest.raises(StartError) as caught:
        load("a: 1\nb: 2\n")
    assert str(caught.value) == (
        f"These settings cannot be used:\n  a: {NO_SETTING}\n  b: {NO_SETTING}"
    )


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("RINGBACK_TOKEN_SECRET", f"RINGBACK_TOKEN_SECRET: {NO_SETTING}"),
        ("RINGBACK_", f"RINGBACK_: {NO_SETTING}"),
        ("RINGBACK_TOKEN__", f"RINGBACK_TOKEN__: {NO_SETTING}"),
        ("RINGBACK_WORKERS__X", f"RINGBACK_WORKERS__X: {NO_SETTING}"),
        ("RINGBACK_TOKEN__SECRET__X", f"RINGBACK_TOKEN__SECRET__X: {NO_SETTING}"),
    ],
)
def test_a_variable_of_ours_that_names_nothing_is_a_mistake(
    load: Load, variable: str, problem: str
) -> None:
    """A misspelt variable stops the start instead of leaving a default in force."""
    assert problem in problems_of(load, None, {variable: PASSWORD})


def test_variables_of_others_are_none_of_ours(load: Load) -> None:
    """Only names with our prefix are looked at."""
    load(None, {"RINGBACK": "x", "RINGBACKUP_X": "x", "MY_RINGBACK_X": "x"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # Realistic
        pytest.param(f"token:\n  secret: [{PASSWORD}]\n", "token.secret: expected text", id="list"),
        pytest.param("token:\n  secret: 12345678\n", "token.secret: expected text", id="number"),
        pytest.param(f"token: {PASSWORD}\n", "token: expected settings", id="no-section"),
        pytest.param("- a\n", "{path}: expected settings", id="a-list"),
        pytest.param(f"1: {PASSWORD}\n", "{path}: expected settings", id="number-as-name"),
        pytest.param(f"token:\n  secret: *{PASSWORD}\n", "{path}: line 2: not YAML", id="alias"),
        pytest.param(f"token:\n  secret: !{PASSWORD} x\n", "{path}: line 2: not YAML", id="tag"),
        pytest.param(f"token:\n  secret: @{PASSWORD}\n", "{path}: line 2: not YAML", id="at-sign"),
        pytest.param(f"\ntoken: secret: {PASSWORD}\n", "{path}: line 2: not YAML", id="two-colons"),
        pytest.param(f"token: '{PASSWORD}\n", "{path}: line 2: not YAML", id="open-quote"),
        # Pathological
        pytest.param(f"secret: {PASSWORD}\x01\n", "{path}: not YAML", id="control-character"),
        pytest.param("log_level: 2024-13-45\n", "{path}: not YAML", id="impossible-date"),
        pytest.param("[" * 5000, "{path}: not YAML", id="bottomless"),
        pytest.param(b"\xff\xfe\xff", "{path}: cannot be read: it is not UTF-8", id="not-utf8"),
    ],
)
def test_a_mistake_in_the_file_is_found_without_showing_a_secret(
    load: Load, tmp_path: Path, text: str | bytes, problem: str
) -> None:
    """The message names setting or line; neither it nor the traceback quotes the file."""
    (found,) = problems_of(load, text, {})
    assert found.startswith(problem.format(path=tmp_path / "ringback.yaml"))


def test_a_missing_file_is_named(load: Load, tmp_path: Path) -> None:
    """A file that cannot be read is named with the cause."""
    load()
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "none.yaml")
    assert caught.value.problems == [
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    ]


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_gives_settings_or_a_settings_error(load: Load, text: str) -> None:
    """Whatever is in the file, the start stops with a list of problems and no traceback."""
    try:
        load(text.encode("utf-8", "surrogatepass"))
    except SettingsError as error:
        assert error.problems  # noqa: PT017  both outcomes are right


def test_open_calls_are_limited_only_where_somebody_counts_them(load: Load) -> None:
    """A limit without supervision is a mistake, and so is one that each worker counts by itself."""
    with pytest.raises(SettingsError, match="max_open_calls needs a mode"):
        load("supervision: {max_open_calls: {key: 3}}")
    several = "mode: required, callkeeper: ['unix:/a', 'unix:/b'], max_open_calls: {key: 3}"
    with pytest.raises(SettingsError, match="max_open_calls needs store: valkey"):
        load(f"supervision: {{{several}}}")
    assert load(f"supervision: {{{several}, store: valkey}}").supervision.store == "valkey"
    settings = load("supervision: {mode: best_effort, max_open_calls: {key: 3}}")
    assert settings.supervision.max_open_calls.key == 3


def test_replicas_need_a_store_and_the_time_to_take_calls_over(load: Load) -> None:
    """A second observer that nobody knows of is a mistake, and so are calls that end before."""
    with pytest.raises(SettingsError, match="observers needs store: valkey"):
        load("supervision: {observers: 2}")
    with pytest.raises(SettingsError, match="unattached_s has to be longer than lease_s"):
        load("supervision: {store: valkey, lease_s: 20}")
    settings = load("supervision: {store: valkey, observers: 2, lease_s: 19}")
    assert settings.supervision.observers == 2


def test_settings_show_no_secret(load: Load) -> None:
    """The repr and the dump of settings hide the token secret; wrong values are hidden too."""
    loaded = load(f"token:\n  secret: {PASSWORD}\n")
    assert PASSWORD not in repr(loaded) + str(loaded) + loaded.model_dump_json()
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"token": {"secret": [PASSWORD]}})
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "0"),
        ("workers", "65"),
        ("token__max_lifetime_s", "7201"),
        ("token__max_lifetime_s", "9"),
        ("token__leeway_s", "-1"),
        ("upstream__connect_timeout_s", "0"),
        ("upstream__mint_timeout_s", "14.5"),
        ("reload__drain_s", "inf"),
        ("reload__settle_s", "nan"),
        ("mode", "prod"),
        ("log_level", "trace"),
    ],
)
def test_values_out_of_range_are_refused(load: Load, name: str, value: str) -> None:
    """Each number has limits within which the gateway works; each choice a list."""
    (problem,) = problems_of(load, None, {f"RINGBACK_{name.upper()}": value})
    assert problem.startswith(f"{name.replace('__', '.')}: Input should be ")


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://app.example.com:8443",
        "https://*.example.com",
        "https://*.eu.example.com",
        "https://pr-1.example.com",
        "http://localhost",
        "http://localhost:*",
        "http://127.0.0.1:3000",
        "http://[::1]:*",
        "https://xn--bcher-kva.example",
    ],
)
def test_an_origin_pattern_is_an_origin_or_has_wildcards_for_parts(origin: str) -> None:
    """``*`` may stand for the port and for whole labels of the host, except the last."""
    assert check_origin_pattern(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        # Realistic
        pytest.param("*", id="everything"),
        pytest.param("https://app.example.com/", id="slash"),
        pytest.param("https://app.example.com/page", id="path"),
        pytest.param("app.example.com", id="no-scheme"),
        pytest.param("https://App.example.com", id="capital"),
        pytest.param("https://app.example.com:443", id="default-port"),
        pytest.param("http://localhost:80", id="plain-default-port"),
        pytest.param("https://bücher.example", id="not-ascii"),
        pytest.param("null", id="null"),
        # Synthetic
        pytest.param("https://*", id="any-host"),
        pytest.param("https://app.*", id="any-top-level-domain"),
        pytest.param("https://*app.example.com", id="part-of-a-label"),
        pytest.param("*://app.example.com", id="any-scheme"),
        pytest.param("https://app.example.com:x", id="port-of-letters"),
        pytest.param("https://app.example.com:*:*", id="two-ports"),
        pytest.param("https://a,https://b", id="two-origins"),
        pytest.param("https://user@app.example.com", id="user"),
        # Pathological
        pytest.param("https://app.example.com\n", id="line-break"),
        pytest.param("https://", id="no-host"),
        pytest.param("https://:8080", id="port-only"),
        pytest.param("https://a..b", id="empty-label"),
        pytest.param("https://-a.example", id="leading-hyphen"),
        pytest.param("https://a\\.example", id="backslash"),
        pytest.param("https://.*", id="regular-expression"),
    ],
)
def test_what_no_browser_sends_is_no_origin_pattern(load: Load, origin: str) -> None:
    """An entry that could never match, or would match strangers, is refused by its position."""
    text = f"cors_origins:\n  - https://app.example.com\n  - {origin!r}\n"
    if "\n" in origin or "\\" in origin:
        text = text.replace("'", '"')
    assert problems_of(load, text, {}) == [f"cors_origins.1: {BAD_ORIGIN}"]
