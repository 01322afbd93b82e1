"""JWTs of an OpenID provider through the real Envoy, teams and users of a real database behind."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
import pytest_asyncio

from extauthz.keys.oidcclaims import hash_subject
from helpers.expect import check_refusal
from helpers.gateway import Gateway
from helpers.gatewayfiles import MASTER_KEY, Files, openai_entry
from helpers.openid import ISSUER, JWKS, claims, oidc_settings, public_jwk, publish, sign
from helpers.postgres import Database, PostgresServer
from helpers.recording import RecordingUpstream, Reply
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

REVOCATION_S: Final = 0.5
LEEWAY_S: Final = 5


@dataclass(frozen=True, slots=True)
class Rig:
    """A gateway that takes JWTs, the server of its provider, and LiteLLM's database."""

    gateway: Gateway
    provider: RecordingUpstream
    database: Database


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_rig(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rig]:
    """Give the rig; use `rig`, which also cleans up."""
    files = Files(tmp_path_factory.mktemp("jwt"))
    database = postgres.create_database()
    for team, columns in TEAMS.items():
        database.rows.team(team_id=team, **columns)
    async with (
        RecordingUpstream() as openai,
        RecordingUpstream() as unused,
        RecordingUpstream() as provider,
    ):
        publish(provider, public_jwk())
        files.write_config(
            [
                openai_entry("voice", f"{openai.url()}/v1"),
                openai_entry("other", f"{openai.url()}/v1"),
            ]
        )
        oidc = oidc_settings(
            provider.url(),
            leeway_s=LEEWAY_S,
            team_claim="team",
            models_claim="roles.voice",
            min_refresh_s=0.2,
            timeout_s=1,
        )
        files.write_settings(
            oidc=oidc.model_dump(mode="json"),
            database={"url": database.url},
            key_cache={"revocation_s": REVOCATION_S},
        )
        async with Stack(replace(files.options(), keys=None)) as stack:
            gateway = Gateway(stack, files, openai, unused)
            yield Rig(gateway, provider, database)
            for name, text in gateway.logs().items():
                assert find_secrets(text, MASTER_KEY) == set(), name
                # What every JWT begins with.
                assert "eyJhbGciOi" not in text, name


@pytest_asyncio.fixture(loop_scope="session")
async def rig(shared_rig: Rig) -> Rig:
    """A rig whose provider publishes the first key, and whose upstream has received nothing."""
    shared_rig.gateway.reset()
    shared_rig.provider.reset()
    publish(shared_rig.provider, public_jwk())
    return shared_rig


TEAMS: Final[dict[str, dict[str, Any]]] = {
    "web": {},
    "blocked": {"blocked": True},
    "poor": {"max_budget": 1.0, "spend": 2.0},
    "slow": {"rpm_limit": 1},
    "other-only": {"models": ["other"]},
    "doomed": {},
}


def jwt(team: str | None = None, *, number: int = 1, **said: Any) -> str:
    """Return a JWT that is valid for a minute."""
    now = int(time.time())
    roles = {"voice": ["voice"]}
    members = {"iat": now, "exp": now + 60, "team": team, "roles": roles, **said}
    return sign(claims(**members), number=number).reveal()


async def test_a_conversation(rig: Rig) -> None:
    """A JWT mints a token that opens a call, ends with the JWT, and goes to no provider."""
    minted = await rig.gateway.mint(key=jwt("web"))
    assert minted.status == 200
    left_s = minted.json()["expires_at"] - time.time()
    assert 50 < left_s <= 65
    answer = await rig.gateway.call(minted.json()["value"])
    assert answer.status == 201
    assert len(rig.gateway.received) == 2
    assert not [request for request in rig.gateway.received if b"eyJhbGciOi" in request.raw]
    entry = await rig.gateway.logged(answer.header("x-request-id") or "")
    assert (entry["user"], entry["team"]) == ("ada", "web")


