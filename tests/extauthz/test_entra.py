import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from extauthz.deployments import EntraLogin
from extauthz.entra import EntraTokens, Grant, UpstreamLoginError
from helpers.authz import AZURE, NOW, OPENAI, Clock
from ringback.secrets import Secret

LOGIN = EntraLogin("client_secret", "scope", "tenant", "client", Secret("client-secret-marker"))
DEPLOYMENT = replace(AZURE, api_key=Secret(""), entra=LOGIN)
HOUR_S = 3600


class Issuer:
    """Gives tokens ``token-1``, ``token-2`` and so on.

    Attributes:
        logins: How often it was asked.
        error: What it raises instead.
        lifetime_s: Of the next tokens.
        gate: Held back until it is set.
    """

    def __init__(self, clock: Clock) -> None:
        self.logins = 0
        self.error: Exception | None = None
        self.lifetime_s: float = HOUR_S
        self.refresh_in_s: float | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._clock = clock

    async def __call__(self, _login: EntraLogin) -> Grant:
        """Log in."""
        self.logins += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        now = self._clock.now
        refresh_at = None if self.refresh_in_s is None else now + self.refresh_in_s
        return Grant(Secret(f"token-{self.logins}"), now + self.lifetime_s, refresh_at)


class Setup:
    """Tokens, and the issuer that they come from."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.issuer = Issuer(self.clock)
        self.tokens = EntraTokens(self.issuer, self.clock)

    async def token(self) -> str:
        """Return the token of the deployment."""
        token = await self.tokens.of(DEPLOYMENT)
        assert token is not None
        return token.reveal()

    async def settle(self) -> None:
        """Let logins in the background end."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    """Tokens that nobody has asked for."""
    setup = Setup()
    yield setup
    await setup.tokens.close()


async def test_a_deployment_with_a_key_needs_no_login(setup: Setup) -> None:
    """Its own key opens it, by the dialect's header."""
    assert await setup.tokens.of(AZURE) is None
    assert await setup.tokens.key_headers(AZURE) == {"api-key": AZURE.api_key}
    assert setup.issuer.logins == 0


async def test_a_token_is_a_bearer_token(setup: Setup) -> None:
    """A token goes into Authorization, at Azure too."""
    headers = await setup.tokens.key_headers(DEPLOYMENT)
    assert headers == {"authorization": Secret("Bearer token-1")}


async def test_a_token_of_the_operator_is_used_as_it_is(setup: Setup) -> None:
    """A token in the configuration needs no login; to renew it is the operator's work."""
    login = EntraLogin("token", "scope", secret=Secret("token-of-the-operator"))
    assert await setup.tokens.of(replace(DEPLOYMENT, entra=login)) == login.secret
    assert setup.issuer.logins == 0


async def test_a_token_is_kept(setup: Setup) -> None:
    """One login serves until the token is about to expire, every deployment with that login."""
    assert await setup.token() == "token-1"
    setup.clock.now += HOUR_S - 301
    assert await setup.token() == "token-1"
    other = replace(OPENAI, id="d-other", provider="azure", entra=replace(LOGIN))
    assert await setup.tokens.of(other) == Secret("token-1")
    assert setup.issuer.logins == 1


async def test_another_login_has_its_own_token(setup: Setup) -> None:
    """Tokens are shared by equal logins only."""
    await setup.token()
    stranger = replace(DEPLOYMENT, entra=replace(LOGIN, client_id="another"))
    assert await setup.tokens.of(stranger) == Secret("token-2")
    assert await setup.token() == "token-1"


async def test_many_wait_for_one_login(setup: Setup) -> None:
    """However many requests need a token at once, one login is made."""
    setup.issuer.gate.clear()
    waiting = [asyncio.create_task(setup.token()) for _ in range(20)]
    await setup.settle()
    setup.issuer.gate.set()
    assert set(await asyncio.gather(*waiting)) == {"token-1"}
    assert setup.issuer.logins == 1


async def test_a_caller_that_leaves_takes_no_login_with_it(setup: Setup) -> None:
    """A request that is cancelled while it waits ends neither the login nor others' wait."""
    setup.issuer.gate.clear()
    first, second = asyncio.create_task(setup.token()), asyncio.create_task(setup.token())
    await setup.settle()
    first.cancel()
    await setup.settle()
    setup.issuer.gate.set()
    assert await second == "token-1"
    assert setup.issuer.logins == 1


