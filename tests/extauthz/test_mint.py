import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from extauthz.admission import Admitted
from extauthz.decision import Answer, Labels
from extauthz.deployments import Deployment, Origin
from extauthz.egress import Egress
from extauthz.keys import VirtualKey
from extauthz.mintbody import parse_mint_request
from extauthz.providers.base import USER_AGENT
from extauthz.safety import InvalidSafetyIdentifierError
from helpers.authz import AZURE, EPHEMERAL_KEY, NOW, OPENAI, Clock, sealer, settings
from helpers.authz import minter as make_minter
from helpers.listener import Listener, listening
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims

KEY = VirtualKey("a" * 64, alias="web", team="team-1", user="ada")
SEALER = sealer()
BODY = b'{"session":{"type":"realtime","instructions":"Be kind."}}'


class Setup:
    """A minter, and the listener that its requests go to."""

    def __init__(self, listener: Listener, egress: Egress, clock: Clock) -> None:
        self.listener = listener
        self.egress = egress
        self.clock = clock

    async def mint(
        self,
        deployment: Deployment = OPENAI,
        *,
        body: bytes = BODY,
        key: VirtualKey = KEY,
        safety_identifier: str | None = None,
        **values: Any,
    ) -> Answer:
        """Mint once, with these settings."""
        minter = make_minter(self.egress, SEALER, settings(**values), self.clock)
        admitted = Admitted(key, deployment.model_name, (deployment,))
        return await minter.mint(parse_mint_request(body), admitted, safety_identifier)

    def provider_answers(self, **fields: Any) -> None:
        """Let the provider mint, with these fields besides the key."""
        self.listener.reply(200, json.dumps({"value": EPHEMERAL_KEY} | fields).encode())


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    """Run the listener and a client for it."""
    async with listening() as listener:
        egress = Egress.through(listener.url)
        yield Setup(listener, egress, Clock())
        await egress.close()


def opened(answer: Answer, now: float = NOW) -> CallClaims:
    """Return what the token in an answer says."""
    return CallClaims.from_claims(SEALER.open(json.loads(answer.body)["value"], now))


COMMON = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "content-type": "application/json",
    "user-agent": USER_AGENT,
}


@pytest.mark.parametrize(
    ("deployment", "target", "headers", "model"),
    [
        # Realistic
        pytest.param(
            OPENAI,
            "/v1/realtime/client_secrets",
            {
                "host": "api.openai.com",
                "authorization": "Bearer sk-upstream-openai",
                "x-ringback-cluster": "upstream_https_api_openai_com_443",
            },
            "gpt-realtime",
            id="openai",
        ),
        pytest.param(
            AZURE,
            "/openai/v1/realtime/client_secrets",
            {
                "host": "res.openai.azure.com",
                "api-key": "azure-upstream-key",
                "x-ringback-cluster": "upstream_https_res_openai_azure_com_443",
            },
            "my-deployment",
            id="azure",
        ),
        # Synthetic
        pytest.param(
            replace(
                OPENAI,
                origin=Origin("http", "::1", 8080),
                base_path="/proxy",
                organization="org-1",
                extra_headers={"x-gateway-key": Secret("g")},
            ),
            "/proxy/v1/realtime/client_secrets",
            {
                "host": "[::1]:8080",
                "authorization": "Bearer sk-upstream-openai",
                "openai-organization": "org-1",
                "x-gateway-key": "g",
                "x-ringback-cluster": "upstream_http___1_8080",
            },
            "gpt-realtime",
            id="behind-a-gateway",
        ),
    ],
)
async def test_the_upstream_request_is_exact(
    setup: Setup, deployment: Deployment, target: str, headers: dict[str, str], model: str
) -> None:
    """A provider receives these headers, no other, and the session with its own model name."""
    setup.provider_answers()
    await setup.mint(deployment)
    (request,) = setup.listener.requests
    sent = (
        b'{"session":{"type":"realtime","instructions":"Be kind.","model":"%s"}}' % model.encode()
    )
    assert request.start_line == f"POST {target} HTTP/1.1"
    assert request.body == sent
    expected = COMMON | headers | {"content-length": str(len(sent))}
    assert sorted(request.headers) == sorted(expected.items())