async def test_short_jwts_make_short_tokens(rig: Rig) -> None:
    """A token does not outlive its JWT by more than the leeway."""
    expires_at = int(time.time()) - 1
    minted = await rig.gateway.mint(key=jwt(exp=expires_at))
    assert minted.status == 200
    assert minted.json()["expires_at"] <= expires_at + LEEWAY_S


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        # Realistic
        pytest.param({"exp": 1_700_000_000}, 401, "key_expired", id="expired"),
        pytest.param({"aud": "another-api"}, 401, "key_unknown", id="for-another-api"),
        pytest.param({"iss": "https://evil.example"}, 401, "key_unknown", id="another-issuer"),
        pytest.param({"number": 2}, 401, "key_unknown", id="another-key"),
        pytest.param({"roles": None}, 403, "model_denied", id="no-models"),
        pytest.param({"roles": {"voice": ["other"]}}, 403, "model_denied", id="other-models"),
        pytest.param({"team": "blocked"}, 401, "team_blocked", id="blocked-team"),
        pytest.param({"team": "poor"}, 422, "budget_exceeded", id="team-without-budget"),
        pytest.param({"team": "other-only"}, 403, "model_denied", id="models-of-the-team"),
        # Synthetic
        pytest.param({"team": "nobody-knows"}, 404, "team_unknown", id="unknown-team"),
        pytest.param({"sub": ""}, 401, "key_unknown", id="nobody"),
        pytest.param({"pad": "x" * 9000}, 401, "key_unknown", id="long"),
    ],
)
async def test_refusals(rig: Rig, said: dict[str, Any], status: int, code: str) -> None:
    """What is no good JWT, or of no good team, gets a readable refusal; the upstream nothing."""
    answer = await rig.gateway.mint(key=jwt(**said))
    check_refusal(answer, status, code)
    assert "eyJ" not in answer.error["message"]
    assert rig.gateway.received == []


async def test_limits_of_the_team(rig: Rig) -> None:
    """The limit of a team holds for the JWTs of its users together."""
    assert (await rig.gateway.mint(key=jwt("slow", sub="ada"))).status == 200
    rig.gateway.reset()
    check_refusal(await rig.gateway.mint(key=jwt("slow", sub="bob")), 429, "rate_limited")
    assert rig.gateway.received == []


async def test_a_team_that_is_blocked_later(rig: Rig) -> None:
    """Blocking a team ends the tokens that its users have minted."""
    token = (await rig.gateway.mint(key=jwt("doomed"))).json()["value"]
    rig.database.execute(
        """UPDATE "LiteLLM_TeamTable" SET blocked = true WHERE team_id = 'doomed'"""
    )
    await asyncio.sleep(REVOCATION_S)
    rig.gateway.reset()
    check_refusal(await rig.gateway.call(token), 401, "token_invalid")
    assert rig.gateway.received == []


async def test_a_made_up_subject(rig: Rig) -> None:
    """A caller cannot name a subject: its hash as a key is a key that nobody knows."""
    answer = await rig.gateway.mint(key=hash_subject(ISSUER, "ada"))
    check_refusal(answer, 401, "key_unknown")
    assert rig.gateway.received == []


async def test_rotation_and_outage(rig: Rig) -> None:
    """A new key is taken up; while the provider is down the known one is enough."""
    publish(rig.provider, public_jwk(number=3))
    assert (await rig.gateway.mint(key=jwt(number=3))).status == 200
    rig.provider.script[JWKS] = Reply(200, delay_s=2)
    assert (await rig.gateway.mint(key=jwt(number=3))).status == 200
    rig.gateway.reset()
    await asyncio.sleep(0.2)
    answer = await rig.gateway.mint(key=jwt(number=4))
    check_refusal(answer, 503, "key_source_unavailable")
    assert rig.gateway.received == []
    # Virtual keys do not depend on the provider.
    assert (await rig.gateway.mint(key=MASTER_KEY)).status == 200
