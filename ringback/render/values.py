"""``--set name=value``: what a target wants to know beside the configuration."""

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ringback.errors import StartError


def _split(value: Any) -> Any:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""Several texts, with commas between them."""

Variables = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")], ...], BeforeValidator(_split)
]
"""Names of environment variables, with commas between them."""

Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65_535)], ...], BeforeValidator(_split)]
"""Several TCP ports, with commas between them."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A name in Kubernetes that is a DNS label (RFC 1123 section 2.1)."""


class Values(BaseModel):
    """What every target wants to know; each adds its own, all with a default and a docstring."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    namespace: Name = "ringback"
    """Namespace of everything that is not said to be elsewhere."""


AnyValues = TypeVar("AnyValues", bound=Values)


class ValuesError(StartError):
    """Values that a target has no use for.

    Args:
        model: The target's values.
        problems: One line each.
    """

    def __init__(self, model: type[Values], problems: list[str]) -> None:
        self.model, self.problems = model, problems

    def __str__(self) -> str:
        mistakes = "\n".join(f"  {line}" for line in self.problems)
        known = "\n".join(describe(self.model))
        return f"These values cannot be used:\n{mistakes}\n--set takes NAME=VALUE:\n{known}"


def parse_values(model: type[AnyValues], pairs: Iterable[str]) -> AnyValues:
    """Return the values of a target.

    Args:
        model: The target's values.
        pairs: ``name=value`` each.

    Raises:
        ValuesError: If one is unknown, wrong or given twice; lists all of it.
    """
    given: dict[str, str] = {}
    problems = []
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            problems.append(f"{name}: expected NAME=VALUE")
        elif name in given:
            problems.append(f"{name}: is given twice")
        given[name] = value
    try:
        values = model.model_validate(given)
    except ValidationError as error:
        problems += [_describe_problem(detail) for detail in error.errors() if detail["loc"]]
    if problems:
        raise ValuesError(model, problems)
    return values


def describe(model: type[Values]) -> list[str]:
    """Return a line for each value: its name, its default and what it is."""
    return [
        f"  {name}={_shown(field.default)}  {' '.join((field.description or '').split())}"
        for name, field in sorted(model.model_fields.items())
    ]


def _describe_problem(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{name}: there is no such value"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}"


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
