"""Where Ringback can run beside `ringback up`: one target each, and how its manifests are made."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from ringback import __version__
from ringback.render.documents import Document, dump
from ringback.render.inputs import Inputs
from ringback.render.values import Values, parse_values

_FOR_KUSTOMIZE: Final = ("components/", "overlays/")


class _Module(Protocol):
    """What the module of a target has; ``envoy-gateway`` is ``ringback.render.envoy_gateway``."""

    VALUES: type[Values]

    def render(self, inputs: Inputs, values: Values) -> Mapping[str, Sequence[Document]]:
        """Return documents by the file that they belong in, in the order of a terminal."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What a target consists of.

    Attributes:
        files: Text by path, relative to a folder of the target's own.
        stream: What a cluster is to have, as one text: without what is there for kustomize.
    """

    files: Mapping[str, str]
    stream: str


def values_of(target: str) -> type[Values]:
    """Return what can be set of a target."""
    return _module(target).VALUES


def render_manifests(target: str, inputs: Inputs, pairs: Sequence[str]) -> Manifests:
    """Return the manifests of a target; the same input gives the same text.

    Args:
        target: One of `ringback.render.TARGETS`.
        inputs: From `ringback.render.inputs.load_inputs`.
        pairs: ``name=value`` each, as `values_of` describes.

    Raises:
        StartError: If a value or something in the inputs cannot be used.
    """
    module = _module(target)
    files = module.render(inputs, parse_values(module.VALUES, pairs))
    header = _header(target, pairs)
    texts = {path: dump(documents) for path, documents in files.items()}
    applied = [texts[path] for path, documents in files.items() if _is_applied(path, documents)]
    return Manifests(
        files={path: header + text for path, text in texts.items()},
        stream=header + "---\n".join(applied),
    )


def _is_applied(path: str, documents: Sequence[Document]) -> bool:
    """Tell whether a file has what a cluster is to have.

    Kustomizations are for a client; what is no resource goes elsewhere, as its comment says.
    """
    kinds = {document.get("kind", "Kustomization") for document in documents}
    return not path.startswith(_FOR_KUSTOMIZE) and "Kustomization" not in kinds


def _module(target: str) -> _Module:
    name = target.replace("-", "_")
    return cast("_Module", importlib.import_module(f"ringback.render.{name}"))


def _header(target: str, pairs: Sequence[str]) -> str:
    given = "".join(f" --set {pair}" for pair in sorted(pairs))
    return (
        f"# Written by `ringback render {target}{given}`, Ringback {__version__}. Do not edit:\n"
        "# change the configuration and write it again, or put a kustomize overlay on top.\n\n"
    )
