"""How providers may tell users apart."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

SafetyIdentifierKind = Literal["off", "user", "key"]


def _read_off(value: object) -> object:
    """Return what ``off`` means: YAML 1.1 reads it as false."""
    return "off" if value is False else value


SafetyIdentifier = Annotated[SafetyIdentifierKind, BeforeValidator(_read_off)]
