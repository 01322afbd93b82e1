import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from extauthz.egress import Egress
from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import KeyQuery, Limits, Scope, VirtualKey, hash_key
from extauthz.keys.jwkscache import JwksCache
from extauthz.keys.oidc import OidcSource
from extauthz.keys.oidcclaims import hash_subject
from helpers.authz import Clock
from helpers.openid import ISSUER, JWKS, claims, oidc_settings, public_jwk, publish, sign
from helpers.recording import RecordingUpstream, Reply
from helpers.waiting import until
from ringback.secrets import Secret

MIN_REFRESH_S = 5
REFRESH_S = 300
STALE_S = 1000
TIMEOUT_S = 1.0


@dataclass(slots=True)
class Scopes:
    """Knows teams, as a database does."""

    teams: dict[str, Scope] = field(default_factory=dict)
    asked: list[KeyQuery] = field(default_factory=list)

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return what is known of the team of a query."""
        self.asked.append(query)
        team = self.teams.get(query.team or "")
        return VirtualKey("of-the-database", team_scope=team) if team else None


@dataclass(slots=True)
class Rig:
    """A source whose provider is a server of the test."""

    source: OidcSource
    provider: RecordingUpstream
    clock: Clock
    scopes: Scopes

    @property
    def fetches(self) -> int:
        """How often the provider was asked for its keys."""
        return len(self.provider.received)

    async def find(self, token: Secret) -> VirtualKey | None:
        """Look a credential up."""
        return await self.source.find(KeyQuery(hash_key(token), token))


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    """A source whose provider publishes one key."""
    clock, scopes = Clock(), Scopes()
    async with RecordingUpstream() as provider:
        publish(provider, public_jwk())
        egress = Egress.through(provider.url())
        values: dict[str, Any] = {
            "min_refresh_s": MIN_REFRESH_S,
            "refresh_s": REFRESH_S,
            "stale_s": STALE_S,
            "timeout_s": TIMEOUT_S,
            "team_claim": "team",
        }
        settings = oidc_settings(**values)
        source = OidcSource(settings, JwksCache(settings, egress, clock), scopes, clock)
        await source.start()
        yield Rig(source, provider, clock, scopes)
        await source.stop()
        await egress.close()


def endless(**said: Any) -> Secret:
    """Return a token that outlives every test."""
    return sign(claims(exp=2_000_000_000, **said))


async def test_found(rig: Rig) -> None:
    """A good token is found with one request for keys, which asks for nothing else."""
    key = await rig.find(sign())
    assert key is not None
    assert (key.user, key.team) == ("ada", None)
    assert await rig.find(sign(claims(sub="bob"))) is not None
    (request,) = rig.provider.received
    assert request.start_line == f"GET /certs/{JWKS} HTTP/1.1"
    assert request.header("host") == "id.example"
    assert request.header("x-ringback-cluster") == "upstream_https_id_example_443"
    assert request.header("authorization") is None


@pytest.mark.parametrize(
    "credential",
    [
        # Realistic
        Secret("sk-a-virtual-key"),
        sign(claims(aud="another-api")),
        # Synthetic
        Secret("sk-with.two.dots"),
        Secret(""),
        sign(claims(iss="https://evil.example")),
    ],
    ids=["virtual-key", "for-another-api", "dots", "empty", "another-issuer"],
)
async def test_not_found(rig: Rig, credential: Secret) -> None:
    """What is no token of the provider for us is unknown to this source."""
    assert await rig.find(credential) is None


async def test_strangers_cost_no_request(rig: Rig) -> None:
    """Neither virtual keys nor tokens of other issuers make the source ask for keys."""
    await rig.find(Secret("sk-with.two.dots"))
    await rig.find(sign(claims(iss="https://evil.example"), headers={"kid": "unknown"}))
    assert rig.fetches == 0


async def test_many_at_once_ask_once(rig: Rig) -> None:
    """However many tokens come before there are keys, the provider is asked once."""
    publish(rig.provider, public_jwk(), delay_s=0.1)
    found = await asyncio.gather(*(rig.find(sign()) for _ in range(50)))
    assert None not in found
    assert rig.fetches == 1


async def test_a_waiter_that_leaves(rig: Rig) -> None:
    """A request that is given up does not take the keys from the others."""
    publish(rig.provider, public_jwk(), delay_s=0.1)
    leaving = asyncio.create_task(rig.find(sign()))
    staying = asyncio.create_task(rig.find(sign()))
    await asyncio.sleep(0.03)
    leaving.cancel()
    assert await staying is not None
    assert rig.fetches == 1


async def test_rotation(rig: Rig) -> None:
    """A new key is fetched when the first token names it; the old one ends with its set."""
    await rig.find(endless())
    publish(rig.provider, public_jwk(number=2))
    rig.clock.now += MIN_REFRESH_S
    new = sign(claims(exp=2_000_000_000), number=2)
    assert await rig.find(new) is not None
    assert await rig.find(endless()) is None
    assert rig.fetches == 2


async def test_flood_of_unknown_keys(rig: Rig) -> None:
    """Tokens that name keys which do not exist cost one request in a while."""
    await rig.find(sign())
    rig.clock.now += MIN_REFRESH_S
    for number in range(100):
        assert await rig.find(sign(headers={"kid": f"made-up-{number}"})) is None
    assert rig.fetches == 2


async def test_old_keys_are_renewed_aside(rig: Rig) -> None:
    """Keys that are old are fetched again, and nobody waits for that."""
    await rig.find(endless())
    rig.clock.now += REFRESH_S + 1
    publish(rig.provider, public_jwk(number=2), delay_s=0.1)
    assert await rig.find(endless()) is not None
    await until(lambda: rig.source._keys._fetching is None)
    assert await rig.find(endless()) is None


async def test_keys_that_nobody_has_asked_for_lately_are_renewed_first(rig: Rig) -> None:
    """A key that the provider has taken back long ago opens nothing, not even once."""
    await rig.find(endless())
    rig.clock.now += 2 * REFRESH_S + 1
    publish(rig.provider, public_jwk(number=2), delay_s=0.1)
    assert await asyncio.gather(*(rig.find(endless()) for _ in range(5))) == [None] * 5
    assert rig.fetches == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(hangs_up=True), id="hangs-up"),
        pytest.param(Reply(500), id="500"),
        pytest.param(Reply(301, (("location", "https://evil.example"),)), id="redirect"),
        pytest.param(Reply(200, body=b"<html>"), id="no-json"),
        pytest.param(Reply(200, body=b'{"keys":[]}', delay_s=TIMEOUT_S * 5), id="slow"),
        pytest.param(Reply(200, body=b" " * 2_000_000), id="huge"),
    ],
)
async def test_provider_down(rig: Rig, reply: Reply) -> None:
    """Without keys nobody can tell; known keys stay in use for a while, but no longer."""
    rig.provider.script[JWKS] = reply
    with pytest.raises(KeySourceUnavailableError):
        await rig.find(endless())
    publish(rig.provider, public_jwk())
    rig.clock.now += 1
    assert await rig.find(endless()) is not None
    rig.provider.script[JWKS] = reply
    rig.clock.now += STALE_S
    assert await rig.find(endless()) is not None
    await until(lambda: rig.source._keys._fetching is None)
    # A key that is not known may be a new one.
    with pytest.raises(KeySourceUnavailableError):
        await rig.find(sign(number=2))
    rig.clock.now += 2
    with pytest.raises(KeySourceUnavailableError):
        await rig.find(endless())


async def test_down_costs_little(rig: Rig) -> None:
    """While the provider is down it is asked once a second, and nobody waits in between."""
    rig.provider.script[JWKS] = Reply(200, delay_s=TIMEOUT_S * 5)
    for _ in range(20):
        with pytest.raises(KeySourceUnavailableError):
            await rig.find(sign())
    assert rig.fetches <= 1


async def test_team_of_the_database(rig: Rig) -> None:
    """What a database knows of the team holds for the token, but not who it is."""
    team = Scope("web", models=("voice",), limits=Limits(rpm=3), blocked=True)
    rig.scopes.teams["web"] = team
    key = await rig.find(endless(team="web"))
    assert key is not None
    assert key.team_scope == team
    assert key.hash == hash_subject(ISSUER, "ada")
    assert (key.team, key.user) == ("web", "ada")
    assert key.expires is not None
    assert rig.scopes.asked == [KeyQuery(key.hash, team="web", user="ada")]


async def test_at_calls(rig: Rig) -> None:
    """A call's token names its subject; team and user are asked again, the provider is not."""
    team = Scope("web", blocked=True)
    rig.scopes.teams["web"] = team
    query = KeyQuery(hash_subject(ISSUER, "ada"), team="web", user="ada", max_age_s=5)
    key = await rig.source.find(query)
    assert key == VirtualKey(query.hash, team="web", user="ada", team_scope=team)
    assert rig.scopes.asked == [query]
    assert rig.fetches == 0


async def test_other_keys_at_calls(rig: Rig) -> None:
    """Hashes of virtual keys are none of this source's."""
    assert await rig.source.find(KeyQuery(hash_key(Secret("sk-x")))) is None


def test_unusable_url() -> None:
    """A URL that cannot be used is told at the start."""
    with pytest.raises(ValueError, match="https"):
        JwksCache(oidc_settings("ftp://id.example"), Egress.through("http://127.0.0.1:1"))
