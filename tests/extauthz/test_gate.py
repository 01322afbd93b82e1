import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from extauthz.decision import Allow, Answer, Decision, Labels, RequestFacts
from extauthz.deployments import Deployment, Origin
from extauthz.egress import Egress
from extauthz.endpoints.ready import Ready
from extauthz.errors import KeySourceUnavailableError
from extauthz.gate import Gate
from extauthz.keys import KeyQuery, MasterKeySource, VirtualKey, hash_key
from extauthz.keys.keyfile import KeyFileSource, save_keys
from helpers.authz import (
    AZURE,
    EPHEMERAL_KEY,
    NOW,
    OPENAI,
    Clock,
    configuration,
    gate,
    request,
    sealer,
    settings,
)
from helpers.authz import minter as make_minter
from helpers.listener import Listener, listening
from ringback.contract import CALLS_PATHS, CLIENT_SECRETS_PATHS
from ringback.secrets import Secret

MINT = "/v1/realtime/client_secrets"
CALLS = "/v1/realtime/calls"
RAW_KEY = "sk-web-0123456789"
MASTER = "sk-master-0123456789"
WEB = VirtualKey(hash_key(Secret(RAW_KEY)), alias="web", team="team-1", user="ada")
SEALER = sealer()


class House:
    """A gate with a key file, a clock and a provider that mints."""

    def __init__(self, listener: Listener, egress: Egress, folder: Path) -> None:
        self.listener = listener
        self.clock = Clock()
        self.path = folder / "keys.yaml"
        save_keys(self.path, [WEB])
        self.keys = KeyFileSource(self.path)
        self.master = MasterKeySource(Secret(MASTER))
        self.configuration = configuration(self.master, self.keys)
        minter = make_minter(egress, SEALER, settings(), self.clock)
        self.gate = gate(lambda: self.configuration, minter, SEALER, self.clock)

    def set_keys(self, *keys: VirtualKey) -> None:
        """Replace what the key file holds."""
        save_keys(self.path, keys)
        self.keys.reload()

    def serve(self, *deployments: Deployment, **aliases: str) -> None:
        """Replace the deployments and aliases."""
        self.configuration = configuration(
            self.master, self.keys, deployments=deployments, aliases=aliases
        )

    async def mint(self, credential: str | None = RAW_KEY, body: bytes = b"{}") -> Answer:
        """Ask for a token; the provider would mint."""
        self.listener.turns.clear()
        content = {"value": EPHEMERAL_KEY, "expires_at": NOW + 600}
        self.listener.reply(200, json.dumps(content).encode())
        answer = await self.gate.decide(request(MINT, credential, body))
        assert isinstance(answer, Answer)
        return answer

    async def token(self, **arguments: Any) -> str:
        """Return a good token."""
        answer = await self.mint(**arguments)
        assert answer.status == 200, answer.body
        token: str = json.loads(answer.body)["value"]
        return token

    async def call(self, token: str | None) -> Decision:
        """Ask to open a call."""
        return await self.gate.decide(request(CALLS, token, content_type="application/sdp"))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Build the house; its provider listens on loopback."""
    async with listening() as listener:
        egress = Egress.through(listener.url)
        yield House(listener, egress, tmp_path)
        await egress.close()


def error_of(decision: Decision) -> tuple[int, str]:
    """Return status and code of a refusal."""
    assert isinstance(decision, Answer)
    return decision.status, json.loads(decision.body)["error"]["code"]


# --- client_secrets


async def test_a_key_gets_a_token_and_the_token_a_call(house: House) -> None:
    """A key mints a token, and the token opens a call at the deployment that minted it."""
    answer = await house.mint()
    assert answer.labels.outcome == "minted"
    allow = await house.call(json.loads(answer.body)["value"])
    assert isinstance(allow, Allow)
    assert allow.headers["authorization"] == Secret(f"Bearer {EPHEMERAL_KEY}")
    assert allow.headers[":authority"] == Secret("api.openai.com")
    assert allow.labels == replace(answer.labels, outcome="call")


@pytest.mark.parametrize("step_s", [-5, -1, 1, 5, 60])
async def test_a_step_of_the_clock_costs_nothing(house: House, step_s: int) -> None:
    """A clock that is set back by the leeway, or ahead, right after a mint: the token is good."""
    token = await house.token()
    house.clock.now += step_s
    assert isinstance(await house.call(token), Allow)
    assert (await house.mint()).status == 200


async def test_the_master_key_may_do_everything(house: House) -> None:
    """The master key mints and calls without being in the key file."""
    answer = await house.mint(MASTER)
    assert answer.labels.key_alias == "master"
    assert isinstance(await house.call(json.loads(answer.body)["value"]), Allow)


@pytest.mark.parametrize(
    ("credential", "key", "code"),
    [
        pytest.param(None, WEB, "key_missing", id="none"),
        pytest.param("sk-a,sk-b", WEB, "key_malformed", id="two"),
        pytest.param("sk-unknown", WEB, "key_unknown", id="unknown"),
        pytest.param(WEB.hash, WEB, "key_unknown", id="hash-of-a-key"),
        pytest.param(RAW_KEY, replace(WEB, blocked=True), "key_blocked", id="blocked"),
    ],
)
async def test_a_key_that_is_not_accepted(
    house: House, credential: str | None, key: VirtualKey, code: str
) -> None:
    """Without a valid key the answer is 401, whatever the body is, and nothing goes upstream."""
    house.set_keys(key)
    answer = await house.mint(credential, b"not even JSON")
    assert error_of(answer) == (401, code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.labels == Labels(code)
    assert house.listener.requests == []


async def test_a_key_expires_to_the_second(house: House) -> None:
    """A key is good until its expiry, and no longer from that moment on."""
    house.set_keys(expiring_key(NOW + 60))
    house.clock.now = NOW + 59.999
    assert (await house.mint()).status == 200
    house.clock.now = NOW + 60
    assert error_of(await house.mint()) == (401, "key_expired")


def expiring_key(at: int) -> VirtualKey:
    """Return the key with an expiry."""
    return replace(WEB, expires=datetime.fromtimestamp(at, UTC))


@pytest.mark.parametrize(
    ("models", "body", "status", "code"),
    [
        # Realistic
        pytest.param((), b'{"model":"voice"}', 200, None, id="any-model"),
        pytest.param(("voice",), b'{"session":{"model":"voice"}}', 200, None, id="its-model"),
        pytest.param(("azure-voice",), b'{"model":"voice"}', 403, "model_denied", id="other-model"),
        pytest.param((), b'{"model":"gpt-9"}', 400, "model_unknown", id="unknown-model"),
        pytest.param((), b'{"model":', 400, "invalid_body", id="bad-body"),
        pytest.param((), b"{}", 400, "model_required", id="two-realtime-models"),
        # Synthetic
        pytest.param(("fast",), b'{"model":"fast"}', 200, None, id="its-alias"),
        pytest.param(("voice",), b'{"model":"fast"}', 200, None, id="target-of-an-alias"),
        pytest.param(("fast",), b'{"model":"voice"}', 403, "model_denied", id="alias-only"),
        pytest.param(
            ("voice",), b'{"model":"gpt-9"}', 403, "model_denied", id="denied-before-unknown"
        ),
        pytest.param(
            ("gpt-9",), b'{"model":"gpt-9"}', 400, "model_unknown", id="allowed-and-unknown"
        ),
        pytest.param(("*",), b'{"model":"voice"}', 200, None, id="star"),
        pytest.param(
            ("voice",), b'{"voice":1,"model":"x"}', 400, "invalid_body", id="body-before-model"
        ),
    ],
)
async def test_models_are_resolved_and_checked(
    house: House, models: tuple[str, ...], body: bytes, status: int, code: str | None
) -> None:
    """First the body is checked, then whether the key may, then whether the model exists."""
    house.serve(OPENAI, AZURE, fast="voice")
    house.set_keys(replace(WEB, models=models))
    answer = await house.mint(body=body)
    assert answer.status == status
    assert answer.labels.key_alias == "web"
    if code is None:
        assert answer.labels.model == "voice"
        return
    assert error_of(answer) == (status, code)
    assert answer.labels == Labels(code, "web", WEB.hash, "team-1", "ada")
    assert house.listener.requests == []


async def test_the_only_realtime_model_is_the_default(house: House) -> None:
    """A body without a model means the only realtime model, if there is exactly one."""
    chat = replace(OPENAI, id="d-chat", model_name="chat", upstream_model="gpt-4o", mode="chat")
    house.serve(OPENAI, chat)
    assert (await house.mint(body=b"")).labels.model == "voice"
    house.serve(chat)
    assert error_of(await house.mint(body=b"")) == (400, "model_required")
    house.set_keys(replace(WEB, models=("chat",)))
    house.serve(OPENAI, chat)
    assert error_of(await house.mint(body=b"")) == (403, "model_denied")


async def test_a_refusal_names_the_deployment(house: House) -> None:
    """Logs of a mint that failed upstream say where."""
    house.listener.reply(500, b"")
    answer = await house.gate.decide(request(MINT, RAW_KEY))
    assert error_of(answer) == (502, "upstream_failed")
    assert answer.labels == Labels(
        "upstream_failed", "web", WEB.hash, "team-1", "ada", "voice", "d-openai"
    )


async def test_a_providers_code_is_no_outcome(house: House) -> None:
    """What a provider calls its error is told to the caller, and is no label."""
    house.listener.reply(400, b'{"error":{"message":"m","code":"anything at all"}}')
    answer = await house.gate.decide(request(MINT, RAW_KEY))
    assert error_of(answer) == (400, "anything at all")
    assert answer.labels.outcome == "upstream_refused_request"


async def test_a_safety_identifier_passes(house: House) -> None:
    """The caller's OpenAI-Safety-Identifier reaches the provider, an odd one is 400."""
    house.listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
    await house.gate.decide(request(MINT, RAW_KEY, openai_safety_identifier="5f70"))
    assert house.listener.requests[0].header("openai-safety-identifier") == "5f70"
    answer = await house.gate.decide(request(MINT, RAW_KEY, openai_safety_identifier="a,b"))
    assert error_of(answer) == (400, "safety_identifier_invalid")


