import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from extauthz.access.explain import Step, explain
from extauthz.configuration import Configuration, load_configuration
from extauthz.egress import Egress
from extauthz.keys import Limits, VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from extauthz.keys.stores import KeyStores
from helpers.budgetcases import BUDGET_CASES, LIMIT_CASES
from helpers.gatewayfiles import MASTER_KEY
from helpers.identitycases import IDENTITY_CASES
from helpers.litellmstandin import ADMIN_KEY, LiteLLMStandIn
from helpers.modelcases import MODEL_CASES
from helpers.openid import claims, oidc_settings, public_jwk, publish, sign
from helpers.postgres import PostgresServer
from helpers.recording import RecordingUpstream
from helpers.rulecases import MINT, Case, bearer_of
from ringback.cli import app, whoami
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.settings.keysources import LiteLLMSettings
from ringback.settings.sections import UpstreamSettings

KEY = "sk-marker-of-a-caller"
MODELS = [
    {
        "model_name": name,
        "litellm_params": {"model": f"openai/{upstream}", "api_key": "sk-marker-openai"},
        "model_info": {"mode": "realtime", "id": f"{name}-{upstream}", **info},
    }
    for name, upstream, info in (
        ("voice", "rt-a", {"access_groups": ["grp-a"]}),
        ("voice", "rt-b", {"access_groups": ["grp-b"], "id": "dep-b"}),
        ("chat", "rt-chat", {}),
        ("gpt-4.1-voice", "rt-dot", {}),
        ("free", "rt-free", {"input_cost_per_token": 0, "output_cost_per_token": 0}),
        ("house", "rt-house", {"team_id": "t-house"}),
        ("openai/*", "*", {}),
    )
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a configuration, and without variables of the outside."""
    for name in os.environ:
        if name.startswith(("RINGBACK_", "LITELLM_", "OPENAI_", "DATABASE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path)
    save_keys(
        tmp_path / "keys.yaml",
        [VirtualKey(hash_key(Secret(KEY)), "web", ("voice",), limits=Limits(rpm=5))],
    )
    (tmp_path / "ringback.yaml").write_text("config_file: config.yaml\nkeys_file: keys.yaml")
    return tmp_path


def write_config(folder: Path, database_url: str | None = None) -> Path:
    """Write LiteLLM's configuration and return its path."""
    general = {"master_key": MASTER_KEY, "database_url": database_url}
    content = {
        "model_list": MODELS,
        "router_settings": {"model_group_alias": {"fast": "voice"}},
        "general_settings": {name: value for name, value in general.items() if value},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content))
    return path


def run(*arguments: str, key: str = KEY) -> Result:
    """Run `ringback whoami` with a key on stdin."""
    command = ["whoami", "--settings", "ringback.yaml", *arguments]
    return CliRunner().invoke(app, command, input=f"{key}\n")


def test_admitted() -> None:
    """Exit code 0, and every rule with what it says; the key is not repeated."""
    result = run("--stdin", "--model", "voice")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == """\
RULE         SAYS     WHY
source       skipped  not known to the LiteLLM configuration
source       ok       found in the key file, web
key          ok       not blocked; never expires
route        ok       every path
owners       ok       belongs to nobody
model        ok       voice is group voice; lists: key voice
budgets      ok       none
deployments  ok       voice-rt-a at https://api.openai.com, dep-b at https://api.openai.com
limits       ok       key 5 per minute

A request would be admitted.
"""
    )


def test_refused() -> None:
    """Exit code 1, and the answer that a request would get."""
    result = run("--stdin", "--model", "chat")
    assert result.exit_code == 1
    assert result.stdout.endswith("\nA request would get 403 model_denied.\n")
    assert "Refused by the list of the key: key voice" in result.stdout


@pytest.mark.parametrize(
    ("key", "code"),
    [(MASTER_KEY, 0), ("sk-unknown", 1), ("x.y.z", 1), ("\x00\u20ac", 1)],
    ids=["master", "unknown", "no-jwt", "odd"],
)
def test_other_keys(key: str, code: int) -> None:
    """The master key may everything; what nobody knows is refused, whatever it looks like."""
    result = run("--stdin", "--model", "voice", key=key)
    assert result.exit_code == code
    assert ("key_unknown" in result.stdout) == bool(code)
    assert not key or key not in result.output


def test_bytes_that_are_no_text() -> None:
    """What is not UTF-8 is a key that nobody knows."""
    command = ["whoami", "--settings", "ringback.yaml", "--stdin"]
    result = CliRunner().invoke(app, command, input=b"sk-\xff\xfe\n")
    assert (result.exit_code, "key_unknown" in result.stdout) == (1, True)


@pytest.mark.parametrize("line", ["", "\n"], ids=["nothing", "empty-line"])
def test_no_key(line: str) -> None:
    """Nothing on stdin is no key that is refused: exit code 2, and no report."""
    command = ["whoami", "--settings", "ringback.yaml", "--stdin"]
    result = CliRunner().invoke(app, command, input=line)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No key was given" in result.stderr


