"""The target ``kubernetes``: a Deployment with an Envoy of its own."""

from collections.abc import Mapping, Sequence

from ringback.render.documents import Document, load_template
from ringback.render.inputs import Inputs
from ringback.render.values import Values


class KubernetesValues(Values):
    """What can be set."""


VALUES = KubernetesValues


def render(inputs: Inputs, values: Values) -> Mapping[str, Sequence[Document]]:  # noqa: ARG001
    """Return the manifests."""
    files = {"service.yaml": load_template("kubernetes", "service.yaml")}
    for document in (document for documents in files.values() for document in documents):
        document["metadata"]["namespace"] = values.namespace
    return files
