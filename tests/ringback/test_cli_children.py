import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest

from ringback.cli.children import Wiring, Worker, emulator_child, envoy_child, service_workers
from ringback.cli.folders import Folders
from ringback.cli.plan import Inputs, StackOptions
from ringback.render.bootstrap import Address
from ringback.secrets import Secret
from ringback.settings import Settings, SupervisionSettings

EGRESS = Address("127.0.0.1", 14001)
PYTHON = (sys.executable, "-P", "-m")


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    """A run folder."""
    folders = Folders(tmp_path)
    yield folders
    folders.close()


def make_inputs(
    *, settings: Settings | None = None, token_secret: Secret | None = None, workers: int = 2
) -> Inputs:
    """Return what was asked for."""
    return Inputs(
        settings=settings or Settings(),
        config=None,
        keys=None,
        models=("gpt-realtime",),
        token_secret=token_secret,
        ca_file=Path("/etc/ca.pem"),
        workers=workers,
        has_playground=True,
    )


def make_workers(
    folders: Folders,
    inputs: Inputs | None = None,
    options: StackOptions | None = None,
    environ: Mapping[str, Secret] | None = None,
) -> dict[str, Worker]:
    """Return the workers by name."""
    wiring = Wiring(
        config=Path("litellm.yaml"), keys=Path("keys.yaml"), egress=EGRESS, environ=environ or {}
    )
    workers = service_workers(inputs or make_inputs(), options or StackOptions(), wiring, folders)
    return {worker.child.name: worker for worker in workers}


def test_each_worker_has_a_socket_of_its_own(folders: Folders, tmp_path: Path) -> None:
    """Workers are numbered within their service, and the first of each is marked."""
    workers = make_workers(folders, make_inputs(workers=3))

    assert list(workers) == [
        *("extauthz-0", "extauthz-1", "extauthz-2"),
        *("sdpfilter-0", "sdpfilter-1", "sdpfilter-2"),
    ]
    assert {worker.address for worker in workers.values()} == {
        folders.socket(name) for name in workers
    }
    assert [name for name in workers if workers[name].is_first] == ["extauthz-0", "sdpfilter-0"]
    assert workers["sdpfilter-2"].service == "sdpfilter"
    assert workers["sdpfilter-2"].child.log == tmp_path / "logs/sdpfilter-2.log"


@pytest.mark.parametrize(("store", "keepers"), [("memory", 1), ("valkey", 3)])
def test_callkeeper_has_several_workers_if_they_share_their_calls(
    folders: Folders, store: Literal["memory", "valkey"], keepers: int
) -> None:
    """And only if calls are supervised; whoever asks them is told where all of them are."""
    supervision = SupervisionSettings(mode="required", store=store)
    inputs = make_inputs(settings=Settings(supervision=supervision), workers=3)
    workers = make_workers(folders, inputs)
    names = [name for name in workers if workers[name].service == "callkeeper"]
    assert names == [f"callkeeper-{index}" for index in range(keepers)]
    for worker in workers.values():
        assert worker.child.env is not None
        told = json.loads(worker.child.env["RINGBACK_SUPERVISION__CALLKEEPER"])
        assert told == [folders.socket(name) for name in names]


def test_services_get_the_files_they_read(folders: Folders) -> None:
    """Configuration and keys are for extauthz; the settings are for both."""
    workers = make_workers(folders, options=StackOptions(settings=Path("ringback.yaml")))

    assert list(workers["extauthz-1"].child.command) == [
        *(*PYTHON, "extauthz", "--listen", folders.socket("extauthz-1")),
        *("--config", "litellm.yaml", "--keys", "keys.yaml", "--settings", "ringback.yaml"),
    ]
    assert list(workers["sdpfilter-0"].child.command) == [
        *(*PYTHON, "sdpfilter", "--listen", folders.socket("sdpfilter-0")),
        *("--settings", "ringback.yaml"),
    ]


