import asyncio
import re
import time
from collections.abc import Iterator

import pytest

from helpers.containers import Containers, read_services
from helpers.smoke import MODELS, check_gateway

# The first build installs every package.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

SERVICES = read_services()


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    """The default profile, built and ready; gone with its volumes at the end."""
    stack = Containers("ringback-test")
    stack.run("build", timeout_s=900)
    try:
        stack.run("up", "-d", timeout_s=180)
        stack.wait_until_ready()
        yield stack
    finally:
        stack.run("down", "-v")


async def test_the_demo_key_makes_calls(containers: Containers) -> None:
    """Pages, a refusal and a call for each model; audio comes through the published ports."""
    await check_gateway(containers.url, "sk-ringback-demo", media_address="127.0.0.1")


def test_calls_are_supervised(containers: Containers) -> None:
    """Each call of before was taken on by callkeeper, and listened to."""
    shown = containers.exec("callkeeper", ["python", "-m", "ringback", "calls", "list"])
    assert shown.startswith(("CALL", "No call is open"))
    log = containers.run("logs", "callkeeper").splitlines()
    for model in MODELS:
        lines = [line for line in log if f'"model": "{model}"' in line]
        for event in ("call_attached", "call_ended"):
            assert any(f'"event": "{event}"' in line for line in lines)


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_can_be_gained_in_a_container(containers: Containers, service: str) -> None:
    """The process is not root, has no capability and can get none, and its root is read-only."""
    text = containers.exec(service, ["cat", "/proc/1/status", "/proc/1/mounts"])

    for name in ("Uid", "Gid"):
        (ids,) = re.findall(rf"^{name}:\s(.*)$", text, re.MULTILINE)
        assert "0" not in ids.split()
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{name}:\s0{{16}}$", text, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s1$", text, re.MULTILINE)
    assert re.search(r"^\S+ / \S+ ro,", text, re.MULTILINE)


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "pod"])
def test_the_health_check_passes(containers: Containers, service: str) -> None:
    """What the file says about health holds for a stack that is ready."""
    kind, *command = SERVICES[service]["healthcheck"]["test"]

    assert kind == "CMD"
    containers.exec(service, command)


async def test_no_secret_is_logged(containers: Containers) -> None:
    """After calls, no container has written a key, a token or a password of ICE."""
    await check_gateway(containers.url, "sk-ringback-demo")

    deadline = time.monotonic() + 30  # Envoy writes its log in intervals
    while '"route":"upstream"' not in (logs := containers.run("logs")):
        assert time.monotonic() < deadline, "no access log"
        await asyncio.sleep(0.5)
    assert not re.search(r"sk-|ek_|demo-salt|ice-pwd", logs)
