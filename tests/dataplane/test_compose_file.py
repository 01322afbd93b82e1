import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz.keys import hash_key
from extauthz.keys.keyfile import load_keys
from extauthz.litellm import load_config
from helpers.containers import COMPOSE_FILE, ROOT, read_services, read_variables
from helpers.smoke import MODELS
from ringback.secrets import Secret
from ringback.settings import SupervisionSettings, TokenSettings
from ringback.tokens import token_sealer
from ringback.tokens.errors import WeakSecretError

TEXT = COMPOSE_FILE.read_text()
DEFAULT = read_services()
LITELLM = read_services("litellm")
SERVICES = DEFAULT | LITELLM
DEMO = ROOT / "deploy" / "compose"

every_service = pytest.mark.parametrize("name", SERVICES)


def default_of(variable: str) -> str:
    """Return what a variable is when nobody sets it."""
    defaults = set(re.findall(rf"\$\{{{variable}:-([^}}]*)\}}", TEXT))
    assert len(defaults) == 1, f"{variable} has several defaults"
    return str(defaults.pop())


def resolve(text: str) -> str:
    """Put defaults in the place of variables."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def command_of(name: str) -> list[str]:
    """Return a service's command with defaults."""
    return [resolve(word) for word in SERVICES[name]["command"]]


def test_profiles_have_their_parts() -> None:
    """Without a profile there is a whole gateway with an emulator; `litellm` adds LiteLLM's own."""
    assert DEFAULT.keys() == {"pod", "envoy", "extauthz", "sdpfilter", "callkeeper", "emulator"}
    assert LITELLM.keys() == {"litellm", "postgres", "valkey"}
    assert len(yaml.safe_load(TEXT)["services"]) == len(SERVICES)
    assert "version" not in yaml.safe_load(TEXT)


@every_service
def test_images_are_pinned(name: str) -> None:
    """An image is a release in numbers, or built here."""
    service = SERVICES[name]
    _, _, tag = service["image"].rpartition(":")

    if "build" in service:
        assert tag == "local"
    else:
        assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?|\d+\.\d+-\w+", tag)


def test_envoy_is_the_one_that_everything_is_tested_with() -> None:
    """The image's tag is .envoy-version."""
    version = (ROOT / ".envoy-version").read_text().strip()

    assert SERVICES["envoy"]["image"] == f"envoyproxy/envoy:v{version}"


@every_service
def test_containers_are_confined(name: str) -> None:
    """No root, no capability, no way to gain one, and nothing to write to but what is named."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", resolve(service["user"]))
    assert service.keys().isdisjoint({"privileged", "cap_add", "devices", "pid", "ipc"})


@every_service
def test_containers_are_looked_after(name: str) -> None:
    """Each one is restarted, has time to end, and a health check with limits."""
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"].endswith("s")
    if name == "pod":
        return  # it does nothing that could fail
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


@every_service
def test_mounts_of_this_machine_are_read_only(name: str) -> None:
    """A container changes nothing outside; named volumes are its own."""
    for volume in map(resolve, SERVICES[name].get("volumes", [])):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert rest.endswith(":ro")
            assert (ROOT / source).is_dir(), "a mounted file stays the old one when it is replaced"
        else:
            assert source in yaml.safe_load(TEXT)["volumes"]


@every_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """Nobody else on the network reaches the stack unless told to."""
    for port in map(resolve, SERVICES[name].get("ports", [])):
        assert port.startswith("127.0.0.1:")


@every_service
def test_no_secret_is_on_a_command_line(name: str) -> None:
    """Keys and passwords come by environment: everybody on the machine can read a command."""
    words = " ".join(SERVICES[name].get("command", []))

    assert not re.search(r"KEY|SECRET|PASSWORD|SALT|sk-", words)


def test_every_service_and_port_is_explained() -> None:
    """There is a comment above each service and each published port."""
    services = TEXT.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]

    assert set(re.findall(r"^  #.*\n  (\w+):$", services, re.MULTILINE)) == SERVICES.keys()
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert re.findall(r"^    ports:\n    #.*\n    - (.*)$", services, re.MULTILINE) == published


def test_dependencies_are_waited_for() -> None:
    """A service waits until what it needs is healthy; Envoy for all services."""
    needs = {
        name: {other: how["condition"] for other, how in service["depends_on"].items()}
        for name, service in SERVICES.items()
        if "depends_on" in service
    }

    assert needs == {
        "envoy": dict.fromkeys(("extauthz", "sdpfilter", "callkeeper"), "service_healthy"),
        "extauthz": {"pod": "service_started", "emulator": "service_healthy"},
        "sdpfilter": {"pod": "service_started"},
        "callkeeper": {"pod": "service_started"},
        "litellm": {"postgres": "service_healthy", "valkey": "service_healthy"},
    }


@pytest.mark.parametrize("name", ["extauthz", "sdpfilter"])
def test_services_listen_where_envoy_looks(name: str) -> None:
    """In the network that Envoy is in, at the endpoints of the cluster of the same name."""
    bootstrap = yaml.safe_load((ROOT / "envoy" / "envoy.yaml").read_text())
    command = command_of(name)

    assert SERVICES[name]["network_mode"] == SERVICES["envoy"]["network_mode"] == "service:pod"
    assert command[:3] == ["python", "-m", name]
    listens = [word for option, word in pairwise(command) if option == "--listen"]
    assert listens == list(endpoints(bootstrap, name))
    assert SERVICES[name]["healthcheck"]["test"][-1] == listens[0]


def test_services_find_each_other() -> None:
    """It listens where it is looked for, and knows every worker of extauthz."""
    command = command_of("callkeeper")
    environ = {name: resolve(value) for name, value in settings_of("callkeeper").items()}

    settings = SupervisionSettings.model_validate(
        {
            "mode": environ["RINGBACK_SUPERVISION__MODE"],
            "extauthz": json.loads(environ["RINGBACK_SUPERVISION__EXTAUTHZ"]),
        }
    )

    assert command == ["python", "-m", "callkeeper", "--listen", *settings.callkeeper]
    assert SERVICES["callkeeper"]["healthcheck"]["test"][-1:] == command[-1:]
    assert SERVICES["callkeeper"]["network_mode"] == "service:pod"
    listens = [w for option, w in pairwise(command_of("extauthz")) if option == "--listen"]
    assert list(settings.extauthz) == listens
    for name in ("extauthz", "sdpfilter"):
        assert settings_of(name) == settings_of("callkeeper")


def settings_of(name: str) -> dict[str, str]:
    """Return the settings of a service."""
    environment = SERVICES[name]["environment"].items()
    return {key: value for key, value in environment if key.startswith("RINGBACK_")}


def endpoints(bootstrap: Any, cluster: str) -> Iterator[str]:
    """Give ``host:port`` for each endpoint of a cluster."""
    (found,) = [c for c in bootstrap["static_resources"]["clusters"] if c["name"] == cluster]
    for locality in found["load_assignment"]["endpoints"]:
        for endpoint in locality["lb_endpoints"]:
            place = endpoint["endpoint"]["address"]["socket_address"]
            yield f"{place['address']}:{place['port_value']}"


def test_envoy_reads_its_own_file_with_the_playground_on() -> None:
    """The bootstrap is the one of the repository; what is laid over it is the page's switch."""
    command = command_of("envoy")
    overlay = yaml.safe_load(command[command.index("--config-yaml") + 1])

    assert command[command.index("--config-path") + 1] == "envoy/envoy.yaml"
    assert overlay == {
        "layered_runtime": {
            "layers": [{"name": "compose", "static_layer": {"ringback.playground": 100}}]
        }
    }


