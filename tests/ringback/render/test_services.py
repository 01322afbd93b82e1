from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from helpers.envoyproc import validate
from helpers.svids import DOMAIN, GATEWAY, SERVICES, Authority, Identity
from ringback.cli import app
from ringback.contract import AUTHZ_CLUSTERS, PROC_CLUSTER
from ringback.envoylint import lint_text
from ringback.settings import ServiceSettings

PLACES: Final = "extauthz: ['10.0.0.2:9001', '10.0.0.3:9001'], sdpfilter: ['voice.test:9002']"


def render(folder: Path, settings: str, *arguments: str) -> Result:
    """Run `ringback render envoy` in a folder."""
    (folder / "ringback.yaml").write_text(settings)
    given = ("--settings", str(folder / "ringback.yaml"), *arguments)
    return CliRunner().invoke(app, ["render", "envoy", *given])


def cluster(bootstrap: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a cluster."""
    clusters: list[dict[str, Any]] = bootstrap["static_resources"]["clusters"]
    (found,) = [cluster for cluster in clusters if cluster["name"] == name]
    return found


def addresses(found: dict[str, Any]) -> list[str]:
    """Return where the endpoints of a cluster are."""
    places = [
        endpoint["endpoint"]["address"]["socket_address"]
        for endpoint in found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    return [f"{place['address']}:{place['port_value']}" for place in places]


def test_services_elsewhere_are_asked_over_tls(tmp_path: Path) -> None:
    """The bootstrap and its two files are what Envoy takes; nothing in them fails open."""
    authority, identity = Authority(), Identity(tmp_path / "tls")
    identity.write(authority.issue(GATEWAY), authority)
    tls = (
        f"{{certificate_file: {identity.certificate}, key_file: {identity.key}, "
        f"ca_file: {identity.authorities}, allowed_peers: ['{SERVICES}', '{DOMAIN}/ns/voice/*'], "
        f"folder: {tmp_path}}}"
    )
    output = tmp_path / "envoy.yaml"
    result = render(tmp_path, f"services: {{{PLACES}, envoy: {tls}}}", "--output", str(output))
    assert result.exit_code == 0, result.output

    text = output.read_text()
    assert lint_text(text) == []
    bootstrap = yaml.safe_load(text)
    authz, proc = cluster(bootstrap, "extauthz"), cluster(bootstrap, "sdpfilter")
    assert (authz["type"], addresses(authz)) == ("STATIC", ["10.0.0.2:9001", "10.0.0.3:9001"])
    assert (proc["type"], addresses(proc)) == ("STRICT_DNS", ["voice.test:9002"])
    assert authz["circuit_breakers"]["thresholds"][0]["max_requests"] == 2 * 128
    for name in (*AUTHZ_CLUSTERS, PROC_CLUSTER):
        found = cluster(bootstrap, name)
        context = found["transport_socket"]["typed_config"]["common_tls_context"]
        names = context["combined_validation_context"]["default_validation_context"]
        assert names["match_typed_subject_alt_names"] == [
            {"san_type": "URI", "matcher": {"exact": SERVICES}},
            {"san_type": "URI", "matcher": {"prefix": f"{DOMAIN}/ns/voice/"}},
        ]
    accepted = validate(output)
    assert accepted.returncode == 0, accepted.stderr
    for file in ("services_certificate.yaml", "services_authorities.yaml"):
        assert "PRIVATE" not in (tmp_path / file).read_text()


def test_files_need_a_place(tmp_path: Path) -> None:
    """With certificates the terminal is no place for what is written."""
    tls = f"{{certificate_file: a, key_file: b, ca_file: c, allowed_peers: ['{SERVICES}']}}"
    result = render(tmp_path, f"services: {{envoy: {tls}}}")
    assert result.exit_code == 2
    assert "--output" in result.output


@pytest.mark.parametrize(
    ("services", "code"),
    [
        pytest.param(PLACES, 2, id="in-the-clear"),
        pytest.param("sdpfilter: ['localhost.test:9002']", 2, id="a-name"),
        pytest.param(f"{PLACES}, plaintext: true", 0, id="a-mesh-does-it"),
        pytest.param("extauthz: ['127.0.0.1:9001', '[::1]:9001']", 0, id="loopback"),
    ],
)
def test_others_are_not_asked_in_the_clear(tmp_path: Path, services: str, code: int) -> None:
    """Whoever answers in the place of a service decides, so another machine has to prove itself."""
    result = render(tmp_path, f"services: {{{services}}}")
    assert result.exit_code == code
    assert (code == 0) or "services.plaintext: true" in result.output


@pytest.mark.parametrize("place", ["", "9001", ":9001", "host:0", "host:99999", "unix:/run/s"])
def test_a_place_has_a_host_and_a_port(place: str) -> None:
    """Anything else is a mistake when the settings are read."""
    with pytest.raises(ValidationError, match="host:port"):
        ServiceSettings(extauthz=(place,))
