import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from extauthz.deployments import Deployment, EntraLogin, Origin
from extauthz.errors import ConfigError
from extauthz.litellm import LiteLLMConfig, load_config
from extauthz.ownsettings import _CREDENTIALS, _DIALECTS, _NAMES
from extauthz.providers import dialect_of
from helpers.authz import write_config
from ringback.secrets import Secret
from ringback.sessionlock import parse_lock

REPOSITORY: Final = Path(__file__).parents[2]
RESOURCE: Final = "https://res.openai.azure.com"
REGION: Final = "https://eastus2.realtimeapi-preview.ai.azure.com"
SCOPE: Final = "https://cognitiveservices.azure.com/.default"
LOGIN: Final = Origin("https", "login.microsoftonline.com", 443)
METADATA: Final = Origin("http", "169.254.169.254", 80)


def load(
    folder: Path,
    params: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LiteLLMConfig:
    """Read a configuration of one Azure entry."""
    path = folder / "c.yaml"
    whole = {"model": "azure/rt", "api_base": RESOURCE, "api_key": "k", **params}
    given = {name: value for name, value in whole.items() if value is not None}
    info = {"ringback": own} if own is not None else {}
    write_config(path, {"model_name": "voice", "litellm_params": given, "model_info": info})
    return load_config(path, environ or {})


def one(folder: Path, *args: Any) -> Deployment:
    """Return the deployment of an Azure entry."""
    (deployment,) = load(folder, *args).deployments
    return deployment


def mistakes(folder: Path, *args: Any) -> list[str]:
    """Return what is wrong with an entry, from its place on."""
    with pytest.raises(ConfigError) as refused:
        load(folder, *args)
    return [problem.partition("model_list[0].")[2] for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("params", "own", "environ", "expected"),
    [
        # Realistic
        pytest.param({}, {}, {}, ("azure", None), id="no-version"),
        pytest.param({"api_version": "preview"}, {}, {}, ("azure", None), id="preview-of-v1"),
        pytest.param(
            {"api_version": "2025-08-28"}, {}, {}, ("azure-dated", "2025-08-28"), id="date"
        ),
        pytest.param(
            {"api_version": "2025-08-28", "api_base": f"{RESOURCE}/openai/v1/"},
            {},
            {},
            ("azure", None),
            id="date-and-v1-base",
        ),
        pytest.param(
            {"api_version": "2025-08-28"}, {"dialect": "azure"}, {}, ("azure", None), id="set"
        ),
        pytest.param(
            {}, {"calls_base": REGION}, {}, ("azure-preview", "2025-04-01-preview"), id="calls-base"
        ),
        pytest.param(
            {"api_version": "2024-12-17"},
            {"calls_base": REGION},
            {},
            ("azure-preview", "2024-12-17"),
            id="preview-with-version",
        ),
        pytest.param(
            {},
            {"dialect": "azure-dated"},
            {"AZURE_API_VERSION": "2025-08-28"},
            ("azure-dated", "2025-08-28"),
            id="version-of-the-environment",
        ),
        # Synthetic
        pytest.param(
            {}, {}, {"AZURE_API_VERSION": "2024-02-01"}, ("azure", None), id="environment-alone"
        ),
        pytest.param(
            {"model": "openai/rt"}, {"dialect": "azure"}, {}, ("azure", None), id="openai"
        ),
        pytest.param(
            {"model": "hosted_vllm/rt"}, {"dialect": "openai"}, {}, ("openai", None), id="stranger"
        ),
    ],
)
def test_the_dialect_is_derived_or_set(
    tmp_path: Path,
    params: dict[str, Any],
    own: dict[str, Any],
    environ: dict[str, str],
    expected: tuple[str, str | None],
) -> None:
    """A setting wins; else the address for calls, the base and the version tell."""
    deployment = one(tmp_path, params, own, environ)
    assert (dialect_of(deployment), deployment.api_version) == expected


def test_a_preview_calls_another_origin(tmp_path: Path) -> None:
    """A preview deployment needs two clusters."""
    deployment = one(tmp_path, {}, {"calls_base": f"{REGION}/x"})
    assert deployment.calls_origin == Origin("https", REGION.removeprefix("https://"), 443)
    assert deployment.calls_base_path == "/x"
    assert deployment.origins == (deployment.origin, deployment.calls_origin)


CLIENT: Final = {"tenant_id": "t-1", "client_id": "c-1", "client_secret": "s"}
POD: Final = {
    "AZURE_TENANT_ID": "t-2",
    "AZURE_CLIENT_ID": "c-2",
    "AZURE_FEDERATED_TOKEN_FILE": "/var/token",
}


@pytest.mark.parametrize(
    ("params", "own", "environ", "login"),
    [
        # Realistic
        pytest.param({}, {}, {}, None, id="key"),
        pytest.param(CLIENT, {}, {}, None, id="key-goes-first"),
        pytest.param(
            {"api_key": None, **CLIENT},
            {},
            {},
            EntraLogin("client_secret", SCOPE, "t-1", "c-1", Secret("s"), origin=LOGIN),
            id="client-secret",
        ),
        pytest.param(
            CLIENT,
            {"credential": "client_secret"},
            {},
            EntraLogin("client_secret", SCOPE, "t-1", "c-1", Secret("s"), origin=LOGIN),
            id="client-secret-set",
        ),
        pytest.param(
            {"api_key": None, "tenant_id": "t-1", "azure_scope": "https://ai.azure.com/.default"},
            {},
            {
                "AZURE_CLIENT_ID": "c-2",
                "AZURE_CLIENT_SECRET": "s",
                "AZURE_AUTHORITY_HOST": "login.microsoftonline.us",
            },
            EntraLogin(
                "client_secret",
                "https://ai.azure.com/.default",
                "t-1",
                "c-2",
                Secret("s"),
                origin=Origin("https", "login.microsoftonline.us", 443),
            ),
            id="client-secret-of-another-cloud",
        ),
        pytest.param(
            {"api_key": None, "azure_ad_token": "os.environ/T"},
            {},
            {"T": "token"},
            EntraLogin("token", SCOPE, secret=Secret("token")),
            id="token",
        ),
        pytest.param(
            {"api_key": None},
            {"credential": "managed_identity"},
            {},
            EntraLogin("managed_identity", SCOPE, origin=METADATA),
            id="managed-identity",
        ),
        pytest.param(
            {"client_id": "c-1"},
            {"credential": "managed_identity"},
            {"IDENTITY_ENDPOINT": "http://127.0.0.1:41741/msi/token/"},
            EntraLogin(
                "managed_identity",
                SCOPE,
                client_id="c-1",
                origin=Origin("http", "127.0.0.1", 41741),
            ),
            id="user-assigned-at-app-service",
        ),
        pytest.param(
            {"api_key": None},
            {"credential": "workload_identity"},
            POD,
            EntraLogin("workload_identity", SCOPE, "t-2", "c-2", None, "/var/token", LOGIN),
            id="workload-identity",
        ),
        pytest.param(
            {"api_key": None},
            {"credential": "managed_identity"},
            POD,
            EntraLogin("workload_identity", SCOPE, "t-2", "c-2", None, "/var/token", LOGIN),
            id="managed-identity-of-a-pod",
        ),
        pytest.param({"api_key": None}, {}, {"AZURE_API_KEY": "k"}, None, id="key-of-environment"),
    ],
)
def test_the_login_is_found(
    tmp_path: Path,
    params: dict[str, Any],
    own: dict[str, Any],
    environ: dict[str, str],
    login: EntraLogin | None,
) -> None:
    """LiteLLM's fields and Azure's variables are read; a key goes first unless it is said so."""
    deployment = one(tmp_path, params, own, environ)
    assert deployment.entra == login
    assert bool(deployment.api_key) is (login is None)
    expected = () if login is None or login.method == "token" else (login.origin,)
    assert deployment.origins == (deployment.origin, *expected)


@pytest.mark.parametrize(
    ("params", "own", "problems"),
    [
        # Realistic
        pytest.param(
            {"api_version": "latest-date"},
            {},
            [
                (
                    "litellm_params.api_version: expected YYYY-MM-DD or YYYY-MM-DD-preview, or "
                    "v1, or no api_version"
                )
            ],
            id="version",
        ),
        pytest.param(
            {},
            {"dialect": "azure-dated"},
            [
                (
                    "litellm_params.api_version: is missing; write the version in quotes, or set "
                    "AZURE_API_VERSION"
                )
            ],
            id="no-version",
        ),
        pytest.param(
            {},
            {"dialect": "azure-preview"},
            [
                (
                    "model_info.ringback.calls_base: is missing; write "
                    "https://REGION.realtimeapi-preview.ai.azure.com with the region of the "
                    "resource, eastus2 or swedencentral"
                )
            ],
            id="no-region",
        ),
        pytest.param(
            {},
            {"dialect": "azure", "calls_base": REGION},
            ["model_info.ringback.calls_base: only the dialect azure-preview has one; remove it"],
            id="region-of-nobody",
        ),
        pytest.param(
            {},
            {"dialect": "azur", "webrtcfilter": "on", "filter": 1},
            [
                (
                    "model_info.ringback.filter: there is no such setting; there are dialect, "
                    "calls_base, webrtcfilter, credential, session, session_defaults, "
                    "session_lock"
                ),
                (
                    "model_info.ringback.dialect: expected one of openai, azure, azure-dated, "
                    "azure-preview"
                ),
                "model_info.ringback.webrtcfilter: expected true or false",
            ],
            id="misspelt",
        ),
        pytest.param(
            {"model": "openai/rt"},
            {"webrtcfilter": True, "credential": "managed_identity"},
            [
                "model_info.ringback.credential: openai takes an api_key and nothing else",
                "model_info.ringback.webrtcfilter: only the dialects azure and azure-dated have it",
            ],
            id="openai",
        ),
        pytest.param(
            {"api_key": None, "client_secret": "s", "client_id": "a b"},
            {},
            [
                "litellm_params.client_id: expected an id of letters, digits and hyphens",
                "litellm_params.tenant_id: is missing; client_secret needs it",
            ],
            id="client-secret",
        ),
        pytest.param(
            {"api_key": None},
            {"credential": "workload_identity"},
            [
                "litellm_params.tenant_id: is missing; workload_identity needs it",
                "litellm_params.client_id: is missing; workload_identity needs it",
                (
                    "model_info.ringback.credential: workload_identity needs the variable "
                    "AZURE_FEDERATED_TOKEN_FILE"
                ),
            ],
            id="no-pod",
        ),
        pytest.param(
            {"api_key": None, "azure_ad_token": "oidc/google/x"},
            {},
            [
                (
                    "litellm_params.azure_ad_token: exchanging tokens of others is not served; use "
                    "workload_identity"
                )
            ],
            id="oidc",
        ),
        pytest.param(
            {"api_key": None, "azure_ad_token": "Bearer x"},
            {},
            ["litellm_params.azure_ad_token: holds spaces or letters outside ASCII; remove them"],
            id="token",
        ),
        pytest.param(
            {},
            {"session": {"voice": "alloy", "model": "m"}, "session_defaults": []},
            [
                "model_info.ringback.session.voice: write it as audio: {output: {voice: NAME}}",
                "model_info.ringback.session.model: the model is litellm_params.model; remove it",
                "model_info.ringback.session_defaults: expected `name: value` lines",
            ],
            id="session",
        ),
        # Pathological
        pytest.param(
            {},
            {"calls_base": "https://user@host"},
            [
                (
                    "model_info.ringback.calls_base: remove user and password from the URL; "
                    "keys have fields of their own"
                )
            ],
            id="calls-base",
        ),
        pytest.param({}, [], ["model_info.ringback: expected `name: value` lines"], id="list"),
    ],
)
def test_every_mistake_is_named(
    tmp_path: Path, params: dict[str, Any], own: Any, problems: list[str]
) -> None:
    """What cannot be, or contradicts the dialect, is said with its place and what to do."""
    assert mistakes(tmp_path, params, own) == problems


def test_azure_identity_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that needs the package says so at the start; keys and tokens need none."""
    monkeypatch.setattr("extauthz.entraentry.find_spec", lambda _name: None)
    hint = "needs the package azure-identity; install ringback[azure]"
    assert mistakes(tmp_path, {"api_key": None, **CLIENT}) == [
        f"model_info.ringback.credential: client_secret {hint}"
    ]
    assert one(tmp_path, {"api_key": None, "azure_ad_token": "t"}).entra is not None
    assert one(tmp_path, {}).entra is None


def test_sessions_are_read_as_they_are(tmp_path: Path) -> None:
    """What operators fix and suggest is any JSON object."""
    session = {"instructions": "Sei höflich.", "tools": [{"type": "function", "name": "f"}]}
    deployment = one(tmp_path, {}, {"session": session, "session_defaults": {"tracing": None}})
    assert json.dumps(deployment.session) == json.dumps(session)
    assert deployment.session_defaults == {"tracing": None}


def test_a_session_lock_is_read(tmp_path: Path) -> None:
    """It is a part of a session, in which bounds may stand."""
    lock = {"tools": [], "audio": {"output": {"speed": {"max": 1.2}}}}
    assert one(tmp_path, {}, {"session_lock": lock}).session_lock == parse_lock(lock)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"voice": "marin"}, ".voice: write it as audio: {output: {voice: NAME}}"),
        ({"model": "m"}, ".model: the model is litellm_params.model; remove it"),
        ({"id": "s"}, ": id: cannot be locked; remove it"),
        ({"max_output_tokens": {"max": "inf"}}, ": max_output_tokens: expected numbers as `min`"),
    ]
    for content, problem in wrong:
        found = mistakes(tmp_path, {}, {"session_lock": content})
        assert found[0].startswith(f"model_info.ringback.session_lock{problem}")


def test_a_session_that_json_cannot_hold_is_a_mistake(tmp_path: Path) -> None:
    """YAML knows infinities; JSON does not."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "model_list:\n- model_name: m\n  litellm_params: {model: openai/x, api_key: k}\n"
        "  model_info: {ringback: {session: {max_output_tokens: .inf}}}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_config(path, {})
    assert "session: holds what JSON has no form for" in refused.value.problems[0]


@pytest.mark.parametrize("word", [*_NAMES, *_CREDENTIALS, *_DIALECTS])
def test_every_setting_has_its_row(word: str) -> None:
    """docs/providers.md explains each setting, dialect and credential in a row of its own."""
    page = (REPOSITORY / "docs" / "providers.md").read_text()
    assert f"\n| `{word}` |" in page or word == "api_key"
    assert f"`{word}`" in page


@pytest.mark.parametrize(
    ("params", "own", "notes"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param(
            {"api_version": "2025-08-28"},
            {"dialect": "azure"},
            ["api_version: not used: Azure's current API (v1) has no versions"],
            id="version",
        ),
        pytest.param(CLIENT, {}, ["client_secret: not used: api_key goes first"], id="secret"),
    ],
)
def test_what_is_not_used_is_noted(
    tmp_path: Path, params: dict[str, Any], own: dict[str, Any], notes: list[str]
) -> None:
    """An operator reads what has no effect."""
    found = [note.partition("litellm_params.")[2] for note in load(tmp_path, params, own).notes]
    assert found == notes
