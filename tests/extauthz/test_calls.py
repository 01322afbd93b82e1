from dataclasses import replace

import pytest

from extauthz.calls import DeploymentGoneError, TokenRefusedError, allow_call
from extauthz.decision import Labels
from extauthz.deployments import Deployment, Origin
from extauthz.providers.base import USER_AGENT
from helpers.authz import AZURE, EPHEMERAL_KEY, NOW, OPENAI
from helpers.authz import CLAIMS as MADE
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims

CLAIMS = replace(MADE, exp=NOW + 600, key_alias="web", team="team-1", user="ada")
# What Envoy hands over of a browser's request.
BROWSER = (
    ":authority",
    ":method",
    ":path",
    ":scheme",
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "dnt",
    "origin",
    "priority",
    "referer",
    "sec-fetch-mode",
    "user-agent",
    "x-forwarded-proto",
    "x-openai-agents-sdk",
    "x-request-id",
)


@pytest.mark.parametrize(
    ("claims", "deployment", "headers"),
    [
        # Realistic
        pytest.param(
            CLAIMS,
            OPENAI,
            {
                ":authority": "api.openai.com",
                ":path": "/v1/realtime/calls",
                "x-ringback-cluster": "upstream_https_api_openai_com_443",
            },
            id="openai",
        ),
        pytest.param(
            replace(
                CLAIMS,
                origin="https://res.openai.azure.com",
                calls_path="/openai/v1/realtime/calls",
            ),
            AZURE,
            {
                ":authority": "res.openai.azure.com",
                ":path": "/openai/v1/realtime/calls",
                "x-ringback-cluster": "upstream_https_res_openai_azure_com_443",
            },
            id="azure",
        ),
        # Synthetic
        pytest.param(
            replace(CLAIMS, origin="http://[::1]:8080", calls_path="/a/v1/realtime/calls?x=1"),
            replace(
                OPENAI,
                origin=Origin("http", "::1", 8080),
                base_path="/moved",
                organization="org-1",
                extra_headers={
                    "x-gateway-key": Secret("g"),
                    "authorization": Secret("configured"),
                    "user-agent": Secret("configured"),
                },
            ),
            {
                ":authority": "[::1]:8080",
                ":path": "/a/v1/realtime/calls?x=1",
                "x-ringback-cluster": "upstream_http___1_8080",
                "x-gateway-key": "g",
            },
            id="behind-a-gateway",
        ),
    ],
)
def test_the_upstream_request_is_set(
    claims: CallClaims, deployment: Deployment, headers: dict[str, str]
) -> None:
    """A call goes to the place that the token names, as the holder of the ephemeral key."""
    allow = allow_call(claims, deployment, BROWSER)
    common = {
        "accept": "application/sdp",
        "authorization": f"Bearer {EPHEMERAL_KEY}",
        "user-agent": USER_AGENT,
    }
    assert {name: value.reveal() for name, value in allow.headers.items()} == common | headers


def test_headers_leave_by_an_allow_list() -> None:
    """Of the caller's headers only those leave that the provider needs; no other is kept."""
    names = (*BROWSER, "openai-safety-identifier", "api-key", "openai-organization", "x-new")
    allow = allow_call(CLAIMS, OPENAI, names)
    assert set(names) - set(allow.removed) - set(allow.headers) == {
        ":method",
        ":scheme",
        "content-length",
        "content-type",
        "x-forwarded-proto",  # the route removes it
        "x-request-id",
    }


def test_what_is_set_is_never_removed() -> None:
    """Envoy removes after it sets, so no name is in both lists; pseudo-headers are in neither."""
    extra = {"x-gateway-key": Secret("g"), "cookie": Secret("configured=1")}
    deployment = replace(OPENAI, extra_headers=extra)
    allow = allow_call(CLAIMS, deployment, (*BROWSER, "x-gateway-key", "api-key"))
    assert not set(allow.removed) & set(allow.headers)
    assert not any(name.startswith(":") for name in allow.removed)
    assert "api-key" in allow.removed
    assert allow.headers["cookie"] == Secret("configured=1")


def test_labels_come_from_the_token() -> None:
    """Logs name whose token it is and where it leads."""
    assert allow_call(CLAIMS, OPENAI, ()).labels == Labels(
        "call", "web", "a" * 64, "team-1", "ada", "voice", "d-openai", "token-1"
    )


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(Origin("https", "eu.api.openai.com", 443), id="host"),
        pytest.param(Origin("http", "api.openai.com", 80), id="scheme"),
        pytest.param(Origin("https", "api.openai.com", 8443), id="port"),
        pytest.param(Origin("https", "api-openai.com", 443), id="same-looking-cluster"),
    ],
)
def test_a_deployment_that_moved_gets_no_key(origin: Origin) -> None:
    """An ephemeral key goes to the origin that minted it and to no other: 401."""
    with pytest.raises(TokenRefusedError):
        allow_call(CLAIMS, replace(OPENAI, origin=origin), BROWSER)


@pytest.mark.parametrize(
    "deployment",
    [pytest.param(None, id="removed"), pytest.param(replace(OPENAI, blocked=True), id="paused")],
)
def test_a_deployment_that_is_gone_gets_no_call(deployment: Deployment | None) -> None:
    """A token whose deployment was removed or paused is refused, and its holder told why: 401."""
    with pytest.raises(DeploymentGoneError) as refused:
        allow_call(CLAIMS, deployment, BROWSER)
    assert refused.value.http_status == 401
    assert refused.value.code == "deployment_gone"
    assert refused.value.headers == {"www-authenticate": "Bearer"}
    assert str(refused.value) == (
        "The token is good, but the deployment that it was made for is not served any more. "
        "Request a new one from POST /v1/realtime/client_secrets."
    )


def test_a_call_shows_no_key() -> None:
    """What is decided about a call can be logged."""
    assert EPHEMERAL_KEY not in repr(allow_call(CLAIMS, OPENAI, BROWSER))


PREVIEW = replace(
    AZURE,
    dialect="azure-preview",
    api_version="2025-04-01-preview",
    calls_origin=Origin("https", "region.test", 443),
)


def test_a_call_goes_to_the_origin_of_calls() -> None:
    """Where offers go to another host than mints, the token holds that one, and no other."""
    claims = replace(
        CLAIMS, origin="https://region.test", calls_path="/v1/realtimertc?model=my-deployment"
    )
    allow = allow_call(claims, PREVIEW, BROWSER, query="webrtcfilter=on")
    sent = {name: value.reveal() for name, value in allow.headers.items()}
    assert sent[":authority"] == "region.test"
    assert sent[":path"] == claims.calls_path
    assert sent["x-ringback-cluster"] == "upstream_https_region_test_443"
    with pytest.raises(DeploymentGoneError):
        allow_call(replace(claims, origin=str(PREVIEW.origin)), PREVIEW, BROWSER)


def test_an_identifier_is_sent_as_it_was_checked() -> None:
    """The caller's own header never passes by itself; what is told of the caller is set."""
    names = (*BROWSER, "openai-safety-identifier")
    told = allow_call(CLAIMS, OPENAI, names, identifier=Secret("a-hash"))
    assert told.headers["openai-safety-identifier"] == Secret("a-hash")
    assert "openai-safety-identifier" not in told.removed
    assert "openai-safety-identifier" in allow_call(CLAIMS, OPENAI, names).removed
