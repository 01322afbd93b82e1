from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extauthz.catalogue import Catalogue
from extauthz.deployments import Deployment, Origin
from extauthz.errors import ConfigError
from extauthz.litellm import LiteLLMConfig, load_config
from ringback.secrets import Secret

ENVIRON = {"OPENAI_API_KEY": "sk-env-openai", "MK": "sk-env-master"}
# What a platform team's file looks like.
REALISTIC = """
model_list:
  - model_name: voice
    litellm_params:
      model: openai/gpt-realtime
      api_key: os.environ/OPENAI_API_KEY
      organization: org-1
      project: proj_1
      timeout: 7.5
      max_retries: 2
    model_info: {mode: realtime, id: voice-openai}
  - model_name: voice
    litellm_params:
      model: azure/my-deployment
      api_base: https://r.openai.azure.com/
      api_key: sk-azure
      extra_headers: {X-Gateway-Key: os.environ/GATEWAY_KEY, x-retries: 3}
  - model_name: claude
    litellm_params: {model: anthropic/claude, api_key: os.environ/NOT_SET}
litellm_settings: {drop_params: true, callbacks: [prometheus], cache_params: {1: 2}}
general_settings: {master_key: os.environ/MK}
router_settings:
  num_retries: 2
  model_group_alias: {fast: voice, quick: {model: voice, hidden: true}}
environment_variables:
  GATEWAY_KEY: os.environ/GATEWAY_KEY_PROD
  MK: sk-of-file
  UNUSED: os.environ/NOT_SET
"""
NOT_OURS = "its model begins with neither openai/ nor azure/, nor is it realtime at an api_base"
OPENAI = Origin("https", "api.openai.com", 443)