async def test_a_token_is_handed_out(setup: Setup) -> None:
    """The downstream receives the provider's answer with a token that pins the deployment."""
    setup.provider_answers(expires_at=NOW + 600, session={"id": "sess_1", "model": "gpt-realtime"})
    answer = await setup.mint(AZURE)
    assert answer.status == 200
    assert answer.headers == {"content-type": "application/json", "cache-control": "no-store"}
    content = json.loads(answer.body)
    secret = {"value": content["value"], "expires_at": NOW + 600}
    session = {"id": "sess_1", "model": "gpt-realtime"}
    assert content == {**secret, "session": session, "client_secret": secret}
    claims = opened(answer)
    assert claims == CallClaims(
        jti=claims.jti,
        iat=NOW,
        exp=NOW + 600,
        ek=Secret(EPHEMERAL_KEY),
        deployment="d-azure",
        origin="https://res.openai.azure.com",
        calls_path="/openai/v1/realtime/calls",
        auth_scheme="bearer",
        model="azure-voice",
        key_hash="a" * 64,
        key_alias="web",
        team="team-1",
        user="ada",
        session_type="realtime",
    )
    assert answer.labels == Labels(
        "minted", "web", "a" * 64, "team-1", "ada", "azure-voice", "d-azure", claims.jti
    )
    assert EPHEMERAL_KEY.encode() not in answer.body


async def test_every_token_has_an_id_of_its_own(setup: Setup) -> None:
    """Two tokens of one key differ, also if the provider's answers do not."""
    ids = set()
    for _ in range(2):
        setup.provider_answers()
        ids.add(opened(await setup.mint()).jti)
    assert len(ids) == 2


@pytest.mark.parametrize("status", [200, 201, 202, 299])
async def test_every_success_is_sealed(setup: Setup, status: int) -> None:
    """Any 2xx is sealed, and is 200 for the downstream."""
    setup.listener.reply(status, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
    answer = await setup.mint()
    assert answer.status == 200
    assert EPHEMERAL_KEY.encode() not in answer.body


LATEST = NOW + 7200


@pytest.mark.parametrize(
    ("fields", "values", "expires_at"),
    [
        # Realistic
        pytest.param({"expires_at": NOW + 600}, {}, NOW + 600, id="upstreams"),
        pytest.param({}, {}, LATEST, id="none"),
        pytest.param({"expires_at": None}, {}, LATEST, id="null"),
        pytest.param(
            {"expires_at": NOW + 600}, {"token": {"max_lifetime_s": 60}}, NOW + 60, id="clamped"
        ),
        # Synthetic
        pytest.param({"expires_at": LATEST}, {}, LATEST, id="latest"),
        pytest.param({"expires_at": LATEST + 1}, {}, LATEST, id="too-late"),
        pytest.param({"expires_at": NOW * 1000}, {}, LATEST, id="milliseconds"),
        pytest.param({"expires_at": 10**40}, {}, LATEST, id="far-future"),
        pytest.param({"expires_at": NOW + 1}, {}, NOW + 1, id="one-second"),
        pytest.param({"expires_at": 0}, {}, LATEST, id="zero"),
        pytest.param({"expires_at": "soon"}, {}, LATEST, id="text"),
    ],
)
async def test_a_token_always_expires(
    setup: Setup, fields: dict[str, Any], values: dict[str, Any], expires_at: int
) -> None:
    """A token expires when its ephemeral key does, but never after the longest allowed life."""
    setup.provider_answers(**fields)
    answer = await setup.mint(**values)
    assert json.loads(answer.body)["expires_at"] == expires_at
    assert opened(answer).exp == expires_at


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, 1])
async def test_what_has_expired_is_not_handed_out(setup: Setup, expires_at: int) -> None:
    """An ephemeral key that expired before it arrived is the provider's failure: 502."""
    setup.provider_answers(expires_at=expires_at)
    await refused(setup, 502, "upstream_failed")


async def test_a_token_of_a_second_that_is_almost_over(setup: Setup) -> None:
    """Times are whole seconds; the fraction of now is no reason to refuse."""
    setup.clock.now = NOW + 0.999
    setup.provider_answers(expires_at=NOW + 1)
    assert opened(await setup.mint(), now=NOW + 0.999).exp == NOW + 1


async def refused(setup: Setup, status: int, code: str, **arguments: Any) -> ApiError:
    """Mint and return the error, which has this status and code."""
    with pytest.raises(ApiError) as failed:
        await setup.mint(**arguments)
    assert (failed.value.http_status, failed.value.code) == (status, code)
    return failed.value


