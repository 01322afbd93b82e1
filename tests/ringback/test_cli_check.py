import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from extauthz.keys import VirtualKey
from extauthz.keys.keyfile import save_keys
from ringback.cli import app
from ringback.sessionlock import parse_lock
from ringback.settings import MIN_SECRET_CHARS
from ringback.tokens.errors import WeakSecretError

CONFIG = """
model_list:
  - model_name: voice
    litellm_params: {model: openai/gpt-realtime, api_key: sk-marker-openai}
  - model_name: voice-eu
    litellm_params:
      model: azure/rt
      api_base: https://r.openai.azure.com/openai/v1
      api_key: os.environ/AZURE_KEY
  - {model_name: claude, litellm_params: {model: anthropic/claude}}
router_settings: {model_group_alias: {fast: voice}}
general_settings: {master_key: sk-marker-0123456789}
"""
TABLE = """\
GROUP     DIALECT  MODEL         ORIGIN                      CALLS                      CLUSTER
voice     openai   gpt-realtime  https://api.openai.com      /v1/realtime/calls         \
upstream_https_api_openai_com_443
voice-eu  azure    rt            https://r.openai.azure.com  /openai/v1/realtime/calls  \
upstream_https_r_openai_azure_com_443
note: config.yaml: model_list[2]: not used: its model begins with neither openai/ nor azure/, \
nor is it realtime at an api_base
"""