# --- calls


async def test_every_bad_token_is_the_same(house: House) -> None:
    """Reasons to refuse a token cannot be told apart, but for a good one's deployment's end."""
    good = await house.token()
    foreign = sealer("another-secret-0123").seal({"iat": NOW, "exp": NOW + 9}, NOW)
    other_claims = SEALER.seal({"iat": NOW, "exp": NOW + 600, "ek": "x"}, NOW)
    expired = SEALER.seal({"iat": NOW - 9, "exp": NOW + 1}, NOW)
    house.clock.now = NOW + 1
    bad = [
        None,
        EPHEMERAL_KEY,
        "ek_",
        f"ek_{good}",
        good[:-1],
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        f"{good},{good}",
        foreign,
        other_claims,
        expired,
        "ek_" + "A" * 9000,
    ]
    answers = [await house.call(token) for token in bad]
    for reason in ("blocked", "deleted", "expired", "restricted"):
        await revoke(house, reason)
        answers.append(await house.call(good))
    assert len(answers) == len(bad) + 4
    assert all(answer == answers[0] for answer in answers)
    assert error_of(answers[0]) == (401, "token_invalid")


async def revoke(house: House, reason: str) -> None:
    """Make every token that was minted bad, for one reason only."""
    house.set_keys(WEB)
    house.serve(OPENAI)
    match reason:
        case "blocked":
            house.set_keys(replace(WEB, blocked=True))
        case "deleted":
            house.set_keys()
        case "expired":
            house.set_keys(expiring_key(NOW + 1))
        case "restricted":
            house.set_keys(replace(WEB, models=("azure-voice",)))
        case "moved":
            house.serve(replace(OPENAI, origin=Origin("https", "eu.api.openai.com", 443)))
        case "gone":
            house.serve(AZURE)


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        ("blocked", "key", "token_invalid"),
        ("deleted", "key", "token_invalid"),
        ("expired", "key", "token_invalid"),
        ("restricted", "key", "token_invalid"),
        ("moved", "deployment", "deployment_gone"),
        ("gone", "deployment", "deployment_gone"),
    ],
)
async def test_a_token_ends_with_its_key_and_deployment(
    house: House, change: str, reason: str, code: str
) -> None:
    """A token opens calls as long as its key could mint it again at its deployment."""
    token = await house.token()
    house.clock.now = NOW + 1
    assert isinstance(await house.call(token), Allow)
    await revoke(house, change)
    before = refusals(reason)
    assert error_of(await house.call(token)) == (401, code)
    assert refusals(reason) == before + 1


