from dataclasses import replace

import pytest

from extauthz.deployments import Deployment, Origin
from extauthz.providers import provider_of
from extauthz.providers.base import AuthScheme, credential
from ringback.secrets import Secret

OPENAI = Deployment(
    "d1", "voice", "openai", "gpt-realtime", Origin("https", "api.openai.com", 443), "", Secret("K")
)
AZURE = replace(OPENAI, provider="azure", origin=Origin("https", "r.openai.azure.com", 443))
JSON = {"accept": "application/json", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("deployment", "authority", "mint_path", "headers", "calls_path"),
    [
        # Realistic
        pytest.param(
            OPENAI,
            "api.openai.com",
            "/v1/realtime/client_secrets",
            {"authorization": "Bearer K"},
            "/v1/realtime/calls",
            id="openai",
        ),
        pytest.param(
            replace(OPENAI, organization="org-1", project="proj_1"),
            "api.openai.com",
            "/v1/realtime/client_secrets",
            {
                "authorization": "Bearer K",
                "openai-organization": "org-1",
                "openai-project": "proj_1",
            },
            "/v1/realtime/calls",
            id="openai-organization",
        ),
        pytest.param(
            AZURE,
            "r.openai.azure.com",
            "/openai/v1/realtime/client_secrets",
            {"api-key": "K"},
            "/openai/v1/realtime/calls",
            id="azure",
        ),
        pytest.param(
            replace(
                AZURE,
                origin=Origin("https", "apim.test", 8443),
                base_path="/eu",
                extra_headers={"ocp-apim-subscription-key": Secret("S")},
            ),
            "apim.test:8443",
            "/eu/openai/v1/realtime/client_secrets",
            {"api-key": "K", "ocp-apim-subscription-key": "S"},
            "/eu/openai/v1/realtime/calls",
            id="azure-behind-a-gateway",
        ),
        # Synthetic
        pytest.param(
            replace(OPENAI, base_path="/a/b", extra_headers={"authorization": Secret("mine")}),
            "api.openai.com",
            "/a/b/v1/realtime/client_secrets",
            {"authorization": "Bearer K"},
            "/a/b/v1/realtime/calls",
            id="extra-headers-replace-nothing",
        ),
        pytest.param(
            replace(AZURE, organization="org-1", project="proj_1"),
            "r.openai.azure.com",
            "/openai/v1/realtime/client_secrets",
            {"api-key": "K"},
            "/openai/v1/realtime/calls",
            id="azure-has-no-organization",
        ),
    ],
)
def test_upstream_requests_are_exact(
    deployment: Deployment,
    authority: str,
    mint_path: str,
    headers: dict[str, str],
    calls_path: str,
) -> None:
    """The mint request has these headers and no others; calls show the ephemeral key as bearer."""
    provider = provider_of(deployment)
    request = provider.mint_request(deployment)
    assert request.origin.authority == authority
    assert request.path == mint_path
    assert {name: value.reveal() for name, value in request.headers.items()} == JSON | headers
    assert provider.calls_path(deployment) == calls_path
    assert provider.CALLS_AUTH_SCHEME == "bearer"


def test_a_request_shows_no_key() -> None:
    """A mint request can be logged."""
    request = provider_of(OPENAI).mint_request(replace(OPENAI, api_key=Secret("sk-marker")))
    assert "sk-marker" not in f"{request!r}{request}"


@pytest.mark.parametrize(
    ("scheme", "name", "value"),
    [("bearer", "authorization", "Bearer ek_1"), ("api-key", "api-key", "ek_1")],
)
def test_a_credential_is_one_header(scheme: AuthScheme, name: str, value: str) -> None:
    """A scheme gives the header that shows a key."""
    assert credential(scheme, Secret("ek_1")) == (name, Secret(value))
