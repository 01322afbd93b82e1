from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from extauthz.admission import Admission
from extauthz.decision import Allow, Answer, Decision, RequestFacts
from extauthz.deployments import Deployment
from extauthz.endpoints.websocket import WebSockets
from extauthz.gate import Gate
from extauthz.keys import MasterKeySource, hash_key
from extauthz.ownership import Callers
from extauthz.providers import provider_of
from extauthz.safety import SafetyIdentifiers
from extauthz.tokenguard import TokenGuard
from helpers.authz import AZURE, CLAIMS, NOW, OPENAI, Clock, configuration, sealer
from ringback.secrets import Secret
from ringback.sessionlock import parse_lock
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer

MASTER = Secret("sk-master-of-this-test")
TOKENS = sealer()
HANDLES = handle_sealer(TokenSettings(secret=Secret("0123456789abcdef")), {})
WILDCARD = replace(OPENAI, model_name="openai/*", upstream_model="*")


async def key_headers(deployment: Deployment) -> Any:
    """Return what opens a deployment that has a key."""
    return provider_of(deployment).key_headers(deployment)


async def decide(
    request: RequestFacts,
    deployments: Sequence[Deployment] = (OPENAI, AZURE),
    aliases: dict[str, str] | None = None,
    safety: SafetyIdentifiers | None = None,
) -> Decision:
    """Return the decision about a handshake."""
    current = configuration(MasterKeySource(MASTER), deployments=deployments, aliases=aliases)
    admission = Admission(lambda: current, Clock())
    tokens = TokenGuard(TOKENS, Clock())
    callers = Callers(lambda _: current, admission, tokens, HANDLES, Clock())
    endpoint = WebSockets(
        lambda _: current,
        callers,
        admission=admission,
        tokens=tokens,
        key_headers=key_headers,
        origins=[],
        safety=safety or SafetyIdentifiers(),
        choose=lambda found: found[0],
    )
    return await Gate([endpoint]).decide(request)


def handshake(credential: str, query: str = "", **headers: str) -> RequestFacts:
    """Return a handshake."""
    lines = {"upgrade": "websocket", "authorization": f"Bearer {credential}", **headers}
    return RequestFacts("GET", "/v1/realtime", lines, b"", query)


def token(**claims: Any) -> str:
    """Return a token of the master key for `OPENAI`."""
    made = replace(CLAIMS, ek=Secret("ek_of_the_provider"), key_hash=hash_key(MASTER), **claims)
    return TOKENS.seal(made.to_claims(), NOW)


@pytest.mark.parametrize(
    ("deployments", "aliases", "claims", "expected"),
    [
        # Realistic
        pytest.param([OPENAI], {}, {}, "/v1/realtime?model=gpt-realtime", id="plain"),
        pytest.param(
            [OPENAI],
            {"talk": "voice"},
            {"asked": "talk"},
            "/v1/realtime?model=gpt-realtime",
            id="alias",
        ),
        pytest.param(
            [OPENAI, AZURE],
            {"talk": "azure-voice"},
            {"asked": "talk"},
            "/v1/realtime?model=gpt-realtime",
            id="alias-that-moved-on",
        ),
        pytest.param(
            [WILDCARD],
            {},
            {"model": "openai/gpt-realtime-2"},
            "/v1/realtime?model=gpt-realtime-2",
            id="wildcard",
        ),
        # Synthetic
        pytest.param([AZURE], {}, {}, None, id="gone"),
        pytest.param([replace(OPENAI, blocked=True)], {}, {}, None, id="paused"),
    ],
)
async def test_token_names_its_model(
    deployments: list[Deployment],
    aliases: dict[str, str],
    claims: dict[str, Any],
    expected: str | None,
) -> None:
    """The upstream's name of the model is that of the deployment which minted the token."""
    decision = await decide(handshake(token(**claims)), deployments, aliases)
    if expected is None:
        assert isinstance(decision, Answer)
        assert decision.status == 401
        return
    assert isinstance(decision, Allow), decision
    assert decision.headers[":path"].reveal() == expected
    assert decision.headers["authorization"].reveal() == "Bearer ek_of_the_provider"


@pytest.mark.parametrize("credential", ["key", "token"])
async def test_a_locked_session_is_no_websocket(credential: str) -> None:
    """Nobody reads its frames, so nobody could hold the lock: 403, whatever opens it."""
    locked = replace(OPENAI, session_lock=parse_lock({"tools": []}))
    with_key = handshake(MASTER.reveal(), "model=voice")
    request = with_key if credential == "key" else handshake(token())
    decision = await decide(request, [locked])
    assert isinstance(decision, Answer)
    assert (decision.status, decision.labels.outcome) == (403, "session_locked")
    assert isinstance(await decide(request, [OPENAI]), Allow)
    with_key = handshake(MASTER.reveal(), "model=voice&intent=transcription")
    with_token = handshake(token(session_type="transcription"))
    request = with_key if credential == "key" else with_token
    assert isinstance(await decide(request, [locked]), Allow)


async def test_safety_identifier_is_passed_on() -> None:
    """The caller's own goes upstream if it can, and a malformed one is 400."""
    request = handshake(MASTER.reveal(), "model=voice", **{"openai-safety-identifier": "a-hash"})
    decision = await decide(request)
    assert isinstance(decision, Allow)
    assert decision.headers["openai-safety-identifier"].reveal() == "a-hash"
    request = handshake(MASTER.reveal(), "model=voice", **{"openai-safety-identifier": "a b"})
    decision = await decide(request)
    assert isinstance(decision, Answer)
    assert (decision.status, decision.labels.outcome) == (400, "safety_identifier_invalid")