@pytest.mark.parametrize(
    ("token", "reason"),
    [(None, "credential"), ("ek_x y", "credential"), ("ek_x", "form")],
)
async def test_why_a_token_is_refused_is_counted(
    house: House, token: str | None, reason: str
) -> None:
    """Operators learn from metrics what callers do not learn from answers."""
    before = refusals(reason)
    await house.call(token)
    assert refusals(reason) == before + 1


def refusals(reason: str) -> float:
    """Return how many tokens were refused for this reason."""
    return REGISTRY.get_sample_value("ringback_tokens_refused_total", {"reason": reason}) or 0


async def test_a_token_of_an_alias_survives(house: House) -> None:
    """A key that may use an alias only may also use the tokens that it minted with it."""
    house.serve(OPENAI, fast="voice")
    house.set_keys(replace(WEB, models=("fast",)))
    token = await house.token(body=b'{"model":"fast"}')
    assert isinstance(await house.call(token), Allow)
    house.serve(OPENAI)
    assert error_of(await house.call(token)) == (401, "token_invalid")


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://app.example", True),
        ("https://evil.example", False),
        ("null", False),
        ("https://app.example,https://app.example", False),
        (None, False),
    ],
)
async def test_a_bound_token_is_its_origins_alone(
    house: House, origin: str | None, is_allowed: bool
) -> None:
    """A token that names an Origin opens calls for pages from there and for nobody else."""
    opened = SEALER.open(await house.token(), NOW)
    token = SEALER.seal({**opened, "bnd": "https://app.example"}, NOW)
    asked = request(CALLS, token, content_type="application/sdp")
    if origin is not None:
        asked = replace(asked, headers={**asked.headers, "origin": origin})
    before = refusals("origin")
    decision = await house.gate.decide(asked)
    assert isinstance(decision, Allow) is is_allowed
    assert refusals("origin") == before + (not is_allowed)
    if not is_allowed:
        assert error_of(decision) == (401, "token_invalid")


