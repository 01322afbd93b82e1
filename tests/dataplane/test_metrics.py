import pytest

from helpers.gateway import Gateway
from helpers.gatewayfiles import KEYS, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET
from helpers.http11 import request_bytes, send
from helpers.scraping import STATS, MetricsPorts, get, scrape, total
from helpers.secretscan import find_secrets

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture
def ports(gateway: Gateway) -> MetricsPorts:
    """Where the gateway's metrics are."""
    assert gateway.metrics is not None
    return gateway.metrics


async def test_what_happens_is_counted(gateway: Gateway, ports: MetricsPorts) -> None:
    """A mint, a call, a refused token and a refused offer show in the metrics of each part."""
    before = await scrape(ports)
    token = await gateway.token()
    await gateway.call(token)
    await gateway.call("ek_x")
    await gateway.call(token, offer=b"v=1\r\n")
    after = await scrape(ports)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    decisions = "ringback_authz_decisions_total"
    assert grown(decisions, endpoint="client_secrets", outcome="minted") == 1
    assert grown(decisions, endpoint="calls", outcome="call") == 2
    assert grown(decisions, endpoint="calls", outcome="token_invalid") == 1
    assert grown("ringback_mint_upstream_seconds_count", deployment="voice-1") == 1
    assert grown("ringback_tokens_opened_total") == 2
    assert grown("ringback_tokens_refused_total") == 1
    assert grown("ringback_sdp_checked_total", description="offer") == 1
    assert grown("ringback_sdp_checked_total", description="answer") == 1
    assert grown("ringback_sdp_refusals_total", code="sdp_not_sdp") == 1
    assert total(after, "ringback_event_loop_lag_seconds_count") > 0
    assert total(after, "ringback_cds_version", state="accepted") == 1
    rbac = {"envoy_rbac_http_prefix": "authz_interlock"}
    assert grown("envoy_http_rbac_allowed", **rbac) == 2
    assert grown("envoy_http_rbac_denied") == 0
    cluster = f"upstream_http_127_0_0_1_{gateway.openai.port}"
    assert grown("envoy_cluster_upstream_rq_total", envoy_cluster_name=cluster) == 2


async def test_metrics_tell_no_secret(gateway: Gateway, ports: MetricsPorts) -> None:
    """Nothing that a request carried is in any metric."""
    token = await gateway.token()
    await gateway.call(token, headers=[("x-forwarded-for", "203.0.113.9")])
    for job, port, target in ports.all():
        text = (await get(port, target)).body.decode()
        assert find_secrets(text, *KEYS, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET, token) == set(), job


async def test_services_are_healthy_over_http(ports: MetricsPorts) -> None:
    """Each service says that it is alive and ready beside its metrics."""
    for port in (ports.extauthz(), ports.sdpfilter()):
        assert (await get(port, "/healthz")).status == 200
        assert (await get(port, "/readyz")).status == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [
        # Realistic
        ("GET", "/"),
        ("GET", "/stats"),
        ("GET", "/config_dump"),
        ("GET", "/certs"),
        ("POST", "/quitquitquit"),
        ("POST", "/logging?level=debug"),
        # Pathological
        ("POST", STATS),
        ("GET", f"{STATS}?filter=.*"),
        ("GET", f"{STATS}/../../config_dump"),
        ("GET", f"{STATS}/"),
        ("GET", "//stats/prometheus/%2e%2e/%2e%2e/config_dump"),
    ],
)
async def test_stats_are_all_that_is_shown(
    gateway: Gateway, ports: MetricsPorts, method: str, target: str
) -> None:
    """The listener for Prometheus opens nothing else of Envoy's admin interface."""
    answer = await send(ports.envoy, request_bytes(method, target))
    assert answer.status in {400, 404}
    assert answer.body == b""
    assert (await get(gateway.port, "/healthz")).status == 200


async def test_envoy_says_that_it_is_alive_where_callers_do_not_come(ports: MetricsPorts) -> None:
    """An orchestrator asks at the port for Prometheus."""
    answer = await get(ports.envoy, "/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "alive"})
