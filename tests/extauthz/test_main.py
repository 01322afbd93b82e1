import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from envoyapi.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoyapi.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoyapi.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from envoyapi.service.cluster.v3.cds_pb2_grpc import ClusterDiscoveryServiceStub
from envoyapi.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.authz import EPHEMERAL_KEY, write_config
from helpers.listener import Listener, listening
from helpers.secretcheck import ShownSecretError, check_shows_none
from helpers.waiting import until
from ringback.secrets import Secret

RAW_KEY = "sk-web-5f70bf18a086"
MASTER = "sk-master-7016e948b04a"
SALT = "salt-ed3b82f4-0123456789"
API_KEY = "sk-upstream-68af296e8e40"
AZURE_KEY = "0f1e2d3c4b5a69788796a5b4"
MINT = "/v1/realtime/client_secrets"
CALLS = "/v1/realtime/calls"
# What a start may take where other processes keep the machine busy.
START_S = 60
SECRETS = (RAW_KEY, MASTER, SALT, API_KEY, AZURE_KEY, EPHEMERAL_KEY)


def entry(name: str, host: str, api_key: str) -> dict[str, Any]:
    """Return an entry of model_list."""
    params = {"model": "openai/gpt-realtime", "api_key": api_key, "api_base": f"https://{host}"}
    return {"model_name": name, "litellm_params": params}


class Worker:
    """``python -m extauthz`` with files of its own."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.config = folder / "config.yaml"
        self.keys = folder / "keys.yaml"
        self.address = f"unix:{folder}/s"
        self.log = folder / "log"
        self._listener = listener
        self.process: asyncio.subprocess.Process
        self.channel: aio.Channel
        write_config(
            self.config,
            entry("voice", "one.example", API_KEY),
            general_settings={"master_key": MASTER},
        )
        save_keys(self.keys, [VirtualKey(hash_key(Secret(RAW_KEY)), alias="web")])

    async def start(self) -> None:
        """Start the process."""
        environment = {
            "PATH": os.environ["PATH"],
            "LITELLM_SALT_KEY": SALT,
            "RINGBACK_UPSTREAM__EGRESS_URL": self._listener.url,
            "RINGBACK_RELOAD__SETTLE_S": "0.05",
            "RINGBACK_LOG_LEVEL": "debug",
        }
        options = ("--listen", self.address, "--config", self.config, "--keys", self.keys)
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "extauthz", *options, env=environment, stdout=log, stderr=log
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged; the last line may not be whole yet."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def logged(self, event: str) -> bool:
        """Tell whether it has logged this."""
        return any(line["event"] == event for line in self.lines)

    async def check(self, path: str, credential: str, body: bytes = b"") -> CheckResponse:
        """Ask as Envoy does."""
        headers = {"authorization": f"Bearer {credential}"}
        http = AttributeContext.HttpRequest(
            method="POST", path=path, headers=headers, raw_body=body
        )
        request = CheckRequest(
            attributes=AttributeContext(request=AttributeContext.Request(http=http))
        )
        stub: Any = AuthorizationStub(self.channel)
        response: CheckResponse = await stub.Check(request, timeout=10)
        return response

    async def status(self, path: str, credential: str, body: bytes = b"") -> int:
        """Return the status of the answer that the downstream gets."""
        return int((await self.check(path, credential, body)).denied_response.status.code)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Run what stands in for Envoy's egress listener."""
    async with listening() as running:
        yield running


@asynccontextmanager
async def serving(folder: Path, listener: Listener) -> AsyncIterator[Worker]:
    """Run a worker until the end of the block, and end it as a supervisor does."""
    worker = Worker(folder, listener)
    await worker.start()
    try:
        await until(
            lambda: worker.process.returncode is not None or worker.logged("ready"), START_S
        )
        async with aio.insecure_channel(worker.address) as worker.channel:
            yield worker
        worker.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.process.wait(), 30) == 0
    finally:
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.process.wait()


