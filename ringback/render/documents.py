"""Manifests: YAML with comments, read from templates, changed by name, written out again.

A template is a manifest that is complete as it is, so that editors and people can read it.
"""

import io
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

from ringback.errors import StartError

# Like a dict, and it keeps the comments in it.
Document = CommentedMap
# Lines stay as long as they were written.
_WIDTH: Final = 4096
# Longer ones are hard to read.
_FLOW_WIDTH: Final = 88
# Texts that need no quotes for readers of YAML 1.1 either, as kubectl is one: they take more
# letters for signs than YAML 1.2 does, and these words for true and false.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./ -]*")
_SWITCHES: Final = frozenset({"on", "off", "yes", "no", "y", "n"})


class TemplateError(StartError):
    """A template lacks a part that has to be changed.

    Args:
        path: Names that lead to the part.
    """

    def __init__(self, *path: str) -> None:
        self.path = path

    def __str__(self) -> str:
        return f"A template has no {' > '.join(self.path)}. Install Ringback again."


def load_template(target: str, name: str) -> list[Document]:
    """Return the documents of ``templates/TARGET/NAME``; each call gives new ones."""
    text = files("ringback.render").joinpath("templates", target, name).read_text("utf-8")
    return [document for document in _yaml().load_all(text) if document is not None]


def load_text(text: str) -> Document:
    """Return one document."""
    document: Document = _yaml().load(text)
    return document


def copy_of(value: Any) -> Any:
    """Return a copy of a document or of a part of one, with its comments.

    copy.deepcopy loses some, and what it makes of a list with a comment above its first item is no
    YAML any more (ruamel.yaml 0.19).
    """
    return _yaml().load(dump([value]))


def line(**fields: Any) -> Any:
    """Return a mapping that is written on one line."""
    mapping = CommentedMap(fields)
    mapping.fa.set_flow_style()
    return mapping


def dump(documents: Iterable[Any]) -> str:
    """Return documents as YAML, with their comments and ``---`` between them."""
    output = io.StringIO()
    _yaml().dump_all(documents, output)
    return output.getvalue()


def to_document(value: Any, width: int = _FLOW_WIDTH) -> Any:
    """Return a plain value as what a document can hold.

    What is short stands in one line, and texts of several lines as blocks.

    Args:
        value: As JSON has it.
        width: How long a line may be.
    """
    written: Any = value
    if isinstance(value, dict):
        written = CommentedMap({name: to_document(item, width) for name, item in value.items()})
    elif isinstance(value, list):
        written = CommentedSeq(to_document(item, width) for item in value)
    elif isinstance(value, str) and "\n" in value:
        return LiteralScalarString(value)
    elif isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _SWITCHES):
        return SingleQuotedScalarString(value)
    if isinstance(written, CommentedMap | CommentedSeq) and _fits(value, width):
        written.fa.set_flow_style()
    return written


def _fits(value: Any, width: int) -> bool:
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return False
    text = json.dumps(value)
    return len(text) <= width and "\\n" not in text and "[{" not in text


def named(parts: Iterable[Any], name: str) -> Any:
    """Return the part with a name: a container, a volume, a port, a filter.

    Raises:
        TemplateError: If there is none.
    """
    for part in parts:
        if part.get("name") == name:
            return part
    raise TemplateError(name)


def resource(documents: Iterable[Document], kind: str, name: str | None = None) -> Document:
    """Return the resource of a kind, by its name where there are several.

    Raises:
        TemplateError: If there is none.
    """
    for document in documents:
        is_named_so = name is None or name == document.get("metadata", {}).get("name")
        if document.get("kind") == kind and is_named_so:
            return document
    raise TemplateError(kind, *([name] if name else []))


def part(parent: Any, *path: str | int) -> Any:
    """Return what a path of names and places leads to.

    Raises:
        TemplateError: If it leads nowhere.
    """
    for step in path:
        try:
            parent = parent[step]
        except (KeyError, IndexError, TypeError):
            raise TemplateError(*map(str, path)) from None
    return parent


@cache
def _yaml() -> YAML:
    """Return a reader and writer in round-trip mode, in the style of envoy/envoy.yaml."""
    yaml = YAML(typ="rt")
    yaml.width = _WIDTH
    yaml.preserve_quotes = True
    # Lists are not indented below their names.
    yaml.indent(mapping=2, sequence=2, offset=0)
    return yaml
