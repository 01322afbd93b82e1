"""Files of a configuration, as what a ConfigMap holds; none that has a secret in it."""

import os
import re
from collections.abc import Iterator
from typing import Any, Final

from extauthz.yamlfile import read_yaml
from ringback.errors import StartError
from ringback.render.inputs import Inputs
from ringback.secrets import Secret
from ringback.settings import Settings

CONFIG: Final = "litellm.yaml"
SETTINGS: Final = "ringback.yaml"
_REFERENCE: Final = "os.environ/"
# What an object of Kubernetes may hold, less what stands around it.
_MAX_BYTES: Final = 1_000_000
# What is left of it without slashes is a key of a ConfigMap.
_PATH: Final = re.compile(r"[-._a-zA-Z0-9/]+")
_SECRET_NAME: Final = re.compile(
    r"(?i)(^|[_-])(key|secret|token|password|passwd|credentials|salt|cookie|authorization)$"
)
_NUMBER: Final = re.compile(r"[-+.\deE]+")
_SECRET_VALUE: Final = re.compile(r"sk-\S{8,}|[a-z][a-z0-9+]*://[^/\s]*:[^/\s]*@.*")


class EmbeddingError(StartError):
    """Files that must not or cannot be in a ConfigMap.

    Args:
        problems: One line each: the place and what to do, never a value.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def __str__(self) -> str:
        lines = "\n".join(f"  {line}" for line in self.problems)
        return f"The configuration cannot be put into a ConfigMap:\n{lines}"


def config_texts(inputs: Inputs) -> dict[str, str]:
    """Return the files of the LiteLLM configuration by the path that they need beside each other.

    Raises:
        EmbeddingError: If a secret is in one of them, or they are too large or too far apart.
    """
    first, *others = inputs.config_files
    texts, problems = {}, []
    for file in (first, *others):
        path = CONFIG if file == first else os.path.relpath(file, first.parent)
        if path.startswith(os.pardir) or (path == CONFIG and file != first):
            problems.append(f"{file}: put it into the folder of {first}, under another name")
        if not _PATH.fullmatch(path):
            problems.append(f"{file}: name it with letters, digits, dots and hyphens alone")
        texts[path] = file.read_text("utf-8-sig")
        problems += [
            f"{file}: {place}: looks like a secret: write os.environ/NAME, or put the file into "
            "a Secret and name that with --set config_secret=NAME"
            for place in secret_places(read_yaml(file))
        ]
    if sum(len(text.encode()) for text in texts.values()) > _MAX_BYTES:
        problems.append(f"{first}: is larger than a ConfigMap may be, {_MAX_BYTES} bytes")
    if problems:
        raise EmbeddingError(problems)
    return texts


def settings_text(inputs: Inputs) -> str:
    """Return ``ringback.yaml``.

    Raises:
        EmbeddingError: If a secret is in it.
    """
    file = inputs.settings_file
    if file is None:
        return "# The defaults: docs/configuration.md lists them.\n"
    problems = [
        f"{file}: {'.'.join(path)}: is a secret: leave it out, put it into the Secret under "
        f"{variable} and say so with --set secrets={variable}"
        for path in _secret_settings(read_yaml(file), Settings)
        for variable in [f"RINGBACK_{'__'.join(path).upper()}"]
    ]
    if problems:
        raise EmbeddingError(problems)
    return file.read_text("utf-8")


def secret_places(value: Any, place: str = "", name: str = "") -> Iterator[str]:
    """Give the places in plain data of texts that are secrets by their name or by their look."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from secret_places(item, f"{place}.{key}" if place else str(key), str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secret_places(item, f"{place}[{index}]", name)
    elif isinstance(value, str) and value and not value.startswith(_REFERENCE):
        is_named_so = _SECRET_NAME.search(name) and not _NUMBER.fullmatch(value)
        if is_named_so or _SECRET_VALUE.fullmatch(value):
            yield place


def _secret_settings(content: Any, model: Any) -> Iterator[tuple[str, ...]]:
    """Give the paths of the settings in a file whose type is `Secret`."""
    fields = getattr(model, "model_fields", {})
    for name in content if isinstance(content, dict) else ():
        if name not in fields:
            continue
        annotation = fields[name].annotation
        if content[name] is not None and Secret in _types(annotation):
            yield (name,)
        yield from ((name, *path) for path in _secret_settings(content[name], annotation))


def _types(annotation: Any) -> set[Any]:
    """Return what a type consists of: of ``Annotated[Secret, ...] | None``, `Secret` too."""
    parts = getattr(annotation, "__args__", ())
    return {annotation, getattr(annotation, "__origin__", None)}.union(*map(_types, parts))