async def test_a_token_expires_to_the_second(house: House) -> None:
    """A token is good until its expiry, and no longer from that second on."""
    token = await house.token()
    house.clock.now = NOW + 599.999
    assert isinstance(await house.call(token), Allow)
    house.clock.now = NOW + 600
    assert error_of(await house.call(token)) == (401, "token_invalid")


async def test_a_token_opens_several_calls(house: House) -> None:
    """As at the providers, a token is good for several calls until it expires."""
    token = await house.token()
    for _ in range(3):
        assert isinstance(await house.call(token), Allow)
    assert len(house.listener.requests) == 1


async def test_a_token_stays_with_its_deployment(house: House) -> None:
    """Of several deployments of one group, the one that minted gets the call."""
    other = replace(OPENAI, id="d-2", origin=Origin("https", "eu.api.openai.com", 443))
    house.serve(OPENAI, other)
    for _ in range(8):
        answer = await house.mint()
        allow = await house.call(json.loads(answer.body)["value"])
        assert isinstance(allow, Allow)
        assert allow.labels.deployment == answer.labels.deployment
        host = {"d-openai": "api.openai.com", "d-2": "eu.api.openai.com"}
        assert allow.headers[":authority"].reveal() == host[answer.labels.deployment or ""]


class Silent:
    """A key source that cannot be asked."""

    async def find(self, query: KeyQuery) -> VirtualKey | None:  # noqa: ARG002  a KeySource
        """Fail, as a database that is down does."""
        raise KeySourceUnavailableError