@pytest.mark.parametrize(
    ("lifetime_s", "refresh_in_s", "after_s"),
    [
        # Realistic
        pytest.param(HOUR_S, None, HOUR_S - 300, id="five-minutes-ahead"),
        pytest.param(86_400, 43_200, 43_200, id="when-the-issuer-says"),
        # Synthetic
        pytest.param(100, None, 50, id="half-of-a-short-life"),
    ],
)
async def test_a_token_is_renewed_ahead_of_time(
    setup: Setup, lifetime_s: float, refresh_in_s: float | None, after_s: float
) -> None:
    """The request that notices gets the old token at once; the next ones get the new one."""
    setup.issuer.lifetime_s, setup.issuer.refresh_in_s = lifetime_s, refresh_in_s
    await setup.token()
    setup.clock.now += after_s - 1
    assert await setup.token() == "token-1"
    await setup.settle()
    assert setup.issuer.logins == 1
    setup.clock.now += 1
    setup.issuer.gate.clear()
    assert [await setup.token(), await setup.token()] == ["token-1", "token-1"]
    setup.issuer.gate.set()
    await setup.settle()
    assert await setup.token() == "token-2"
    assert setup.issuer.logins == 2


async def test_an_outage_ahead_of_expiry_harms_nobody(setup: Setup) -> None:
    """While renewal fails the old token serves; it is tried again after two seconds, not before."""
    await setup.token()
    setup.clock.now += HOUR_S - 200
    setup.issuer.error = ConnectionError()
    for _ in range(3):
        assert await setup.token() == "token-1"
        await setup.settle()
    assert setup.issuer.logins == 2
    setup.issuer.error = None
    setup.clock.now += 2
    assert await setup.token() == "token-1"
    await setup.settle()
    assert await setup.token() == "token-3"


async def test_an_expired_token_is_never_used(setup: Setup) -> None:
    """With ten seconds left, it is over: a request waits for a new one, or is refused."""
    await setup.token()
    setup.clock.now += HOUR_S - 10
    setup.issuer.error = TimeoutError()
    with pytest.raises(UpstreamLoginError):
        await setup.token()
    setup.clock.now += 2
    setup.issuer.error = None
    assert await setup.token() == "token-3"


async def test_a_failed_login_is_not_repeated_by_every_request(setup: Setup) -> None:
    """For two seconds after a failure requests are refused without asking again."""
    setup.issuer.error = RuntimeError("client-secret-marker")
    for _ in range(5):
        with pytest.raises(UpstreamLoginError) as failed:
            await setup.token()
        assert "marker" not in str(failed.value)
    assert setup.issuer.logins == 1
    setup.issuer.error = None
    setup.clock.now += 2
    assert await setup.token() == "token-2"


async def test_a_token_that_is_born_old_counts_as_none(setup: Setup) -> None:
    """What expires within seconds could expire on the way."""
    setup.issuer.lifetime_s = 9
    with pytest.raises(UpstreamLoginError):
        await setup.token()


async def test_an_issuer_that_is_never_content_is_not_asked_all_the_time(setup: Setup) -> None:
    """A token that is due for renewal from the start is renewed now and then."""
    setup.issuer.refresh_in_s = 0
    for _ in range(10):
        await setup.token()
        await setup.settle()
    assert setup.issuer.logins == 1
    setup.clock.now += 2
    await setup.token()
    await setup.settle()
    assert setup.issuer.logins == 2


async def test_a_failure_is_logged_with_its_code_and_no_more(setup: Setup) -> None:
    """The log has the method and Entra's error code; the secret that Entra quotes stays out."""
    setup.issuer.error = RuntimeError("AADSTS7000215: Invalid secret client-secret-marker")
    with capture_logs() as logs, pytest.raises(UpstreamLoginError):
        await setup.token()
    (line,) = logs
    assert (line["event"], line["method"], line["reason"], line["error"]) == (
        "entra_login_failed",
        "client_secret",
        "AADSTS7000215",
        "RuntimeError",
    )
    assert "marker" not in repr(logs)


async def test_logins_of_old_configurations_are_forgotten(setup: Setup) -> None:
    """A login whose token has expired is dropped when another one comes."""
    await setup.token()
    setup.clock.now = NOW + 2 * HOUR_S
    await setup.tokens.of(replace(DEPLOYMENT, entra=replace(LOGIN, client_id="another")))
    assert list(setup.tokens._accounts) == [replace(LOGIN, client_id="another")]
