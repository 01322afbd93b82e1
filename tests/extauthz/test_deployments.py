from dataclasses import FrozenInstanceError, replace

import pytest

from extauthz.deployments import Deployment, Origin
from ringback.secrets import Secret

OPENAI = Origin("https", "api.openai.com", 443)
AZURE = Origin("https", "r.openai.azure.com", 443)
VOICE = Deployment("d1", "voice", "openai", "gpt-realtime", OPENAI, "", Secret("sk-one"))


@pytest.mark.parametrize(
    ("origin", "text", "authority", "cluster"),
    [
        # Realistic
        pytest.param(
            OPENAI,
            "https://api.openai.com",
            "api.openai.com",
            "upstream_https_api_openai_com_443",
            id="openai",
        ),
        pytest.param(
            Origin("http", "127.0.0.1", 8080),
            "http://127.0.0.1:8080",
            "127.0.0.1:8080",
            "upstream_http_127_0_0_1_8080",
            id="emulator",
        ),
        # Synthetic
        pytest.param(
            Origin("http", "gw", 80), "http://gw", "gw", "upstream_http_gw_80", id="http-default"
        ),
        pytest.param(
            Origin("https", "gw", 80), "https://gw:80", "gw:80", "upstream_https_gw_80", id="odd"
        ),
        pytest.param(
            Origin("https", "::1", 443), "https://[::1]", "[::1]", "upstream_https___1_443", id="v6"
        ),
    ],
)
def test_an_origin_names_itself(origin: Origin, text: str, authority: str, cluster: str) -> None:
    """An origin gives its URL, its Host header and its cluster; default ports are left out."""
    assert str(origin) == text
    assert origin.authority == authority
    assert origin.cluster == cluster


def test_a_deployment_shows_no_key() -> None:
    """A deployment can be logged, compared and hashed, and never changes."""
    deployment = replace(VOICE, extra_headers={"x-key": Secret("sk-two")})
    assert "sk-" not in repr(deployment)
    assert deployment == replace(deployment)
    assert hash(deployment) == hash(replace(deployment))
    with pytest.raises(FrozenInstanceError):
        deployment.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("upstream_model", "mode", "is_realtime"),
    [
        ("gpt-realtime", None, True),
        ("gpt-4o-Realtime-preview", None, True),
        ("gpt-realtime", "chat", True),
        ("my-voice", "realtime", True),
        ("my-voice", None, False),
        ("gpt-4o", "chat", False),
    ],
)
def test_realtime_is_said_by_mode_or_name(
    upstream_model: str, mode: str | None, is_realtime: bool
) -> None:
    """A deployment is realtime by its mode, or by the name of its upstream model."""
    deployment = replace(VOICE, upstream_model=upstream_model, mode=mode)
    assert deployment.is_realtime is is_realtime
