"""What manifests are made from: upstreams and names of variables, without any secret at hand."""

from pathlib import Path

import pytest

from extauthz.deployments import Origin
from extauthz.errors import ConfigError
from ringback.render.inputs import Inputs, load_inputs, resource_name

# Set where the services run, and nowhere else.
ENTRY = """
model_list:
- model_name: voice
  litellm_params: {model: openai/gpt-realtime%s}
"""


def load(folder: Path, config: str, settings: str = "", **environ: str) -> Inputs:
    """Return the inputs of two files."""
    (folder / "litellm.yaml").write_text(config)
    (folder / "ringback.yaml").write_text(settings)
    return load_inputs(folder / "litellm.yaml", folder / "ringback.yaml", environ)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        # Realistic
        pytest.param(ENTRY % ", api_key: os.environ/VOICE_KEY", ["VOICE_KEY"], id="reference"),
        pytest.param(ENTRY % "", ["OPENAI_API_KEY"], id="absent-key"),
        pytest.param(
            f"{ENTRY % ''}general_settings: {{master_key: os.environ/LITELLM_MASTER_KEY}}",
            ["LITELLM_MASTER_KEY", "OPENAI_API_KEY"],
            id="master-key",
        ),
        pytest.param(
            ENTRY % ", api_key: os.environ/K, rpm: os.environ/RPM", ["K", "RPM"], id="number"
        ),
        pytest.param(
            ENTRY % ", api_key: os.environ/OURS"
            + "environment_variables: {OURS: os.environ/THEIRS}\n",
            ["THEIRS"],
            id="variable-of-the-file",
        ),
        # Synthetic: nothing of ours
        pytest.param(
            ENTRY % ", api_key: sk-made-up"
            + "- model_name: chat\n"
            + "  litellm_params: {model: anthropic/claude, api_key: os.environ/CLAUDE_KEY}\n",
            [],
            id="other-provider",
        ),
    ],
)
def test_variables_are_named_that_the_configuration_needs(
    tmp_path: Path, config: str, names: list[str]
) -> None:
    """Whether they are set makes no difference."""
    expected = tuple(sorted([*names, "LITELLM_SALT_KEY"]))

    assert load(tmp_path, config).variables == expected
    assert load(tmp_path, config, **dict.fromkeys(names, "17")).variables == expected


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        pytest.param("", {"LITELLM_SALT_KEY"}, id="none"),
        pytest.param("token: {jwk_set_file: /etc/keys/set.json}", set(), id="jwk-set"),
        pytest.param(
            "litellm: {url: 'https://litellm.example.com'}",
            {"LITELLM_SALT_KEY", "RINGBACK_LITELLM__ADMIN_KEY"},
            id="proxy",
        ),
        pytest.param(
            "litellm: {url: 'https://litellm.example.com', own_key: true}\nworkers: 1",
            {"LITELLM_SALT_KEY"},
            id="proxy-with-own-key",
        ),
    ],
)
def test_settings_need_variables_too(tmp_path: Path, settings: str, names: set[str]) -> None:
    """What tokens are sealed with, and the key for a LiteLLM proxy."""
    inputs = load(tmp_path, ENTRY % ", api_key: sk-made-up", settings)

    assert set(inputs.variables) == names
    assert set(inputs.sealing_variables) == names & {"LITELLM_SALT_KEY"}


def test_upstreams_are_providers_and_services(tmp_path: Path) -> None:
    """One for each origin, by name, whoever needs it."""
    config = ENTRY % ", api_key: sk-made-up" + (
        "- model_name: voice\n"
        "  litellm_params: {model: openai/gpt-realtime-mini, api_key: sk-made-up}\n"
        "- model_name: voice\n"
        "  litellm_params: {model: azure/v, api_base: os.environ/BASE, api_key: sk-made-up}\n"
    )
    settings = "litellm: {url: 'http://litellm.internal:4100'}"

    inputs = load(tmp_path, config, settings, BASE="https://my-voice.openai.azure.com")

    assert [(upstream.name, upstream.sni) for upstream in inputs.upstreams] == [
        ("http-litellm-internal-4100", None),
        ("https-api-openai-com-443", "api.openai.com"),
        ("https-my--voice-openai-azure-com-443", "my-voice.openai.azure.com"),
    ]


@pytest.mark.parametrize("field", ["api_base", "model"])
def test_what_decides_about_upstreams_has_to_be_set(tmp_path: Path, field: str) -> None:
    """A stand-in for an address would be a manifest for nowhere."""
    config = f"model_list:\n- model_name: voice\n  litellm_params: {{{field}: os.environ/PLACE}}\n"

    with pytest.raises(ConfigError) as caught:
        load(tmp_path, config)

    assert f"{field}: refers to PLACE, which says where requests go" in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        # Realistic
        pytest.param(("https", "api.openai.com", 443), "https-api-openai-com-443", id="name"),
        pytest.param(("http", "10.0.0.7", 8090), "http-10-0-0-7-8090", id="address"),
        pytest.param(("https", "a-b.c", 443), "https-a--b-c-443", id="hyphen"),
        pytest.param(("https", "a.b-c", 443), "https-a-b--c-443", id="hyphen-elsewhere"),
        # Pathological
        pytest.param(("https", "a_b.c", 443), "https-a-b-c-443-c1f11023", id="underscore"),
        pytest.param(("https", "::1", 443), "https---1-443-1d4e85fd", id="ipv6"),
    ],
)
def test_names_fit_kubernetes(origin: tuple[str, str, int], name: str) -> None:
    """Letters, digits and hyphens, the same in each run."""
    assert resource_name(Origin(*origin)) == name


def test_long_names_are_cut_and_told_apart() -> None:
    """A DNS label has 63 characters."""
    hosts = [f"{'a' * 60}.{end}.example.com" for end in ("b", "c")]
    names = [resource_name(Origin("https", host, 443)) for host in hosts]

    assert len(set(names)) == 2
    assert {len(name) for name in names} == {63}
