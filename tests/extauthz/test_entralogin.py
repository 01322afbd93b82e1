import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from extauthz.deployments import EntraLogin, Origin
from extauthz.egress import Egress
from extauthz.entra import EntraTokens, Grant, UpstreamLoginError, log_in_through
from extauthz.providers.base import USER_AGENT
from helpers.authz import AZURE
from helpers.entra import SCOPE, TOKEN, identity_reply, login_refusal, login_reply
from helpers.listener import Listener, Turn, listening
from helpers.recording import Reply
from ringback.secrets import Secret

SECRET = "client-secret-marker"
CLIENT = EntraLogin("client_secret", SCOPE, "tenant-1", "client-1", Secret(SECRET))
METADATA = Origin("http", "169.254.169.254", 80)
MACHINE = EntraLogin("managed_identity", SCOPE, origin=METADATA)
VARIABLES = (
    *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"),
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET"),
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
)


class Setup:
    """Logs in; `envoy` is what listens where Envoy's egress listener would."""

    def __init__(self, envoy: Listener) -> None:
        self.envoy = envoy
        self.egress = Egress.through(envoy.url)

    async def log_in(self, login: EntraLogin, *replies: Reply) -> Grant:
        """Log in once, with these answers of the login service."""
        self.envoy.turns.extend(Turn(reply.to_bytes()) for reply in replies)
        return await log_in_through(self.egress)(login)


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    """Logs in on a machine that says nothing of identities."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    async with listening() as listener:
        setup = Setup(listener)
        yield setup
        await setup.egress.close()


def sent(envoy: Listener) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return start line, headers and form of the one request, without ids of its own."""
    (request,) = envoy.requests
    headers = {name.lower(): value for name, value in request.headers}
    headers.pop("x-ms-client-request-id", None)
    headers.pop("content-length", None)
    return request.start_line, headers, dict(parse_qsl(request.body.decode(), strict_parsing=True))


async def test_a_client_secret_logs_in(setup: Setup) -> None:
    """One POST to the tenant's token endpoint, through Envoy, gives a token and its end."""
    grant = await setup.log_in(CLIENT, login_reply())
    assert grant.token == Secret(TOKEN)
    start, headers, form = sent(setup.envoy)
    assert start == "POST /tenant-1/oauth2/v2.0/token HTTP/1.1"
    assert headers == {
        "host": "login.microsoftonline.com",
        "x-ringback-cluster": "upstream_https_login_microsoftonline_com_443",
        "user-agent": USER_AGENT,
        "accept": "*/*",
        "connection": "keep-alive",
        "accept-encoding": "identity",
        "content-type": "application/x-www-form-urlencoded",
    }
    assert form == {
        "client_id": "client-1",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "scope": SCOPE,
    }


async def test_another_cloud_has_another_login(setup: Setup) -> None:
    """Sovereign clouds are asked at their own authority."""
    origin = Origin("https", "login.microsoftonline.us", 443)
    await setup.log_in(replace(CLIENT, origin=origin), login_reply())
    assert sent(setup.envoy)[1]["host"] == "login.microsoftonline.us"


async def test_a_machine_logs_in_at_its_metadata_service(setup: Setup) -> None:
    """A managed identity needs no secret: one GET to the link-local address."""
    grant = await setup.log_in(MACHINE, identity_reply())
    assert grant.token == Secret(TOKEN)
    assert grant.refresh_at is not None
    assert grant.refresh_at < grant.expires_at
    request = setup.envoy.requests[0]
    assert request.start_line == (
        "GET /metadata/identity/oauth2/token?api-version=2018-02-01"
        "&resource=https://cognitiveservices.azure.com HTTP/1.1"
    )
    headers = {name.lower(): value for name, value in request.headers}
    assert headers["metadata"] == "true"
    assert headers["host"] == "169.254.169.254"
    assert headers["x-ringback-cluster"] == "upstream_http_169_254_169_254_80"
    assert request.body == b""


async def test_a_machine_may_have_several_identities(setup: Setup) -> None:
    """A user-assigned identity is named by its client id."""
    await setup.log_in(replace(MACHINE, client_id="identity-7"), identity_reply())
    assert "client_id=identity-7" in setup.envoy.requests[0].start_line


