"""The helper that checks manifests finds what is wrong with them."""

from typing import Any

import pytest

from helpers.manifests import mistakes

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a"},
    "spec": {"ports": [{"port": 80}]},
}
ENTRY: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "ServiceEntry",
    "metadata": {"name": "b"},
    "spec": {"hosts": ["api.openai.com"], "ports": [{"number": 443, "name": "tls"}]},
}


GATEWAY: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "c"},
    "spec": {"gatewayClassName": "d", "listeners": [{"name": "e", "port": 80, "protocol": "HTTP"}]},
}
SOUND = pytest.mark.parametrize(
    "document", [SERVICE, ENTRY, GATEWAY], ids=["kubernetes", "crd", "package"]
)


@pytest.fixture
def cache(pytestconfig: pytest.Config) -> pytest.Cache:
    """Where packages of npm are."""
    return pytestconfig.cache


@SOUND
def test_a_sound_manifest_has_no_mistakes(document: dict[str, Any], cache: pytest.Cache) -> None:
    """Wherever the schema of its kind comes from."""
    assert mistakes([document], cache) == []


@SOUND
@pytest.mark.parametrize("spec", [{"prots": []}, {"ports": "80", "listeners": "80"}])
def test_a_mistake_is_found(
    document: dict[str, Any], spec: dict[str, Any], cache: pytest.Cache
) -> None:
    """A field that an API server would drop counts as one that it would refuse."""
    found = mistakes([document | {"spec": document["spec"] | spec}], cache)
    assert found
    assert found[0].startswith(f"{document['kind']} {document['metadata']['name']}: ")


@pytest.mark.parametrize("group", ["example.com", "gateway.networking.k8s.io"])
def test_an_unknown_kind_is_a_mistake(group: str, cache: pytest.Cache) -> None:
    """What has no schema here cannot be checked, and is not passed over."""
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "f"}}
    assert mistakes([thing], cache)