async def test_a_worker_serves_and_takes_up_changes(tmp_path: Path, listener: Listener) -> None:
    """A process decides, serves clusters, follows its files, and ends soon after SIGTERM."""
    async with serving(tmp_path, listener) as worker:
        clusters: Any = ClusterDiscoveryServiceStub(worker.channel)
        stream = clusters.StreamClusters()
        await stream.write(DiscoveryRequest())
        assert b"one.example" in (await stream.read()).resources[0].value

        listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
        minted = (await worker.check(MINT, RAW_KEY)).denied_response
        token = json.loads(minted.body)["value"]
        assert (await worker.check(CALLS, token)).status.code == 0

        two = entry("two", "two.example", AZURE_KEY)
        write_config(worker.config, entry("voice", "one.example", API_KEY), two)
        response = await asyncio.wait_for(stream.read(), 10)
        assert len(response.resources) == 2
        await until(lambda: worker.logged("config_changed"))
        listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
        assert await worker.status(MINT, RAW_KEY, b'{"model":"two"}') == 200
        assert listener.requests[-1].header("host") == "two.example"

        save_keys(worker.keys, [])
        await until(lambda: worker.logged("keys_changed"))
        assert await worker.status(CALLS, token) == 401
        started = time.monotonic()
    # Less than the grace for requests in flight.
    assert time.monotonic() - started < 12
    assert listener.requests[0].header("authorization") == f"Bearer {API_KEY}"


async def test_nothing_secret_is_logged(tmp_path: Path, listener: Listener) -> None:
    """No key, token or body is in the log, whatever goes wrong, at the highest log level."""
    async with serving(tmp_path, listener) as worker:
        listener.reply(200, b'{"value":"%s"}' % EPHEMERAL_KEY.encode())
        minted = (await worker.check(MINT, RAW_KEY)).denied_response
        token = json.loads(minted.body)["value"]
        await worker.check(CALLS, token)
        for credential in ("sk-unknown-marker", f"{RAW_KEY},{MASTER}", token + "x"):
            assert await worker.status(MINT, credential) == 401
            assert await worker.status(CALLS, credential) == 401
        assert await worker.status(MINT, MASTER, b'{"%s":"body-marker' % RAW_KEY.encode()) == 400
        for status, body in (
            (401, f"Incorrect API key provided: {API_KEY}"),
            (400, f"Header was Bearer {API_KEY}"),
            (500, EPHEMERAL_KEY),
            (200, f'{{"value":"{EPHEMERAL_KEY}\\r\\n"}}'),
        ):
            listener.reply(status, json.dumps({"error": {"message": body}}).encode())
            assert await worker.status(MINT, RAW_KEY) in {400, 502}
        bad = entry("voice", f"user:{AZURE_KEY}@one.example", f"{API_KEY}\n")
        write_config(worker.config, bad, general_settings={"master_key": f"{MASTER} {SALT}"})
        await until(lambda: worker.logged("config_refused"))
        worker.keys.write_text(f"keys:\n- hash: {RAW_KEY}\n  alias: {MASTER}\n  {SALT}\n")
        await until(lambda: worker.logged("keys_refused"))
    text = worker.log.read_text()
    assert all(isinstance(line["event"], str) for line in worker.lines)
    check_shows_none(text, [*SECRETS, token, "sk-unknown-marker", "body-marker"])
    for shown in (API_KEY, f"x{token}", f"{MASTER} {SALT}"):
        with pytest.raises(ShownSecretError):
            check_shows_none(text + shown, [*SECRETS, token])


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "line",
    ["%s", '{"error": "%s"}', "Bearer %s", "sha %s.", "...%s"],
)
def test_the_check_for_secrets_finds_them(secret: str, line: str) -> None:
    """The check that the log is clean fails for a log that is not."""
    check_shows_none(line % "***", SECRETS)
    for shown in (secret, secret.encode().hex(), secret[-12:]):
        with pytest.raises(ShownSecretError):
            check_shows_none(line % shown, SECRETS)


async def test_a_bad_configuration_stops_the_start(tmp_path: Path, listener: Listener) -> None:
    """With files that cannot be used the process ends with 2 and says everything that is wrong."""
    worker = Worker(tmp_path, listener)
    worker.config.write_text("model_list: 5\n")
    worker.keys.write_text("keys: 5\n")
    await worker.start()
    assert await asyncio.wait_for(worker.process.wait(), START_S) == 2
    text = worker.log.read_text()
    assert text.startswith("The configuration cannot be used:\n")
    assert f"{worker.config}: model_list" in text
    assert f"{worker.keys}: keys" in text
    assert "Traceback" not in text