def error_body(**error: Any) -> bytes:
    """Return a provider's error."""
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("status", "code", "passed_on"),
    [
        # Realistic
        pytest.param(400, "upstream_refused_request", True, id="bad-request"),
        pytest.param(404, "upstream_refused_request", True, id="no-such-model"),
        pytest.param(422, "upstream_refused_request", True, id="unprocessable"),
        pytest.param(429, "upstream_refused_request", True, id="too-many"),
        pytest.param(401, "upstream_refused", False, id="our-key"),
        pytest.param(403, "upstream_refused", False, id="our-rights"),
        pytest.param(500, "upstream_failed", False, id="failed"),
        pytest.param(503, "upstream_failed", False, id="overloaded"),
        pytest.param(408, "upstream_timeout", False, id="timeout"),
        # Synthetic
        pytest.param(418, "upstream_refused_request", True, id="teapot"),
        pytest.param(499, "upstream_refused_request", True, id="last-of-4xx"),
        pytest.param(407, "upstream_failed", False, id="a-proxy-between"),
        pytest.param(301, "upstream_failed", False, id="redirect"),
        pytest.param(304, "upstream_failed", False, id="not-modified"),
        pytest.param(599, "upstream_failed", False, id="last-of-5xx"),
        pytest.param(600, "upstream_failed", False, id="no-status"),
    ],
)
async def test_a_refusal_of_the_provider(
    setup: Setup, status: int, code: str, passed_on: bool
) -> None:
    """4xx about the caller's request pass with their words; everything else is the gateway's."""
    words = error_body(message="Words.", type="their_type", param="session.x", code="their_code")
    setup.listener.reply(status, words)
    expected = {"upstream_refused": 502, "upstream_failed": 502, "upstream_timeout": 504}
    error = await refused(setup, expected.get(code, status), code)
    assert (error.to_body() == words.replace(b": ", b":").replace(b", ", b",")) is passed_on
    assert passed_on or b"Words" not in error.to_body()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>Not found</html>", id="html"),
        pytest.param(b'{"error":"Token has expired"}', id="error-is-text"),
        pytest.param(b'{"statusCode":404,"message":"Resource not found"}', id="other-shape"),
        pytest.param(b'{"error":{"message":"","type":"","code":""}}', id="empty-fields"),
        pytest.param(b'{"error":{"message":5,"type":[],"code":null}}', id="wrong-types"),
        pytest.param(b"[" * 50_000, id="deep"),
        pytest.param(b"\xff\xfe", id="binary"),
    ],
)
async def test_a_refusal_without_words(setup: Setup, body: bytes) -> None:
    """A 4xx whose body says nothing usable keeps its status, in words of ours."""
    setup.listener.reply(404, body)
    error = await refused(setup, 404, "upstream_refused_request")
    content = json.loads(error.to_body())["error"]
    assert content["type"] == "invalid_request_error"
    assert content["code"] == "upstream_refused_request"
    assert content["message"].startswith("The provider refused the request with status 404")


async def test_a_refusal_with_half_a_character(setup: Setup) -> None:
    """A provider's escaped lone surrogate does not keep its words from the caller."""
    setup.listener.reply(400, b'{"error":{"message":"Odd \\ud800 text","code":"\\udfff"}}')
    error = await refused(setup, 400, "upstream_refused_request")
    assert json.loads(error.to_body())["error"]["message"] == "Odd ? text"


@pytest.mark.parametrize("key", ["sk-upstream-openai", "an-opaque-key-0123"])
async def test_a_refusal_that_quotes_our_key(setup: Setup, key: str) -> None:
    """No words of a provider leave that quote the key which it was sent."""
    setup.listener.reply(400, error_body(message=f"Bad header: Bearer {key} is not a token."))
    deployment = replace(OPENAI, api_key=Secret(key))
    error = await refused(setup, 400, "upstream_refused_request", deployment=deployment)
    assert key.encode() not in error.to_body()


