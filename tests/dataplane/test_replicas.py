"""Two Envoys and two of each service, each of which may take any request, with one Valkey."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import yaml

from extauthz.keys import Limits, VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.apart import Apart, free_ports
from helpers.envoyproc import EnvoyProcess, Json, local_bootstrap
from helpers.expect import check_refusal
from helpers.gateway import Caller, CallerAt
from helpers.gatewayfiles import KEY, TOKEN_SECRET, Files, openai_entry
from helpers.http11 import Message
from helpers.load import Load
from helpers.recording import CLIENT_SECRETS, RecordingUpstream, Reply
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
from helpers.waiting import until
from ringback.contract import AUTHZ_CLUSTER, INGRESS_LISTENER, PROC_CLUSTER
from ringback.render.bootstrap import Address
from ringback.secrets import Secret
from ringback.settings import ServiceSettings

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

RACERS: Final = 100
LINES: Final = 6
# As openai-python and openai-node do by default; they wait for 0.5 s and longer.
RETRIES: Final = 2
PAUSE_S: Final = 0.5
RPM: Final = 5
LIMITED_KEY: Final = "sk-five-a-minute-anywhere"


@dataclass(frozen=True, slots=True)
class Replica:
    """An Envoy, and a worker of each service that it shares with the other replica."""

    envoy: EnvoyProcess
    apart: Apart

    @property
    def caller(self) -> CallerAt:
        """Somebody in front of this one."""
        return CallerAt(self.envoy.port(INGRESS_LISTENER))

    async def kill(self) -> None:
        """End all of its processes at once, with SIGKILL."""
        await asyncio.gather(self.envoy.kill(), self.apart.stop())

    async def start(self) -> None:
        """Start them again."""
        await asyncio.gather(self.envoy.start(), self.apart.start())
        await self.caller.until_ready()


@dataclass(frozen=True, slots=True)
class Pair:
    """Both replicas, the balancer in front of them, and the upstream behind them."""

    one: Replica
    other: Replica
    balancer: Caller
    upstream: RecordingUpstream

    @property
    def callers(self) -> tuple[Caller, Caller]:
        """Somebody in front of each."""
        return self.one.caller, self.other.caller


# What a Service of Kubernetes does, and a little more: it takes one replica after the other of
# those that are ready, and another one if a connection cannot be made or breaks before the request
# is on its way. What is on its way is never sent again.
BALANCER: Final = """
admin: {{address: &anywhere {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: balancer
    address: *anywhere
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/{http}.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: balancer
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route:
                  cluster: gateways
                  timeout: 20s
                  retry_policy:
                    retry_on: connect-failure,reset-before-request
                    num_retries: 3
                    # Until it has found another replica than that of before.
                    host_selection_retry_max_attempts: 16
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config: {{"@type": type.googleapis.com/{retry}.PreviousHostsPredicate}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/{router}.Router}}
  clusters:
  - name: gateways
    connect_timeout: 1s
    health_checks:
    - http_health_check: {{path: /readyz}}
      timeout: 1s
      interval: 0.25s
      no_traffic_interval: 0.25s
      unhealthy_threshold: 1
      healthy_threshold: 1
    load_assignment:
      cluster_name: gateways
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {one}}}}}}}
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {other}}}}}}}
"""


def balancer_bootstrap(one: int, other: int) -> Json:
    """Return the Envoy in front of replicas at two ports."""
    text = BALANCER.format(
        http="envoy.extensions.filters.network",
        retry="envoy.extensions.retry.host.previous_hosts.v3",
        router="envoy.extensions.filters.http.router.v3",
        one=one,
        other=other,
    )
    bootstrap: Json = yaml.safe_load(text)
    return bootstrap


@pytest.fixture(scope="module")
def valkey() -> ValkeyProcess:
    """The store that the replicas share; started by `shared_pair`."""
    return ValkeyProcess()


def write_files(files: Files, upstream: RecordingUpstream, valkey: ValkeyProcess) -> None:
    """Write the one configuration of both replicas."""
    files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
    limited = VirtualKey(hash_key(Secret(LIMITED_KEY)), alias="limited", limits=Limits(rpm=RPM))
    save_keys(files.keys, [VirtualKey(hash_key(Secret(KEY)), alias="web"), limited])
    files.write_settings(
        token={"secret": TOKEN_SECRET, "single_use": True},
        store={"url": valkey.url, "timeout_s": 3},
        upstream={"egress": "direct"},
    )


@asynccontextmanager
async def replicas(files: Files, folder: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """Give two replicas; each Envoy knows the workers of both."""
    ports = [free_ports(), free_ports()]
    services = ServiceSettings(
        extauthz=tuple(f"127.0.0.1:{of_one[AUTHZ_CLUSTER][0]}" for of_one in ports),
        sdpfilter=tuple(f"127.0.0.1:{of_one[PROC_CLUSTER][0]}" for of_one in ports),
    )
    async with AsyncExitStack() as stack:
        found = []
        for name, of_one in zip(("one", "other"), ports, strict=True):
            logs = folder / name
            logs.mkdir()
            apart = await stack.enter_async_context(Apart(files, logs, of_one))
            # The same port after a restart, for the balancer to find it.
            ((ingress,),) = free_ports(1, 0).values()
            bootstrap = local_bootstrap(services=services, ingress=Address("127.0.0.1", ingress))
            envoy = await stack.enter_async_context(EnvoyProcess(bootstrap, logs))
            found.append(Replica(envoy, apart))
        yield found[0], found[1]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_replicas(
    valkey: ValkeyProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """Give the ones of this file; use `pair`."""
    folder = tmp_path_factory.mktemp("replicas")
    files, front = Files(folder), folder / "balancer"
    front.mkdir()
    with valkey:
        async with RecordingUpstream() as upstream:
            write_files(files, upstream, valkey)
            async with replicas(files, folder) as (one, other):
                bootstrap = balancer_bootstrap(one.caller.port, other.caller.port)
                async with EnvoyProcess(bootstrap, front) as balancer:
                    pair = Pair(one, other, CallerAt(balancer.port("balancer")), upstream)
                    for caller in pair.callers:
                        await caller.until_ready()
                    yield pair
                    for replica in (one, other):
                        texts = [*replica.apart.logs().values(), replica.envoy.log]
                        for text in texts:
                            assert find_secrets(text, KEY, LIMITED_KEY, valkey.url) <= {"address"}


@pytest.fixture
def pair(shared_replicas: Pair) -> Pair:
    """Both replicas; the upstream has received nothing yet."""
    shared_replicas.upstream.reset()
    return shared_replicas


async def test_a_token_of_one_opens_a_call_at_the_other(pair: Pair) -> None:
    """Tokens and handles are good at both replicas, in either direction, and only once."""
    for here, there in (pair.callers, pair.callers[::-1]):
        token = await here.token()
        called = await there.call(token)
        assert called.status == 201
        for caller in pair.callers:
            check_refusal(await caller.call(token), 401, "token_invalid")
        location = str(called.header("location"))
        pair.upstream.script["hangup"] = Reply(200)
        assert (await here.hang_up(location)).status == 200
        check_refusal(await there.hang_up(location, key=LIMITED_KEY), 404, "call_id_not_found")
    assert len(pair.upstream.received_at("calls")) == 2
    assert len(pair.upstream.received_at("hangup")) == 2


async def test_one_of_a_hundred_wins_across_replicas(pair: Pair) -> None:
    """Of 100 clients that race with one token at both replicas, one opens a call."""
    token = await pair.one.caller.token()
    calls = [pair.callers[number % 2].call(token) for number in range(RACERS)]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status for answer in answers) == {201: 1, 401: RACERS - 1}
    assert len(pair.upstream.received_at("calls")) == 1


async def test_limits_hold_across_replicas(pair: Pair) -> None:
    """A key that may ask five times a minute may do so five times at both together."""
    mints = [pair.callers[number % 2].mint(key=LIMITED_KEY) for number in range(4 * RPM)]
    answers = await asyncio.gather(*mints)
    assert Counter(answer.status for answer in answers) == {200: RPM, 429: 3 * RPM}
    for answer in answers:
        if answer.status == 429:
            check_refusal(answer, 429, "rate_limited")
    assert len(pair.upstream.received_at(CLIENT_SECRETS)) == RPM


async def test_a_replica_that_dies_loses_what_was_on_its_way(pair: Pair) -> None:
    """SIGKILL of all processes of a replica under load, and its return.

    What is on its way through it fails, and so do calls that its sdpfilter is at; a client that
    tries twice more, as OpenAI's do, notices nothing. Everything else goes to the other replica.
    """
    tries: Counter[int] = Counter()

    async def converse() -> Message:
        for number in range(1 + RETRIES):
            tries[number] += 1
            try:
                answer = await pair.balancer.pair()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status == 201:
                return answer
            assert answer.status == 503, answer.raw
            await asyncio.sleep(PAUSE_S)
        raise TimeoutError

    async with Load(converse, LINES) as load:
        await load.more(60)
        assert tries.keys() == {0}
        await pair.other.kill()
        await load.more(120)
        again = tries[1] + tries[2]
        await pair.other.start()
        before = len(pair.other.envoy.log)
        await load.more(60)
        await until(lambda: len(pair.other.envoy.log) > before)
    assert load.failures == []
    assert again <= 2 * LINES
    assert tries[1] + tries[2] == again