def load(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> LiteLLMConfig:
    """Load a configuration from its text."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ)


def one(folder: Path, params: str, environ: Mapping[str, str] = ENVIRON) -> Deployment:
    """Load the deployment of these litellm_params."""
    text = f"model_list: [{{model_name: m, litellm_params: {{{params}}}}}]"
    return load(folder, text, environ).deployments[0]


def test_a_realistic_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Deployments, aliases and the master key are read; references are resolved."""
    config = load(tmp_path, REALISTIC, ENVIRON | {"GATEWAY_KEY_PROD": "sk-gateway"})
    first, second = config.deployments
    assert first == Deployment(
        id="voice-openai",
        model_name="voice",
        provider="openai",
        upstream_model="gpt-realtime",
        origin=OPENAI,
        base_path="",
        api_key=Secret("sk-env-openai"),
        organization="org-1",
        project="proj_1",
        timeout_s=7.5,
        mode="realtime",
    )
    assert second.provider == "azure"
    assert second.upstream_model == "my-deployment"
    assert second.origin == Origin("https", "r.openai.azure.com", 443)
    assert second.api_key == Secret("sk-azure")
    assert dict(second.extra_headers) == {
        "x-gateway-key": Secret("sk-gateway"),
        "x-retries": Secret("3"),
    }
    assert dict(config.aliases) == {"fast": "voice", "quick": "voice"}
    assert config.master_key == Secret("sk-env-master")
    assert config.notes == (f"{tmp_path}/config.yaml: model_list[2]: not used: {NOT_OURS}",)
    assert Catalogue(config).only_realtime_group() == "voice"
    assert "sk-" not in repr(config)


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    """environment_variables stand in for what the environment lacks, as in LiteLLM."""
    text = REALISTIC.replace("os.environ/GATEWAY_KEY_PROD", "sk-plain")
    assert load(tmp_path, text).master_key == Secret("sk-env-master")
    config = load(tmp_path, text, {"OPENAI_API_KEY": "k"})
    assert config.master_key == Secret("sk-of-file")
    assert config.deployments[1].extra_headers["x-gateway-key"] == Secret("sk-plain")


@pytest.mark.parametrize(
    ("params", "environ", "expected"),
    [
        # Realistic
        pytest.param(
            "model: openai/gpt-realtime",
            {"OPENAI_API_KEY": "e"},
            ("openai", "gpt-realtime", "https://api.openai.com", "", "e"),
            id="openai-defaults",
        ),
        pytest.param(
            "model: openai/x, api_key: k",
            {"OPENAI_API_KEY": "e", "OPENAI_API_BASE": "http://b/v1"},
            ("openai", "x", "http://b", "", "k"),
            id="openai-base-variable",
        ),
        pytest.param(
            "model: openai/x, api_key: k",
            {"OPENAI_BASE_URL": "http://c", "OPENAI_API_BASE": "http://b"},
            ("openai", "x", "http://c", "", "k"),
            id="openai-base-url-first",
        ),
        pytest.param(
            "model: azure/d",
            {"AZURE_API_KEY": "a", "AZURE_API_BASE": "https://r.openai.azure.com/openai/v1"},
            ("azure", "d", "https://r.openai.azure.com", "", "a"),
            id="azure-defaults",
        ),
        pytest.param(
            "model: gpt-4o-realtime-preview, api_base: https://gw.test/oa/v1/, api_key: k",
            {},
            ("openai", "gpt-4o-realtime-preview", "https://gw.test", "/oa", "k"),
            id="openai-without-prefix",
        ),
        # Synthetic
        pytest.param(
            "model: openai/a/b, api_key: '', api_base: ''",
            {"OPENAI_API_KEY": "e", "OPENAI_BASE_URL": ""},
            ("openai", "a/b", "https://api.openai.com", "", "e"),
            id="empty-is-absent",
        ),
        pytest.param(
            "model: os.environ/MODEL, api_key: k",
            {"MODEL": "openai/from-env"},
            ("openai", "from-env", "https://api.openai.com", "", "k"),
            id="references-anywhere",
        ),
    ],
)
def test_absent_values_come_from_the_provider(
    tmp_path: Path, params: str, environ: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    """A provider's own variables and address stand in for absent values."""
    found = one(tmp_path, params, environ)
    assert (
        found.provider,
        found.upstream_model,
        str(found.origin),
        found.base_path,
        found.api_key.reveal(),
    ) == expected


def test_numbers_may_come_from_the_environment(tmp_path: Path) -> None:
    """A deadline is a number or a variable that holds one."""
    assert one(tmp_path, "model: openai/x, timeout: 3").timeout_s == 3
    environ = ENVIRON | {"T": "2.5"}
    assert one(tmp_path, "model: openai/x, timeout: os.environ/T", environ).timeout_s == 2.5
    assert one(tmp_path, "model: openai/x").timeout_s is None


def test_ids_are_stable_and_unique(tmp_path: Path) -> None:
    """An id stays when keys and weights change; equal entries and other places have others."""
    before = one(tmp_path, "model: openai/x, api_key: k1, weight: 1")
    after = one(tmp_path, "model: openai/x, api_key: k2, timeout: 5")
    elsewhere = one(tmp_path, "model: openai/x, api_key: k1, api_base: http://gw/eu")
    assert before.id == after.id
    assert before.id.startswith("d-")
    assert elsewhere.id != before.id
    entry = "{model_name: m, litellm_params: {model: openai/x, api_key: %s}}"
    both = load(tmp_path, f"model_list: [{entry % 'k1'}, {entry % 'k2'}]").deployments
    assert [d.id for d in both] == [before.id, f"{before.id}-2"]


def test_ids_of_the_file_are_kept(tmp_path: Path) -> None:
    """model_info.id may be a number, as in LiteLLM."""
    text = "model_list: [{model_name: m, litellm_params: {model: openai/x}, model_info: {id: 7}}]"
    assert load(tmp_path, text).deployments[0].id == "7"


def test_the_master_key_may_be_absent_or_a_variable(tmp_path: Path) -> None:
    """LITELLM_MASTER_KEY stands in for general_settings.master_key."""
    text = "model_list: [{model_name: m, litellm_params: {model: openai/x}}]"
    assert load(tmp_path, text).master_key is None
    environ = ENVIRON | {"LITELLM_MASTER_KEY": "sk-litellm"}
    assert load(tmp_path, text, environ).master_key == Secret("sk-litellm")


def test_a_known_master_key_may_be_permitted(tmp_path: Path) -> None:
    """LiteLLM's own setting admits the master key of its documentation."""
    settings = "{master_key: sk-1234, dangerously_permit_weak_or_unset_master_key: true}"
    text = "model_list: [{model_name: m, litellm_params: {model: openai/x}}]\n"
    assert load(tmp_path, f"{text}general_settings: {settings}").master_key == Secret("sk-1234")


def test_files_are_included(tmp_path: Path) -> None:
    """Models of included files are appended, their sections replace, and they may include more."""
    model = "model_list: [{model_name: %s, litellm_params: {model: openai/x}}]\n"
    sub = tmp_path / "sub"
    sub.mkdir()
    (sub / "b.yaml").write_text(model % "b" + "general_settings: {master_key: sk-b}")
    (sub / "c.yaml").write_text(model % "c" + "include: [d.yaml]")
    (tmp_path / "d.yaml").write_text("")
    config = load(
        tmp_path,
        model % "a" + "include: [sub/b.yaml, sub/c.yaml]\ngeneral_settings: {master_key: sk-a}",
    )
    assert [d.model_name for d in config.deployments] == ["a", "b", "c"]
    assert config.master_key == Secret("sk-b")
    names = ("config.yaml", "sub/b.yaml", "sub/c.yaml", "d.yaml")
    assert config.files == tuple(tmp_path / name for name in names)
    assert config.notes == (
        f"{tmp_path}/config.yaml: general_settings: replaced by that of {sub}/b.yaml",
    )


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        # Realistic
        pytest.param(
            "- {model_name: z, litellm_params: {model: azure/d, api_base: https://r.test, "
            "api_key: k, api_version: 2025-08-28, max_parallel_requests: 2}}",
            [
                (
                    "model_list[1].litellm_params.api_version: means the dated paths that LiteLLM "
                    "uses; Microsoft documents WebRTC without versions, so remove it if the "
                    "resource is a current one"
                ),
                "model_list[1].litellm_params.max_parallel_requests: not used by this version",
            ],
            id="dated-azure",
        ),
        pytest.param(
            "- {model_name: z, litellm_params: {model: azure/d, api_base: https://r.test, "
            "api_key: k, api_version: preview}}",
            [],
            id="current-azure",
        ),
        pytest.param(
            "- {model_name: '*/*', litellm_params: {model: openai/*}}",
            ["model_list[1]: not used: its names may hold one * each"],
            id="two-wildcards",
        ),
        pytest.param(
            "- {model_name: z, litellm_params: {model: openai/z}, "
            "model_info: {access_windows: [1]}}",
            [
                (
                    "model_list[1]: not used: model_info.access_windows restricts it, "
                    "which this version cannot keep"
                )
            ],
            id="reserved",
        ),
        pytest.param(
            "- {model_name: z, litellm_params: {model: azure/gpt-4o}, model_info: {mode: chat}}",
            [
                (
                    "model_list[1].litellm_params.api_base: is missing; write "
                    "https://NAME.openai.azure.com, or set AZURE_API_BASE; not served, since its "
                    "mode is not realtime"
                ),
                (
                    "model_list[1].litellm_params.api_key: is missing; set it to os.environ/NAME, "
                    "or set AZURE_API_KEY, or name another model_info.ringback.credential; not "
                    "served, since its mode is not realtime"
                ),
            ],
            id="chat-without-key",
        ),
        pytest.param(
            "router_settings: {model_group_alias: {m: m}, retry_policy: {x: 1}}\n"
            "general_settings: {use_x_forwarded_for: true, custom_auth: a.b, "
            "enforce_fallback_model_access: true, store_model_in_db: true}\n"
            "litellm_settings: {model_alias_map: {x: m}}",
            [
                "general_settings.custom_auth: not used by this version",
                "general_settings.enforce_fallback_model_access: not used by this version",
                "general_settings.store_model_in_db: not used by this version",
                "general_settings.use_x_forwarded_for: not used by this version",
                "litellm_settings.model_alias_map: not used by this version",
                (
                    "router_settings.model_group_alias.m: hides the model_name of the same name, "
                    "as in LiteLLM"
                ),
                "router_settings.retry_policy: not used by this version",
            ],
            id="settings",
        ),
    ],
)
def test_what_is_not_used_is_noted(tmp_path: Path, text: str, notes: list[str]) -> None:
    """What an operator might count on in vain is noted; the rest of the file is used."""
    head = "model_list:\n- {model_name: m, litellm_params: {model: openai/x}}\n"
    config = load(tmp_path, head + text)
    assert list(config.notes) == [f"{tmp_path}/config.yaml: {note}" for note in notes]
    assert config.deployments[0].model_name == "m"