def test_prompt() -> None:
    """At a terminal it asks, and shows nothing of what is typed."""
    ringback = str(Path(sys.executable).with_name("ringback"))
    command = [ringback, "whoami", "--settings", "ringback.yaml", "--model", "voice"]
    at_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) != 0)"
    with subprocess.Popen(
        [sys.executable, "-c", at_terminal, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # The blank comes once nothing is shown any more; what was typed before is thrown away.
        asked = process.stdout.read(len("Key: "))
        process.stdin.write(f"{KEY}\n".encode())
        process.stdin.flush()
        rest = process.stdout.read()
    assert (process.returncode, asked) == (0, b"Key: ")
    assert rest.split()[0] == b"RULE"
    assert KEY.encode() not in rest


def test_a_pipe_is_read() -> None:
    """Without a terminal there is nobody to ask: the key is the first line, as with --stdin."""
    result = run("--model", "voice")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("RULE")


def test_json() -> None:
    """As JSON there is nothing else on stdout."""
    result = run("--stdin", "--json", "--model", "chat")
    content = json.loads(result.stdout)
    assert (result.exit_code, content["admitted"]) == (1, False)
    assert content["key"] == {
        "alias": "web",
        "hash": hash_key(Secret(KEY)),
        "team": None,
        "user": None,
    }
    (refusal,) = [step for step in content["steps"] if step["outcome"] == "refused"]
    assert (refusal["name"], refusal["status"], refusal["code"]) == ("model", 403, "model_denied")


def test_unusable_configuration(folder: Path) -> None:
    """Exit code 2 and the mistakes, as everywhere."""
    (folder / "config.yaml").write_text("model_list: 5")
    result = run("--stdin")
    assert result.exit_code == 2
    assert "config.yaml" in result.stderr


@pytest.mark.parametrize("arguments", [("--key", KEY), (KEY,), ("--stdin", KEY)])
def test_no_key_on_the_command_line(arguments: tuple[str, ...]) -> None:
    """A key is no argument: others on the machine could read it. It is not shown once more."""
    found = run(*arguments)
    assert found.exit_code == 2
    assert "on the command line" in found.stderr
    assert KEY not in found.output


def test_the_key_may_be_asked_for_expressly() -> None:
    """--key asks for a key, as is done without it."""
    assert run("--key", "--model", "voice").exit_code == 0


async def test_jwt(folder: Path) -> None:
    """A JWT that is refused says why, which no caller is told."""
    now = int(time.time())
    async with RecordingUpstream() as provider:
        publish(provider, public_jwk())
        oidc = oidc_settings(provider.url()).model_dump(mode="json")
        upstream = {"egress_url": provider.url()}
        settings = Settings(config_file=folder / "config.yaml", oidc=oidc, upstream=upstream)  # type: ignore[arg-type]  # as a file would say it
        good = claims(iat=now, exp=now + 60)
        key, steps = await whoami._explain(settings, sign(good), "voice")
        assert key is not None
        assert steps[1] == Step("source", "ok", "found in the OpenID provider")
        assert {step.outcome for step in steps[1:]} == {"ok"}
        _, steps = await whoami._explain(settings, sign({**good, "aud": "other"}), "voice")
        said = "refused by the OpenID provider: the JWT is not accepted: audience"
        assert steps[1] == Step("source", "skipped", said)
        assert steps[-1].code == "key_unknown"
    _, steps = await whoami._explain(settings, sign(good), "voice")
    assert steps[-1].code == "key_source_unavailable"
    assert steps[-1].text.endswith("The source that cannot be asked: the OpenID provider.")


async def test_proxy(folder: Path) -> None:
    """A key that only a LiteLLM proxy knows is found there; a proxy that is down is named."""
    async with LiteLLMStandIn() as litellm:
        litellm.add(KEY, key_alias="web", max_budget=1.0, spend=2.0)
        settings = Settings(
            config_file=folder / "config.yaml",
            litellm=LiteLLMSettings(url=litellm.url, admin_key=Secret(ADMIN_KEY)),
            upstream=UpstreamSettings(egress_url=litellm.url),
        )
        key, steps = await whoami._explain(settings, Secret(KEY), "voice")
        assert key is not None
        assert steps[1] == Step("source", "ok", "found in the LiteLLM proxy, web, sk-...ller")
        assert [step.name for step in steps if step.outcome == "refused"] == ["budgets"]
    key, steps = await whoami._explain(settings, Secret(KEY), "voice")
    assert (key, steps[-1].code) == (None, "key_source_unavailable")
    assert steps[-1].text.endswith("The source that cannot be asked: the LiteLLM proxy.")


CASES = [
    case
    for case in (*IDENTITY_CASES, *MODEL_CASES, *BUDGET_CASES, *LIMIT_CASES)
    if (case.gateway, case.body, case.path, case.headers) == ("usual", None, MINT, bearer_of)
    # It says what the service lets through, not what the provider does with it.
    and case.asks != "free-down"
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def loaded(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Configuration, dict[str, str]]]:
    """Give a configuration with LiteLLM's real database, and the keys of all cases in it."""
    database = postgres.create_database()
    keys = {case.rule: case.build(database.rows) for case in CASES}
    config = write_config(tmp_path_factory.mktemp("whoami"), database.url)
    settings = Settings(config_file=config)
    egress = Egress.through("http://127.0.0.1:1")
    stores = KeyStores(settings, egress)
    configuration = load_configuration(settings, stores)
    await stores.start()
    yield configuration, keys
    await stores.stop()
    await egress.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
async def test_it_says_what_the_service_does(
    loaded: tuple[Configuration, dict[str, str]], case: Case
) -> None:
    """For LiteLLM's rules, the first refusal is the one that a request gets."""
    configuration, keys = loaded
    key, steps = await whoami._find(configuration, Secret(keys[case.rule]))
    if key is not None:
        now = datetime.now(UTC)
        rules = explain(key, case.asks, configuration.catalogue, now, configuration.general)
        steps = (*steps, *rules)
    refusals = [(step.status, step.code) for step in steps if step.outcome == "refused"]
    expected = None if case.expected is None else (case.expected[0], case.expected[2])
    assert (refusals[0] if refusals else None) == expected
