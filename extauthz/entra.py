"""Access tokens of Entra ID for deployments without a key: kept, shared, renewed ahead of time."""

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from extauthz.deployments import Deployment, EntraLogin
from extauthz.egress import Egress
from extauthz.providers import provider_of
from ringback.logs import describe, get_logger
from ringback.secrets import Secret
from ringback.upstream import UpstreamUnreachableError

# A token is renewed so long before it expires, or after half of a shorter life. Entra ID gives an
# hour or more; five minutes bridge an outage that is shorter than that.
REFRESH_AHEAD_S: Final = 300
# With less left it might expire on the way.
_MARGIN_S: Final = 10
# Between two tries, so that a login that fails is not asked for by every request.
_RETRY_S: Final = 2.0
_ERROR_CODE: Final = re.compile(r"AADSTS[0-9]{4,8}")


class UpstreamLoginError(UpstreamUnreachableError):
    """Entra ID gives the gateway no token for the deployment: 503."""

    code = "upstream_login_failed"

    def __str__(self) -> str:
        return (
            "The gateway cannot log in at the provider. Try again shortly; if it stays so, tell "
            "the operator, whose log has the reason."
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login gives.

    Attributes:
        token: The access token.
        expires_at: In seconds since the epoch.
        refresh_at: When the issuer wants it to be renewed; None: it does not say.
    """

    token: Secret
    expires_at: float
    refresh_at: float | None = None


LogIn = Callable[[EntraLogin], Awaitable[Grant]]


def log_in_through(egress: Egress) -> LogIn:
    """Return what logs in by azure-identity, which is imported when the first login needs it."""

    async def log_in(login: EntraLogin) -> Grant:
        # In a thread: it takes a second, in which other requests go on.
        module = await asyncio.to_thread(importlib.import_module, "extauthz.entralogin")
        grant: Grant = await module.log_in(login, egress)
        return grant

    return log_in


class EntraTokens:
    """The tokens of all deployments; one login at a time for each, whoever waits for it.

    Args:
        log_in: Asks for a token; what it raises, whatever it is, counts as a failed login.
        now: The time in seconds since the epoch.
    """

    def __init__(self, log_in: LogIn, now: Callable[[], float]) -> None:
        self._log_in = log_in
        self._now = now
        self._accounts: dict[EntraLogin, _Account] = {}
        self._log = get_logger()

    async def of(self, deployment: Deployment) -> Secret | None:
        """Return a token that opens a deployment; None for one that has a key.

        Raises:
            UpstreamLoginError: If there is no valid one and none can be had: 503.
        """
        login = deployment.entra
        if login is None:
            return None
        if login.method == "token":
            return login.secret
        account = self._account(login)
        if (grant := account.grant) is not None and self._is_valid(grant):
            if self._now() >= max(account.refresh_at, account.retry_at):
                self._begin(login, account)
            return grant.token
        if account.running is None and self._now() < account.retry_at:
            raise UpstreamLoginError
        # A caller that gives up takes nobody else's login with it.
        await asyncio.shield(self._begin(login, account))
        if account.grant is None or not self._is_valid(account.grant):
            raise UpstreamLoginError
        return account.grant.token

    async def key_headers(self, deployment: Deployment) -> Mapping[str, Secret]:
        """Return the headers that open a deployment, by its own key or by a token.

        Raises:
            UpstreamLoginError: As `of` does.
        """
        return provider_of(deployment).key_headers(deployment, await self.of(deployment))

    async def close(self) -> None:
        """End logins that are under way."""
        tasks = [account.running for account in self._accounts.values() if account.running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _account(self, login: EntraLogin) -> "_Account":
        account = self._accounts.get(login)
        if account is None:
            # A changed configuration leaves logins behind that nobody needs again.
            self._accounts = {
                known: kept
                for known, kept in self._accounts.items()
                if kept.running or (kept.grant and self._is_valid(kept.grant))
            }
            account = self._accounts[login] = _Account()
        return account

    def _is_valid(self, grant: Grant) -> bool:
        return self._now() < grant.expires_at - _MARGIN_S

    def _begin(self, login: EntraLogin, account: "_Account") -> asyncio.Task[None]:
        if account.running is None:
            account.running = asyncio.create_task(self._run(login, account))
        return account.running

    async def _run(self, login: EntraLogin, account: "_Account") -> None:
        # Whatever comes of it: an issuer may want its token to be renewed at once, again and again.
        account.retry_at = self._now() + _RETRY_S
        try:
            grant = await self._log_in(login)
            account.refresh_at = _refresh_at(grant, self._now())
            account.grant = grant
        except Exception as error:  # noqa: BLE001  every failure means the same: no token
            account.retry_at = self._now() + _RETRY_S
            code = _ERROR_CODE.search(str(error))
            reason = code[0] if code else None
            self._log.error(
                "entra_login_failed", method=login.method, reason=reason, **describe(error)
            )
        finally:
            account.running = None


@dataclass(slots=True)
class _Account:
    grant: Grant | None = None
    refresh_at: float = 0.0
    retry_at: float = 0.0
    running: asyncio.Task[None] | None = field(default=None, repr=False)


def _refresh_at(grant: Grant, now: float) -> float:
    ahead_s = min(REFRESH_AHEAD_S, (grant.expires_at - now) / 2)
    return min(grant.refresh_at or grant.expires_at, grant.expires_at - ahead_s)