async def test_app_service_has_an_endpoint_of_its_own(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables of App Service and Container Apps name the endpoint and its header."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-marker")
    login = replace(MACHINE, origin=Origin("http", "127.0.0.1", 41741))
    await setup.log_in(login, identity_reply())
    request = setup.envoy.requests[0]
    assert request.start_line.startswith("GET /msi/token?")
    assert request.values("x-identity-header") == ["header-marker"]


async def test_a_pod_logs_in_with_its_token(setup: Setup, tmp_path: Path) -> None:
    """Workload identity shows the token that Kubernetes wrote into a file."""
    file = tmp_path / "token"
    file.write_text("token-of-the-pod")
    login = replace(CLIENT, method="workload_identity", secret=None, token_file=str(file))
    assert (await setup.log_in(login, login_reply())).token == Secret(TOKEN)
    start, _, form = sent(setup.envoy)
    assert start == "POST /tenant-1/oauth2/v2.0/token HTTP/1.1"
    assert form["client_assertion"] == "token-of-the-pod"
    assert "client_secret" not in form


async def test_each_login_asks_anew(setup: Setup) -> None:
    """Tokens are kept in one place, and that is not here."""
    await setup.log_in(CLIENT, login_reply("first"))
    assert (await setup.log_in(CLIENT, login_reply("second"))).token == Secret("second")


@pytest.mark.parametrize(
    ("login", "replies"),
    [
        # Realistic
        pytest.param(CLIENT, [login_refusal()], id="wrong-secret"),
        pytest.param(CLIENT, [Reply(503, (), b""), Reply(503, (), b"")], id="outage"),
        pytest.param(MACHINE, [Reply(400, (), b'{"error":"invalid_request"}')], id="no-identity"),
        # Pathological
        pytest.param(CLIENT, [Reply(200, (), b"{}")], id="no-token"),
        pytest.param(CLIENT, [Reply(200, (), b"<html>")], id="no-json"),
        pytest.param(CLIENT, [login_reply(lifetime_s=0)], id="dead-token"),
        pytest.param(CLIENT, [login_reply("two\r\nlines: x")], id="odd-token"),
        pytest.param(MACHINE, [Reply(200, (), b"")], id="nothing"),
        pytest.param(CLIENT, [Reply(302, (("Location", "http://x.test/"),))], id="redirect"),
    ],
)
async def test_whatever_fails_is_a_login_that_failed(
    setup: Setup, login: EntraLogin, replies: list[Reply]
) -> None:
    """Callers see one error, 503, whatever went wrong; a caller never sees an exception."""
    setup.envoy.turns.extend(Turn(reply.to_bytes()) for reply in replies)
    tokens = EntraTokens(log_in_through(setup.egress), time.time)
    with pytest.raises(UpstreamLoginError) as failed:
        await tokens.of(replace(AZURE, entra=login))
    assert failed.value.http_status == 503
    assert "marker" not in str(failed.value)


async def test_what_entra_says_is_in_no_log(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    """Words of the login service, which might quote a secret, are not logged by libraries."""
    with pytest.raises(Exception, match="AADSTS7000215"):
        await setup.log_in(CLIENT, login_refusal())
    assert caplog.text == ""


async def test_a_short_outage_is_bridged(setup: Setup) -> None:
    """One answer of 5xx is tried again."""
    grant = await setup.log_in(CLIENT, Reply(503, (), b""), login_reply())
    assert grant.token == Secret(TOKEN)


async def test_a_slow_login_ends(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login service that says nothing is given up."""
    module: Any = await asyncio.to_thread(importlib.import_module, "extauthz.entralogin")
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
    with pytest.raises(TimeoutError):
        await setup.log_in(CLIENT)


async def test_nothing_goes_to_another_place(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """If azure-identity wants an endpoint that the configuration did not find, nothing is sent."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-marker")
    with pytest.raises(Exception):  # noqa: B017, PT011  azure-identity wraps it as it likes
        await setup.log_in(MACHINE)
    assert setup.envoy.requests == []
