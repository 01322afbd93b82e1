from pathlib import Path
from typing import Any

import pytest

from extauthz.configuration import load_configuration
from extauthz.deployments import Origin
from extauthz.errors import ConfigError
from helpers.authz import settings, write_config

ENTRY = {"model_name": "voice", "litellm_params": {"model": "openai/x", "api_key": "sk-up"}}
OPENAI = Origin("https", "api.openai.com", 443)
OIDC = {"issuer": "https://id.example", "audience": ["ringback"]}


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        pytest.param({}, set(), id="none"),
        pytest.param(
            {"litellm": {"url": "https://litellm.example/base/", "admin_key": "sk-admin"}},
            {Origin("https", "litellm.example", 443)},
            id="litellm",
        ),
        pytest.param(
            {"oidc": {**OIDC, "jwks_url": "http://id.internal:8080/certs"}},
            {Origin("http", "id.internal", 8080)},
            id="oidc",
        ),
    ],
)
def test_envoy_has_a_cluster_for_each_service(
    tmp_path: Path, given: dict[str, Any], origins: set[Origin]
) -> None:
    """What the settings name is announced beside the providers."""
    write_config(tmp_path / "config.yaml", ENTRY)
    configuration = load_configuration(settings(config_file=tmp_path / "config.yaml", **given))
    assert configuration.services == origins
    assert configuration.origins == origins | {OPENAI}


def test_a_service_that_cannot_be_reached_stops_the_start(tmp_path: Path) -> None:
    """The setting is named, its value is not."""
    write_config(tmp_path / "config.yaml", ENTRY)
    litellm = {"url": "https://user:secret@litellm.example", "admin_key": "sk-admin"}
    with pytest.raises(ConfigError) as refused:
        load_configuration(settings(config_file=tmp_path / "config.yaml", litellm=litellm))
    assert refused.value.problems == [
        "litellm.url: remove user and password from the URL; keys have fields of their own"
    ]