def run(*arguments: str) -> Result:
    """Run `ringback check`."""
    return CliRunner().invoke(app, ["check", *arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a good configuration, and without variables of the outside."""
    for name in os.environ:
        if name.startswith(("RINGBACK_", "LITELLM_", "OPENAI_", "AZURE_", "DATABASE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_KEY", "sk-marker-azure")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def test_a_good_configuration_is_shown(folder: Path) -> None:
    """What would be served is shown as a table, then what is not used; no key is."""
    models = ("voice", "fast", "*", "voice-*", "all-team-models")
    save_keys(folder / "keys.yaml", [VirtualKey("ab" * 32, "web", models)])
    result = run("--config", "config.yaml", "--keys", "keys.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == TABLE


def test_files_may_come_from_the_settings(folder: Path) -> None:
    """The files that the settings name are checked, unless the command line names others."""
    save_keys(folder / "k.yaml", [VirtualKey("ab" * 32, "web", ("voice", "gone"))])
    (folder / "ringback.yaml").write_text("config_file: config.yaml\nkeys_file: k.yaml")
    result = run("--settings", "ringback.yaml")
    assert result.exit_code == 0
    assert result.stdout == TABLE + "note: key web: its model gone is not served here\n"


def test_what_a_mesh_gets_in_the_clear_is_noted(folder: Path) -> None:
    """Whoever lets a mesh do TLS reads which hosts are asked without it, and at which port."""
    upstream = "upstream: {egress: mesh, mesh_port: 8080}"
    (folder / "ringback.yaml").write_text(
        f"{upstream}\nlitellm: {{url: 'https://llm.example:8443', admin_key: sk-marker-admin}}"
    )
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    words = "is asked in plain HTTP at port"
    assert [line for line in result.stdout.splitlines() if words in line] == [
        f"note: https://api.openai.com {words} 8080: the mesh has to do TLS",
        f"note: https://llm.example:8443 {words} 8443: the mesh has to do TLS",
        f"note: https://r.openai.azure.com {words} 8080: the mesh has to do TLS",
    ]


def test_authorities_of_upstreams_are_checked(folder: Path) -> None:
    """A file of authorities that extauthz could not read is a mistake."""
    (folder / "ringback.yaml").write_text("upstream: {egress: direct, ca_file: none.pem}")
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    assert result.exit_code == 2
    assert "upstream.ca_file: none.pem: cannot be used: No such file" in result.stderr


def test_certificates_of_the_services_are_checked(folder: Path) -> None:
    """Files that a service could not start with are mistakes, and half of the settings is one."""
    tls = "certificate_file: a.pem, key_file: b.pem, client_ca_file: c.pem"
    peers = "allowed_peers: ['spiffe://mesh.test/*']"
    (folder / "ringback.yaml").write_text(f"services: {{tls: {{{tls}, {peers}}}}}")
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    assert result.exit_code == 2
    for name, file in (("certificate_file", "a"), ("key_file", "b"), ("client_ca_file", "c")):
        assert f"services.tls.{name}: {file}.pem: cannot be read: No such file" in result.stderr
    (folder / "ringback.yaml").write_text(f"services: {{tls: {{{tls}}}}}")
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    assert result.exit_code == 2
    assert "services.tls: expected certificate_file" in result.stderr


def test_what_callkeeper_would_not_start_with_is_a_mistake(folder: Path) -> None:
    """A webhook without a secret, costs without a database, prices that are not there."""
    (folder / "ringback.yaml").write_text(
        "upstream: {egress: mesh}\n"
        "supervision:\n"
        "  mode: required\n"
        "  prices_file: missing.json\n"
        "  webhook: {url: 'https://hooks.example.com'}\n"
    )
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    assert result.exit_code == 2
    for said in ("supervision.webhook.secret: ", "supervision.prices_file: ", "upstream.egress"):
        assert said in result.stderr
    (folder / "ringback.yaml").write_text("supervision: {mode: auto, sinks: [litellm]}\n")
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    assert "supervision.sinks: litellm needs" in result.stderr


def test_a_lock_that_nobody_would_hold_is_noted(folder: Path) -> None:
    """Sessions can be locked only where calls are supervised."""
    locked = VirtualKey("ab" * 32, "kiosk", session_lock=parse_lock({"tools": []}))
    save_keys(folder / "keys.yaml", [locked])
    for mode, noted in (("off", 1), ("required", 0)):
        (folder / "ringback.yaml").write_text(f"supervision: {{mode: '{mode}'}}")
        result = run(
            "--config", "config.yaml", "--keys", "keys.yaml", "--settings", "ringback.yaml"
        )
        assert result.exit_code == 0
        assert result.stdout.count("note: key kiosk: the session lock keeps") == noted


def test_a_limit_that_nobody_counts_is_noted(folder: Path) -> None:
    """Open calls of a key are counted only where calls are supervised."""
    save_keys(folder / "keys.yaml", [VirtualKey("ab" * 32, "kiosk", max_open_calls=3)])
    for mode, noted in (("off", 1), ("required", 0)):
        (folder / "ringback.yaml").write_text(f"supervision: {{mode: '{mode}'}}")
        result = run(
            "--config", "config.yaml", "--keys", "keys.yaml", "--settings", "ringback.yaml"
        )
        assert result.exit_code == 0
        assert result.stdout.count("note: key kiosk: its limits of calls limit nothing") == noted


def test_a_key_of_an_unknown_policy_is_noted(folder: Path) -> None:
    """A key may name a policy of the settings; one that names another could never call."""
    save_keys(
        folder / "keys.yaml",
        [
            VirtualKey("ab" * 32, "kiosk", sdp_policy="kiosk"),
            VirtualKey("cd" * 32, "office", sdp_policy="ours"),
            VirtualKey("ef" * 32, "typo", sdp_policy="kisok"),
        ],
    )
    (folder / "ringback.yaml").write_text("sdp: {policies: {ours: {max_data_sections: 1}}}")
    result = run("--config", "config.yaml", "--keys", "keys.yaml", "--settings", "ringback.yaml")
    assert result.exit_code == 0
    assert result.stdout == TABLE + (
        "note: key typo: there is no SDP policy kisok, so each of its calls is refused\n"
    )


def test_policies_that_hold_for_nobody_are_noted(folder: Path) -> None:
    """A name with a mistake would restrict nothing, and nobody would notice."""
    save_keys(folder / "keys.yaml", [VirtualKey("ab" * 32, "web", team="t1")])
    (folder / "ringback.yaml").write_text(
        """
        sdp:
          models: {voice: kiosk, fast: kiosk}
          keys: {web: kiosk, wbe: kiosk, master: kiosk}
          teams: {t1: kiosk, t2: kiosk}
        """
    )
    result = run("--config", "config.yaml", "--keys", "keys.yaml", "--settings", "ringback.yaml")
    assert result.exit_code == 0
    assert result.stdout == TABLE + (
        "note: sdp.models.fast: is no model group that is served here; aliases do not count\n"
        "note: sdp.keys.wbe: no key has this alias\n"
        "note: sdp.teams.t2: no key belongs to this team\n"
    )


def test_a_house_without_a_door_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a master key and without keys nobody can call."""
    (folder / "config.yaml").write_text(CONFIG.replace("general_settings", "litellm_settings"))
    monkeypatch.setenv("LITELLM_SALT_KEY", "salt-0123456789abcdef")
    result = run("--config", "config.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == (
        "note: nobody can call: there is no master key, no key in a key file and no other source"
    )


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            "litellm: {url: 'https://litellm.example', admin_key: sk-marker-admin}", id="litellm"
        ),
        pytest.param(
            "oidc: {issuer: 'https://i.example', audience: [a], jwks_url: 'https://i.example/k'}",
            id="oidc",
        ),
        pytest.param("{}", id="database"),
    ],
)
def test_other_sources_are_doors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    """Where keys come from elsewhere, neither a master key nor a key file is missed."""
    (folder / "config.yaml").write_text(CONFIG.replace("general_settings", "litellm_settings"))
    (folder / "ringback.yaml").write_text(settings)
    monkeypatch.setenv("LITELLM_SALT_KEY", "salt-0123456789abcdef")
    if settings == "{}":
        monkeypatch.setenv("DATABASE_URL", "postgresql://reader@db.example/litellm")
    result = run("--config", "config.yaml", "--settings", "ringback.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "nobody can call" not in result.stdout


def test_a_litellm_proxy_is_a_door(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another source of keys somebody can call."""
    (folder / "config.yaml").write_text(CONFIG.replace("general_settings", "litellm_settings"))
    monkeypatch.setenv("LITELLM_SALT_KEY", "salt-0123456789abcdef")
    monkeypatch.setenv("RINGBACK_LITELLM__URL", "http://litellm.example")
    monkeypatch.setenv("RINGBACK_LITELLM__ADMIN_KEY", "sk-admin")
    result = run("--config", "config.yaml")
    assert result.exit_code == 0
    assert "nobody can call" not in result.stdout


def test_mistakes_of_key_sources_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that cannot be reached and sources that cannot work are mistakes."""
    (folder / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv("RINGBACK_LITELLM__URL", "http://litellm.example")
    monkeypatch.setenv("RINGBACK_LITELLM__OWN_KEY", "true")
    monkeypatch.setenv("RINGBACK_OIDC__ISSUER", "https://id.example")
    monkeypatch.setenv("RINGBACK_OIDC__AUDIENCE", '["ringback"]')
    monkeypatch.setenv("RINGBACK_OIDC__JWKS_URL", "id.example/certs")
    result = run("--config", "config.yaml")
    assert result.exit_code == 2
    assert "  oidc.jwks_url: expected a URL that begins with https:// or" in result.stderr
    monkeypatch.setenv("RINGBACK_OIDC__JWKS_URL", "https://id.example/certs")
    result = run("--config", "config.yaml")
    assert result.exit_code == 2
    assert "  litellm.own_key: needs workers: 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "mistakes"),
    [
        pytest.param((), ["there is no configuration; give --config FILE"], id="nothing"),
        pytest.param(
            ("--config", "weak.yaml"),
            [str(WeakSecretError("general_settings.master_key", MIN_SECRET_CHARS))],
            id="weak-master-key",
        ),
        pytest.param(
            ("--config", "bad.yaml", "--settings", "bad-settings.yaml", "--keys", "missing.yaml"),
            [
                "wrong: there is no such setting; docs/configuration.md lists them",
                "missing.yaml: cannot be read: No such file or directory",
                (
                    "bad.yaml: model_list[0].litellm_params.api_base: expected a URL that begins "
                    "with https:// or http:// and a host"
                ),
                (
                    "bad.yaml: model_list[0].litellm_params.api_key: is missing; set it to "
                    "os.environ/NAME, or set OPENAI_API_KEY"
                ),
            ],
            id="everything",
        ),
        pytest.param(
            ("--config", "config.yaml", "--keys", "bad-keys.yaml"),
            [
                (
                    "bad-keys.yaml: keys[0].hash: expected the sha256 of the key, 64 hex digits in "
                    "lower case, not the key itself"
                )
            ],
            id="keys",
        ),
        pytest.param(
            ("--config", "config.yaml", "--settings", "bad-policies.yaml"),
            [
                (
                    "sdp.models.voice: there is no policy of this name, only kiosk, low_bandwidth, "
                    "privacy, strict_firewall"
                )
            ],
            id="policies",
        ),
    ],
)
def test_every_mistake_is_in_one_list(
    folder: Path, arguments: tuple[str, ...], mistakes: list[str]
) -> None:
    """All mistakes of all files go to standard error at once; the exit code is 2."""
    (folder / "weak.yaml").write_text(CONFIG.replace("sk-marker-0123456789", "sk-marker"))
    (folder / "bad.yaml").write_text(
        "model_list: [{model_name: m, litellm_params: {model: openai/x, api_base: sk-marker}}]"
    )
    (folder / "bad-settings.yaml").write_text("wrong: sk-marker")
    (folder / "bad-keys.yaml").write_text("keys: [{hash: sk-marker, alias: web}]")
    (folder / "bad-policies.yaml").write_text("sdp: {models: {voice: sk-marker}}")
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = ["This configuration cannot be used:", *(f"  {mistake}" for mistake in mistakes)]
    assert result.stderr.splitlines() == lines
    assert "sk-marker" not in result.output