@pytest.mark.parametrize(
    ("value", "passed_on"),
    [("20", {"retry-after": "20"}), ("99999", {"retry-after": "3600"}), ("soon", {})],
)
async def test_retry_after_passes(setup: Setup, value: str, passed_on: dict[str, str]) -> None:
    """A provider's retry-after in seconds reaches the caller, an hour at most."""
    setup.listener.reply(429, error_body(message="Slow down."), ("Retry-After", value))
    error = await refused(setup, 429, "upstream_refused_request")
    assert error.headers == passed_on


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="no-key"),
        pytest.param(b"<html></html>", id="html"),
        pytest.param(b'{"value":"ek_0123456789abc\\r\\nx-evil: 1"}', id="line-break"),
        pytest.param(b'{"value":"short"}', id="short"),
        pytest.param(b'{"value":"1234567890123456","n":1234567890123456}', id="key-in-a-number"),
    ],
)
async def test_a_success_that_cannot_be_used(setup: Setup, body: bytes) -> None:
    """A provider's 2xx without a usable ephemeral key is 502."""
    setup.listener.reply(200, body)
    await refused(setup, 502, "upstream_failed")


@pytest.mark.parametrize(
    ("deployment", "key"),
    [
        pytest.param(replace(OPENAI, model_name="m" * 513), KEY, id="claims"),
        pytest.param(
            OPENAI, replace(KEY, alias="\N{SNOWMAN}" * 512, team="\N{SNOWMAN}" * 512), id="size"
        ),
    ],
)
async def test_what_cannot_be_sealed_is_not_handed_out(
    setup: Setup, deployment: Deployment, key: VirtualKey
) -> None:
    """If no token can say what it would have to say, there is none: 502."""
    setup.provider_answers()
    await refused(setup, 502, "upstream_failed", deployment=deployment, key=key)


@pytest.mark.parametrize(
    "value", ["5f70bf18a086007016e948b04aed3b82", "a", "u:1@x.y/z_~", "x" * 256]
)
async def test_a_safety_identifier_passes(setup: Setup, value: str) -> None:
    """The caller's OpenAI-Safety-Identifier reaches the provider, before the configured one."""
    setup.provider_answers()
    configured = {"openai-safety-identifier": Secret("configured")}
    await setup.mint(replace(OPENAI, extra_headers=configured), safety_identifier=value)
    assert setup.listener.requests[0].values("openai-safety-identifier") == [value]


async def test_an_empty_safety_identifier_is_none(setup: Setup) -> None:
    """An empty header is the same as none."""
    setup.provider_answers()
    await setup.mint(safety_identifier="")
    assert "openai-safety-identifier" not in setup.listener.requests[0].names


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("one,two", id="two-lines"),
        pytest.param("Ada Lovelace", id="space"),
        pytest.param("x\r\nx-evil: 1", id="line-break"),
        pytest.param("x\n", id="line-end"),
        pytest.param("j\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", id="not-ascii"),
        pytest.param("\udcff", id="lone-surrogate"),
        pytest.param("\x7f", id="del"),
        pytest.param("x" * 257, id="long"),
    ],
)
async def test_an_odd_safety_identifier_is_refused(setup: Setup, value: str) -> None:
    """What is not one plain value is 400, quoted nowhere, and nothing goes upstream."""
    error = await refused(setup, 400, "safety_identifier_invalid", safety_identifier=value)
    assert isinstance(error, InvalidSafetyIdentifierError)
    assert json.loads(error.to_body())["error"] == {
        "message": "The OpenAI-Safety-Identifier header cannot be passed on. Send it once, as a "
        "hash of at most 256 ASCII characters without spaces and commas.",
        "type": "invalid_request_error",
        "param": "OpenAI-Safety-Identifier",
        "code": "safety_identifier_invalid",
    }
    assert setup.listener.requests == []


@pytest.mark.parametrize(
    ("deployment_s", "setting_s"),
    [
        pytest.param(None, 0.2, id="setting"),
        pytest.param(0.2, 10, id="deployments-own"),
        pytest.param(60, 0.2, id="never-longer-than-the-setting"),
    ],
)
async def test_a_provider_has_a_deadline(
    setup: Setup, deployment_s: float | None, setting_s: float
) -> None:
    """The shorter of the deployment's timeout and the setting ends a request: 504."""
    error = await refused(
        setup,
        504,
        "upstream_timeout",
        deployment=replace(OPENAI, timeout_s=deployment_s),
        upstream={"mint_timeout_s": setting_s},
    )
    assert len(setup.listener.requests) == 1
    assert error.type == "upstream_error"