def test_aliases_of_what_is_not_served_are_notes(tmp_path: Path) -> None:
    """An alias of another provider's group, or perhaps of a wildcard, is not a mistake."""
    text = (
        "model_list: [{model_name: m, litellm_params: {model: openai/x}}, "
        "{model_name: %s, litellm_params: {model: gemini/y}}]\n"
        "router_settings: {model_group_alias: {fast: g}}"
    )
    for other in ("g", "gemini/*"):
        config = load(tmp_path, text % other)
        assert dict(config.aliases) == {}
        assert config.notes[-1] == (
            f"{tmp_path}/config.yaml: router_settings.model_group_alias.fast: not used: "
            "that model is not served here"
        )


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["openai/x", "azure/y", "os.environ/OPENAI_API_KEY", "os.environ/N", "*"])
    | st.sampled_from(["https://h", "2025-08-28", "realtime", "config.yaml", "m"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
PARAMS = "model api_key api_base api_version timeout extra_headers organization weight"
ENTRY = st.fixed_dictionaries(
    {"model_name": PLAIN, "litellm_params": PLAIN},
    optional={"model_info": PLAIN | st.dictionaries(st.sampled_from(["id", "mode"]), PLAIN)},
) | st.fixed_dictionaries(
    {
        "model_name": st.just("m"),
        "litellm_params": st.fixed_dictionaries(
            {"model": st.sampled_from(["openai/x", "azure/y"])},
            optional=dict.fromkeys(PARAMS.split()[1:], PLAIN),
        ),
    }
)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "model_list": st.lists(ENTRY, max_size=3) | PLAIN,
        "general_settings": PLAIN | st.fixed_dictionaries({"master_key": PLAIN}),
        "router_settings": PLAIN | st.fixed_dictionaries({"model_group_alias": PLAIN}),
        "environment_variables": PLAIN,
        "include": PLAIN,
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all examples share."""
    return tmp_path_factory.mktemp("any")


@given(CONFIG | PLAIN)
def test_any_yaml_is_a_configuration_or_refused(folder: Path, content: object) -> None:
    """Whatever the file holds, it is read or refused with ConfigError."""
    with suppress(ConfigError):
        config = load(folder, yaml.safe_dump(content, allow_unicode=True))
        Catalogue(config).origins()


@given(st.text(max_size=100))
def test_any_text_is_a_configuration_or_refused(folder: Path, text: str) -> None:
    """Whatever the text of the file, it is read or refused with ConfigError."""
    with suppress(ConfigError):
        load(folder, text)