async def test_a_silent_key_source_is_no_verdict(house: House) -> None:
    """If nobody can tell whether a key is good, both endpoints answer 503, never 401 or yes."""
    token = await house.token()
    house.configuration = configuration(Silent())
    assert error_of(await house.mint()) == (503, "key_source_unavailable")
    assert error_of(await house.call(token)) == (503, "key_source_unavailable")


# --- everything else


@pytest.mark.parametrize("path", sorted(CLIENT_SECRETS_PATHS))
async def test_client_secrets_is_served_under_each_prefix(house: House, path: str) -> None:
    """OpenAI's path, the short one and Azure's mean the same."""
    house.listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
    answer = await house.gate.decide(request(path, RAW_KEY))
    assert answer.labels.outcome == "minted"


@pytest.mark.parametrize("path", sorted(CALLS_PATHS))
async def test_calls_is_served_under_each_prefix(house: House, path: str) -> None:
    """OpenAI's path, the short one and Azure's mean the same."""
    decision = await house.gate.decide(request(path, await house.token()))
    assert decision.labels.outcome == "call"


async def test_readiness_needs_no_key(house: House) -> None:
    """A gate that can answer is ready."""
    assert await house.gate.decide(request("/readyz", None, method="GET")) == Allow(Labels("ready"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/realtime/client_secrets/"),
        ("POST", "/V1/realtime/client_secrets"),
        ("POST", ""),
        ("GET", "/v1/realtime/client_secrets"),
        ("GET", "/v1/realtime/calls"),
        ("OPTIONS", "/v1/realtime/calls"),
        ("post", "/v1/realtime/calls"),
        ("POST", "/readyz"),
        ("", "/readyz"),
    ],
)
async def test_nothing_else_is_served(house: House, method: str, path: str) -> None:
    """Any other path or method is 404, also with the best of keys: no route of Envoy is trusted."""
    for credential in (MASTER, await house.token()):
        answer = await house.gate.decide(request(path, credential, method=method))
        assert error_of(answer) == (404, "not_found")


async def test_decisions_are_counted(house: House) -> None:
    """Each decision counts by endpoint and outcome; neither is of the caller's choosing."""
    cases: list[tuple[str, str, Callable[[], Awaitable[Decision]]]] = [
        ("client_secrets", "minted", house.mint),
        ("client_secrets", "key_unknown", lambda: house.mint("sk-unknown")),
        ("calls", "token_invalid", lambda: house.call("ek_x")),
        ("ready", "ready", lambda: house.gate.decide(request("/readyz", None, method="GET"))),
        ("other", "not_found", lambda: house.gate.decide(request("/x", None))),
    ]
    for endpoint, outcome, decide in cases:
        labels = {"endpoint": endpoint, "outcome": outcome}
        name = "ringback_authz_decisions_total"
        before = REGISTRY.get_sample_value(name, labels) or 0
        await decide()
        assert REGISTRY.get_sample_value(name, labels) == before + 1


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        # Realistic
        pytest.param("https://app.example.com", "https://app.example.com", id="exact"),
        pytest.param("http://localhost:3000", "http://localhost:3000", id="any-port"),
        pytest.param(None, None, id="no-page"),
        # Synthetic
        pytest.param("https://app.example.com:8443", None, id="another-port"),
        # Pathological
        pytest.param("https://app.example.com.evil.example", None, id="longer"),
        pytest.param("https://app.example.com,https://app.example.com", None, id="repeated"),
    ],
)
async def test_consent_names_the_page_that_may_read(origin: str | None, named: str | None) -> None:
    """A request that goes on takes its Origin along, if CORS allows it."""
    gate = Gate([Ready()], ["https://app.example.com", "http://localhost:*"])
    headers = {} if origin is None else {"origin": origin}
    decision = await gate.decide(RequestFacts("GET", "/readyz", headers))
    assert decision == Allow(Labels("ready", allowed_origin=named))
