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


@pytest.mark.parametrize("document", [SERVICE, ENTRY], ids=["core", "crd"])
def test_a_sound_manifest_has_no_mistakes(document: dict[str, Any]) -> None:
    """Neither a kind of Kubernetes' own nor one of a CRD."""
    assert mistakes([document]) == []


@pytest.mark.parametrize("document", [SERVICE, ENTRY], ids=["core", "crd"])
@pytest.mark.parametrize(
    "spec", [{"prots": []}, {"ports": "80"}], ids=["unknown-field", "wrong-type"]
)
def test_a_mistake_is_found(document: dict[str, Any], spec: dict[str, Any]) -> None:
    """A field that an API server would drop counts as one that it would refuse."""
    (found,) = mistakes([document | {"spec": document["spec"] | spec}])
    assert found.startswith(f"{document['kind']} {document['metadata']['name']}: ")


def test_an_unknown_kind_is_a_mistake() -> None:
    """What has no schema here cannot be checked, and is not passed over."""
    assert mistakes([{"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "c"}}])
