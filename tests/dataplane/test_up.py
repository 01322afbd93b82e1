import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.server import Emulator
from helpers.upprocess import FREE_PORTS, RINGBACK, UpProcess, are_gone

pytestmark = pytest.mark.dataplane

MINT = "/v1/realtime/client_secrets"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """A stack that is ready; tests must leave it so."""
    with UpProcess(*FREE_PORTS, cwd=tmp_path_factory.mktemp("up")) as up:
        up.wait_until_ready()
        yield up
        up.interrupt()
        assert up.wait() == 0


def mint(url: str, key: str, model: str = "gpt-realtime") -> httpx.Response:
    """Ask for a token."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{url}{MINT}", json={"model": model}, headers=headers, timeout=20)


def shell(line: str) -> Any:
    """Return the JSON that a pasted line prints."""
    command = ["/bin/sh", "-c", line]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=20).stdout)


def test_it_says_what_to_try(up: UpProcess) -> None:
    """The address, a key, the models, the page, the logs and a line to paste; then `ready`."""
    url = up.said("url")

    assert [line.split()[0] for line in up.lines] == [
        *("url", "demo", "models", "playground", "calls", "logs", "try", "ready")
    ]
    assert up.said("ready") == url
    assert up.said("models") == "gpt-realtime, azure-realtime"
    assert up.said("playground") == f"{url}/playground"
    assert Path(up.said("logs")).is_dir()
    command = [RINGBACK, *up.said("calls").split()[1:]]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert listed.stdout == "No call is open.\n"


def test_the_line_to_paste_works(up: UpProcess) -> None:
    """Pasted into a shell, it prints a token; so it does for the other model."""
    line = up.said("try")

    assert shell(line)["value"].startswith("ek_")
    assert shell(line.replace("gpt-realtime", "azure-realtime"))["value"].startswith("ek_")


def test_the_key_is_one_of_this_start(up: UpProcess) -> None:
    """The demo key works, and no other one does."""
    key = up.said("demo key")

    assert mint(up.said("url"), key).status_code == 200
    assert mint(up.said("url"), f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}").status_code == 401


def test_the_page_is_served_without_a_configuration(up: UpProcess) -> None:
    """The playground is on where there is nothing to protect."""
    answer = httpx.get(up.said("playground"))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_all_of_it_runs(up: UpProcess) -> None:
    """Envoy, two workers of each service, and the emulator are children of the command."""
    up.child("extauthz-1.sock")
    kinds = sorted(
        name
        for command in up.children().values()
        for name in ("envoy.json", "extauthz", "sdpfilter", "callkeeper", "emulator")
        if name in {word.rpartition("/")[2] for word in command}
    )

    services = ["extauthz", "extauthz", "sdpfilter", "sdpfilter"]
    assert kinds == ["callkeeper", "emulator", "envoy.json", *services]


def test_no_secret_is_in_a_command_line(up: UpProcess) -> None:
    """What everybody on the machine can read holds no key."""
    words = [word for command in up.children().values() for word in command]

    assert not any(word.startswith("sk-") for word in words)
    assert not any(up.said("demo key") in word for word in words)


def test_logs_are_written_and_hold_no_secret(up: UpProcess) -> None:
    """Each child has a log; Envoy's has the access log; the demo key is in none."""
    key, logs = up.said("demo key"), Path(up.said("logs"))
    assert mint(up.said("url"), key).status_code == 200

    deadline = time.monotonic() + 15
    while '"route":"client_secrets"' not in (logs / "envoy.log").read_text():
        assert time.monotonic() < deadline, "no access log"
        time.sleep(0.1)
    texts = {log.stem: log.read_text() for log in logs.glob("*.log")}
    assert texts.keys() == {
        *("envoy", "emulator", "extauthz-0", "extauthz-1", "sdpfilter-0", "sdpfilter-1"),
        "callkeeper-0",
    }
    assert not any(key in text or "ek_" in text for text in texts.values())