def test_each_worker_has_metrics_of_its_own(folders: Folders) -> None:
    """No two workers share a port, and without the setting nobody has one."""
    settings = Settings(metrics_address="127.0.0.1:9464")
    workers = make_workers(folders, make_inputs(settings=settings))

    assert [list(worker.child.command)[-2:] for worker in workers.values()] == [
        ["--metrics", f"127.0.0.1:{port}"] for port in (9464, 9474, 9465, 9475)
    ]
    assert "--metrics" not in make_workers(folders)["extauthz-0"].child.command


def test_secrets_travel_by_environment(folders: Folders) -> None:
    """Sealing keys go to both services, what opens providers to extauthz alone, none by argv."""
    workers = make_workers(
        folders,
        make_inputs(token_secret=Secret("made up token secret")),
        environ={"EMULATOR_API_KEY": Secret("made up provider key")},
    )

    environs = {name: worker.child.env or {} for name, worker in workers.items()}
    assert {environ["RINGBACK_TOKEN__SECRET"] for environ in environs.values()} == {
        "made up token secret"
    }
    assert environs["extauthz-0"]["EMULATOR_API_KEY"] == "made up provider key"
    assert "EMULATOR_API_KEY" not in environs["sdpfilter-0"]
    words = [word for worker in workers.values() for word in worker.child.command]
    assert not any("made up" in word for word in words)


def test_without_a_derived_secret_the_services_find_their_own(folders: Folders) -> None:
    """If the settings name the sealing keys, nothing overrides them."""
    workers = make_workers(folders)

    assert "RINGBACK_TOKEN__SECRET" not in (workers["sdpfilter-0"].child.env or {})


def test_the_environment_is_shared_by_need(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To extauthz all is given, to sdpfilter our settings, to Envoy and the emulator neither."""
    monkeypatch.setenv("OPENAI_API_KEY", "made up")
    monkeypatch.setenv("RINGBACK_LOG_LEVEL", "error")
    monkeypatch.setenv("PATH", "/usr/bin")
    workers = make_workers(folders, options=StackOptions(environ={"AZURE_API_KEY": "made up"}))

    environs = {
        "extauthz": workers["extauthz-0"].child.env,
        "sdpfilter": workers["sdpfilter-0"].child.env,
        "emulator": emulator_child(EGRESS, folders).env,
        "envoy": envoy_child(Path("envoy"), Path("b.json"), StackOptions(), folders).env,
    }
    seen = {
        name: {
            variable
            for variable in ("OPENAI_API_KEY", "AZURE_API_KEY", "RINGBACK_LOG_LEVEL", "PATH")
            if variable in (environ or {})
        }
        for name, environ in environs.items()
    }
    assert seen == {
        "extauthz": {"OPENAI_API_KEY", "AZURE_API_KEY", "RINGBACK_LOG_LEVEL", "PATH"},
        "sdpfilter": {"RINGBACK_LOG_LEVEL", "PATH"},
        "emulator": {"PATH"},
        "envoy": {"PATH"},
    }


def test_services_learn_where_envoy_is(folders: Folders) -> None:
    """The egress listener's address and the certificate authorities are told to the services."""
    environ = make_workers(folders)["extauthz-0"].child.env or {}

    assert environ["RINGBACK_UPSTREAM__EGRESS_URL"] == "http://127.0.0.1:14001"
    assert environ["RINGBACK_UPSTREAM__CA_FILE"] == "/etc/ca.pem"


def test_envoy_runs_beside_others(folders: Folders) -> None:
    """Hot restart is off, so that several run on one machine; no debug log can show a token."""
    child = envoy_child(Path("/bin/envoy"), Path("b.json"), StackOptions(concurrency=3), folders)

    command = list(child.command)
    assert command[:3] == ["/bin/envoy", "-c", "b.json"]
    assert "--disable-hot-restart" in command
    assert command[command.index("--concurrency") + 1] == "3"
    assert command[command.index("--log-level") + 1] == "warning"


def test_no_secret_shows_in_a_representation(folders: Folders) -> None:
    """What is put together for a child shows no environment in a traceback."""
    workers = make_workers(folders, make_inputs(token_secret=Secret("made up token secret")))

    assert "made up" not in repr(workers)
