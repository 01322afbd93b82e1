"""A gateway under attack: nothing of it may fall over, and it serves after each test as before."""

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from extauthz.revocations import Revocation, save_revocations
from helpers.attacks import REVOKED_ID, check_unharmed
from helpers.dataplanes import DataPlane, Shared
from helpers.gateway import Gateway
from helpers.gatewayfiles import AZURE_KEY, KEYS, MASTER_KEY, TOKEN_SECRET, Files, openai_entry
from helpers.recording import RecordingUpstream
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

# Lines of Envoy's own log; those of its access log begin with a brace.
_OF_ENVOY: Final = re.compile(r"\[\d{4}-\d\d-\d\d [0-9:.]+\]\[\d+\]\[[a-z]+\].*")
_OF_ACCESS_LOG: Final = re.compile(
    "time|listener|request_id|method|protocol|route|status|details|flags|cluster|duration_ms"
    "|upstream_ms|bytes_received|bytes_sent|outcome|sdp_outcome|offer_edits|answer_edits"
    "|key_alias|team|user|model|deployment|token_id"
)


def pids(gateway: Gateway) -> dict[str, int]:
    """Return the process of each child."""
    return {name: gateway.stack.pid_of(name) for name in gateway.stack.supervisor.names}


def check_logs(gateway: Gateway) -> None:
    """Check that every line of every log is one that the process meant, and tells no secret."""
    for name, text in gateway.logs().items():
        assert find_secrets(text, *KEYS, MASTER_KEY, AZURE_KEY, TOKEN_SECRET) == set(), name
        for line in text.splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                assert isinstance(entry, dict)
                assert name != "envoy" or all(map(_OF_ACCESS_LOG.fullmatch, entry)), line
            else:
                assert name == "envoy", line
                assert _OF_ENVOY.fullmatch(line), line


@asynccontextmanager
async def open_gateway(dataplane: DataPlane, folder: Path) -> AsyncIterator[Gateway]:
    """Give a gateway whose processes live until the end, and log what they should."""
    files = Files(folder)
    async with RecordingUpstream() as openai, RecordingUpstream() as evil:
        files.write_config(
            [
                openai_entry("voice", f"{openai.url()}/v1"),
                # Nobody's model: whatever arrives there was sent astray.
                openai_entry("elsewhere", f"{evil.url()}/v1"),
            ]
        )
        files.write_keys(**{str(key.alias): {"models": ("voice",)} for key in KEYS.values()})
        revoked = files.folder / "revoked.yaml"
        save_revocations(revoked, [Revocation("token_id", REVOKED_ID, int(time.time()))])
        files.write_settings(
            token={"secret": TOKEN_SECRET, "revoked_file": str(revoked)},
            upstream={"mint_timeout_s": 2, "egress": dataplane.egress},
        )
        async with Stack(files.options(), make_bootstrap=dataplane.with_(files)) as stack:
            gateway = Gateway(stack, files, openai, evil, dataplane=dataplane)
            before = pids(gateway)
            yield gateway
            assert pids(gateway) == before
            check_logs(gateway)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared[Gateway]]:
    """Give the one gateway of each data plane; use `gateway`, which also looks after it."""
    folder = tmp_path_factory.mktemp
    async with Shared(lambda plane: open_gateway(plane, folder(f"attacked-{plane}"))) as gateways:
        yield gateways


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(attacked: Shared[Gateway], dataplane: DataPlane) -> AsyncIterator[Gateway]:
    """Give a gateway whose processes live through the test, and which serves when it is over."""
    gateway = await attacked.of(dataplane)
    gateway.reset()
    before = pids(gateway)
    yield gateway
    await check_unharmed(gateway)
    assert pids(gateway) == before