@pytest.mark.parametrize(
    ("word", "name"),
    [
        pytest.param("extauthz-0.sock", "extauthz-0", id="extauthz"),
        pytest.param("sdpfilter-1.sock", "sdpfilter-1", id="sdpfilter"),
        pytest.param("emulator", "emulator", id="emulator"),
        pytest.param("envoy.json", "envoy", id="envoy"),
    ],
)
def test_a_killed_child_is_restarted(up: UpProcess, word: str, name: str) -> None:
    """Whatever is killed runs again, with one line, and requests succeed as before."""
    before = up.child(word)

    os.kill(before, signal.SIGKILL)
    up.wait_for(rf"^{name} ended with code -9; restart")

    deadline = time.monotonic() + 30
    # The other worker mints before this one is there.
    while up.pids(word) in ([], [before]) or not is_minting(up):
        assert time.monotonic() < deadline, f"{name} was restarted in vain"
        time.sleep(0.1)
    assert up.child(word) != before


def is_minting(up: UpProcess) -> bool:
    """Tell whether a token can be had."""
    try:
        return mint(up.said("url"), up.said("demo key")).status_code == 200
    except httpx.TransportError:
        return False


def wait_for_a_request(bootstrap: Path) -> None:
    """Wait until Envoy serves somebody."""
    admin = json.loads(bootstrap.read_text())["admin"]["address"]["socket_address"]
    stats = f"http://127.0.0.1:{admin['port_value']}/stats?filter=ingress_http.downstream_rq_active"
    deadline = time.monotonic() + 10
    while httpx.get(stats).text.strip().endswith(": 0"):
        assert time.monotonic() < deadline, "the request never came"
        time.sleep(0.02)


def test_ctrl_c_lets_requests_end_and_leaves_nothing(tmp_path: Path) -> None:
    """A request in flight is answered; then every process and socket is gone."""
    with UpProcess(*FREE_PORTS, "--run-dir", "run", cwd=tmp_path) as up:
        url, key = up.wait_until_ready(), up.said("demo key")
        children = up.children()
        (emulator,) = [command for command in children.values() if "emulator" in command]
        port = emulator[emulator.index("--port") + 1]
        slow = {"client_secrets": {"delay_s": 2}}
        httpx.post(f"http://127.0.0.1:{port}/emulator/faults", json=slow).raise_for_status()
        answers: list[httpx.Response] = []
        request = threading.Thread(target=lambda: answers.append(mint(url, key)))
        request.start()
        wait_for_a_request(tmp_path / "run/envoy.json")

        up.interrupt()

        assert up.wait() == 0
        request.join(10)
    assert [answer.status_code for answer in answers] == [200]
    assert up.lines[-3:] == [
        "draining: no new work, waiting for requests in flight",
        "stopping",
        "stopped",
    ]
    assert are_gone(children)
    assert list((tmp_path / "run").glob("**/*.sock")) == []
    assert (tmp_path / "run/logs/envoy.log").exists()


def test_ctrl_c_before_it_is_ready_leaves_nothing(tmp_path: Path) -> None:
    """Whoever changes their mind while it starts gets the prompt back, and no process stays."""
    with UpProcess(*FREE_PORTS, "--run-dir", "run", cwd=tmp_path) as up:
        deadline = time.monotonic() + 20
        while len(children := up.children()) < 3:
            assert time.monotonic() < deadline, "nothing was started"
            time.sleep(0.02)

        up.interrupt()

        assert up.wait() == 130
    assert up.lines == ["stopping"]
    assert are_gone(children)


