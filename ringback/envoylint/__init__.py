"""What must hold in any Envoy file of ours, whatever else it says: nothing fails open.

Pure: it reads no file and starts no Envoy, which validates types and names by itself.
"""

from collections.abc import Callable, Iterator

import yaml

from ringback.envoylint import house, traps
from ringback.envoylint.lines import line_of
from ringback.envoylint.parts import Json, Offence

__all__ = ["Offence", "lint", "lint_text"]


def lint(bootstrap: Json) -> list[Offence]:
    """Return every offence; none for a bootstrap that may be used."""
    rules = [*traps.RULES, *(house.RULES if house.is_ours(bootstrap) else ())]
    return [offence for rule in rules for offence in _apply(rule, bootstrap)]


def lint_text(text: str) -> list[str]:
    """Return every offence of a file, YAML or JSON, as a sentence with its line.

    Args:
        text: What the file holds.
    """
    try:
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both are safe
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return [f"line {mark.line + 1 if mark else 1}: is no YAML"]
    if not isinstance(found, dict):
        return ["line 1: expected an object, as an Envoy bootstrap is one"]
    return [f"line {line_of(text, offence.keys)}: {offence}" for offence in lint(found)]


def _apply(rule: Callable[[Json], Iterator[Offence]], bootstrap: Json) -> Iterator[Offence]:
    try:
        yield from rule(bootstrap)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        name = rule.__name__.replace("_", " ")
        advice = f"is not laid out as envoy/envoy.yaml is, so {name} cannot be checked"
        yield Offence("", (), advice)