def test_the_demo_configuration_serves_the_emulator() -> None:
    """The configuration is read without a mistake, for both models, at the emulator's address."""
    environ = {"EMULATOR_API_KEY": "sk-any", "LITELLM_MASTER_KEY": "sk-any"}

    config = load_config(DEMO / "litellm.yaml", environ)

    port = command_of("emulator")[command_of("emulator").index("--port") + 1]
    assert tuple(deployment.model_name for deployment in config.deployments) == MODELS
    assert {str(d.origin) for d in config.deployments} == {f"http://emulator:{port}"}
    assert [deployment.provider for deployment in config.deployments] == ["openai", "azure"]
    assert environ.keys() <= SERVICES["extauthz"]["environment"].keys()


def test_the_demo_key_is_the_one_that_is_written_down() -> None:
    """The key in the comments is the one whose hash is in the key file."""
    written = re.findall(r"sk-ringback-\w+", TEXT + (DEMO / "keys.yaml").read_text())
    (key,) = load_keys(DEMO / "keys.yaml")

    assert set(written) == {"sk-ringback-demo"}
    assert key.hash == hash_key(Secret("sk-ringback-demo"))
    assert key.models == MODELS


def test_demo_secrets_do_not_work_in_production() -> None:
    """Whoever sets the mode and forgets the salt gets a message and no gateway."""
    environ = {name: default_of(name) for name in ("LITELLM_SALT_KEY", "LITELLM_MASTER_KEY")}

    assert default_of("RINGBACK_MODE") == "development"
    with pytest.raises(WeakSecretError):
        token_sealer(TokenSettings(), environ, mode="production")


def test_services_and_litellm_share_configuration_and_secrets() -> None:
    """Tokens are sealed and keys are known the same everywhere."""
    ours, theirs = SERVICES["extauthz"], SERVICES["litellm"]
    shared = ("LITELLM_SALT_KEY", "LITELLM_MASTER_KEY")

    for name in shared:
        assert ours["environment"][name] == theirs["environment"][name]
        assert ours["environment"][name] == SERVICES["sdpfilter"]["environment"][name]
    assert set(ours["volumes"]) & set(theirs["volumes"])
    assert "/etc/ringback/litellm.yaml" in command_of("extauthz")
    assert "/etc/ringback/litellm.yaml" in command_of("litellm")


def test_variables_are_explained_with_their_defaults() -> None:
    """The head of the file names every variable but the password that stays inside."""
    head = TEXT[: TEXT.index("name:")]

    for variable in read_variables() - {"POSTGRES_PASSWORD"}:
        assert re.search(rf"^#   .*\b{variable}\b", head, re.MULTILINE), variable


def test_the_dockerfile_copies_what_the_context_has() -> None:
    """.dockerignore lets through what is copied, and each of it exists."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", dockerfile, re.MULTILINE)

    assert set(copied) == set(allowed)
    assert all(Path(ROOT, name).exists() for name in copied)
    assert re.findall(r"^FROM (\S+:\S+) ", dockerfile, re.MULTILINE) == ["python:3.12-slim"]
    assert "pip install" not in re.sub(r"pip install \S+ --require-hashes", "", dockerfile)