def test_nothing_outlives_a_killed_command(tmp_path: Path) -> None:
    """Even SIGKILL, which nobody can handle, leaves no child behind."""
    with UpProcess(*FREE_PORTS, "--run-dir", "run", "--workers", "1", cwd=tmp_path) as up:
        up.wait_until_ready()
        children = up.children()

        up.process.kill()

        assert are_gone(children)
    assert len(children) == 5


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """Nothing is started beside a stranger; the message names the port and the option."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with UpProcess(*FREE_PORTS, "--admin-port", str(port), cwd=tmp_path) as up:
            assert up.wait() == 1

    (line,) = up.lines
    assert line.startswith(f"Port {port} is in use. Choose another one with --admin-port")


def test_a_bad_configuration_is_listed_as_check_does(tmp_path: Path) -> None:
    """Every mistake is shown at once, and nothing is started."""
    (tmp_path / "litellm.yaml").write_text(
        "model_list:\n"
        "- litellm_params: {model: openai/gpt-realtime, api_key: os.environ/NOT_SET_ANYWHERE}\n"
    )
    (tmp_path / "keys.yaml").write_text("keys: [{alias: web}]\n")
    files = ("--config", "litellm.yaml", "--keys", "keys.yaml")
    command = [RINGBACK, "check", *files]
    check = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    with UpProcess(*FREE_PORTS, *files, cwd=tmp_path) as up:
        assert up.wait() == 2

    assert up.lines == check.stderr.splitlines()
    assert len(up.lines) > 2


def test_a_child_that_cannot_start_is_explained(tmp_path: Path) -> None:
    """The command ends at once, with the end of the child's log and where the rest is."""
    variables = {"RINGBACK_TOKEN__JWK_SET_FILE": "missing.json"}

    with UpProcess(*FREE_PORTS, "--run-dir", "run", cwd=tmp_path, env=variables) as up:
        assert up.wait() == 1

    text = "\n".join(up.lines)
    assert re.match(r"(extauthz|sdpfilter)-0 ended with code 2[,.]", up.lines[0])
    assert f"The end of {tmp_path}/run/logs/" in text
    assert "missing.json" in text


def test_the_log_of_a_lost_worker_stays(tmp_path: Path) -> None:
    """When a further worker cannot run, the command ends and leaves the log that it names."""
    with take_port() as taken:
        metrics = f"127.0.0.1:{taken.getsockname()[1] - 10}"
        variables = {"RINGBACK_METRICS_ADDRESS": metrics, "TMPDIR": str(tmp_path)}
        with UpProcess(*FREE_PORTS, cwd=tmp_path, env=variables) as up:
            log = up.wait_for(r"^extauthz-1 cannot be started again; (\S+) says why$")[1]
            assert up.wait() == 1
    assert "metrics" in Path(log).read_text()


def take_port() -> socket.socket:
    """Return what listens where the kernel sends nobody who asks for any free port."""
    while True:
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", random.randrange(20_000, 30_000)))


def create_key(folder: Path) -> str:
    """Write a key file, and return its key."""
    command = [RINGBACK, "keys", "create", "--alias", "web"]
    created = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return created.stdout.strip()


async def test_a_configuration_of_ones_own_is_served(tmp_path: Path) -> None:
    """With --config there is no emulator, no demo key and no page, and one's own keys work.

    A change of the files that is refused is told on the terminal.
    """
    async with Emulator() as provider:
        (tmp_path / "litellm.yaml").write_text(
            "model_list:\n"
            "- model_name: voice\n"
            "  litellm_params:\n"
            "    model: openai/gpt-realtime\n"
            f"    api_base: {provider.openai_url}\n"
            "    api_key: os.environ/PROVIDER_KEY\n"
        )
        key = await asyncio.to_thread(create_key, tmp_path)
        variables = {
            "PROVIDER_KEY": "sk-made-up",
            "LITELLM_SALT_KEY": "a salt of sixteen characters or more",
        }
        files = ("--config", "litellm.yaml", "--keys", "keys.yaml")
        with UpProcess(*FREE_PORTS, *files, cwd=tmp_path, env=variables) as up:
            url = await asyncio.to_thread(up.wait_until_ready)
            answer = await asyncio.to_thread(mint, url, key, "voice")
            page = await asyncio.to_thread(httpx.get, f"{url}/playground")
            (tmp_path / "litellm.yaml").write_text("model_list: nothing\n")
            await asyncio.to_thread(up.wait_for, "^extauthz: config_refused$")
            await asyncio.to_thread(up.wait_for, "^  litellm.yaml: model_list: ")
            up.interrupt()
            assert await asyncio.to_thread(up.wait) == 0

    assert answer.status_code == 200
    assert page.status_code == 404
    assert [line.split()[0] for line in up.lines[:5]] == ["url", "models", "logs", "try", "ready"]
    assert "YOUR_KEY" in up.said("try")
    assert not any("emulator" in line for line in up.lines)
