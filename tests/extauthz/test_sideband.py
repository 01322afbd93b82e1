from collections.abc import Collection
from dataclasses import replace

import pytest

from extauthz.admission import Admission
from extauthz.decision import Allow, Answer, Decision, RequestFacts
from extauthz.deployments import Deployment, Origin
from extauthz.egress import Egress
from extauthz.endpoints.sideband import Sideband
from extauthz.entra import EntraTokens, log_in_through
from extauthz.gate import Gate
from extauthz.keys import MasterKeySource, hash_key
from extauthz.ownership import Callers
from extauthz.tokenguard import TokenGuard
from helpers.authz import CLAIMS as MADE
from helpers.authz import NOW, OPENAI, Clock, configuration, sealer
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer
from ringback.tokens.handles import CallHandle, seal_handle

MASTER = Secret("sk-master-of-this-test")
TOKENS = sealer()
HANDLES = handle_sealer(TokenSettings(secret=Secret("0123456789abcdef")), {})
CLAIMS = replace(MADE, ek=Secret("ek_of_the_provider"), key_hash=hash_key(MASTER))
CALL = CallHandle(
    deployment=OPENAI.id,
    call_id="rtc_1",
    key_hash=CLAIMS.key_hash,
    token_id=CLAIMS.jti,
    issued_at=NOW,
)
MOVED = replace(OPENAI, origin=Origin("https", "elsewhere.example", 443))


async def join(deployment: Deployment, with_token: Collection[str]) -> Decision:
    """Return the decision about a sideband with the token that made the call."""
    current = configuration(MasterKeySource(MASTER), deployments=[deployment])
    tokens, admission = TokenGuard(TOKENS, Clock()), Admission(lambda: current, Clock())
    callers = Callers(lambda _: current, admission, tokens, HANDLES, Clock())
    egress = Egress.through("http://127.0.0.1:9")
    logins = EntraTokens(log_in_through(egress), Clock())
    endpoint = Sideband(callers, logins.key_headers, [], with_token)
    token = TOKENS.seal(CLAIMS.to_claims(), NOW)
    query = f"call_id={seal_handle(CALL, HANDLES, NOW)}"
    lines = {"upgrade": "websocket", "authorization": f"Bearer {token}"}
    decision = await Gate([endpoint]).decide(RequestFacts("GET", "/v1/realtime", lines, b"", query))
    await egress.close()
    return decision


@pytest.mark.parametrize(
    ("with_token", "shown"),
    [
        pytest.param((), "Bearer sk-upstream-openai", id="key"),
        pytest.param((OPENAI.id,), "Bearer ek_of_the_provider", id="token"),
    ],
)
async def test_a_call_is_joined_where_it_is(with_token: Collection[str], shown: str) -> None:
    """The gateway's key opens it, or the call's ephemeral key where the settings say so."""
    decision = await join(OPENAI, with_token)
    assert isinstance(decision, Allow)
    assert decision.headers["authorization"].reveal() == shown


async def test_an_ephemeral_key_goes_nowhere_else() -> None:
    """A deployment that has moved since is shown no key that another origin has minted."""
    decision = await join(MOVED, (OPENAI.id,))
    assert isinstance(decision, Answer)
    assert (decision.status, decision.labels.outcome) == (401, "deployment_gone")
