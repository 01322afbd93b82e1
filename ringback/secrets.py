"""Secrets as a type, so that no log line, error or repr shows one by accident."""

import hmac
from typing import Any, final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@final
class Secret:
    """A text that is shown only where the code says ``reveal()``.

    Compares in constant time with other secrets, and hashes like its text so that it can be a key.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself, for the wire and nothing else."""
        return self._text

    def to_bytes(self) -> bytes:
        """Return the text in UTF-8, for derivation of keys and digests.

        Every text has bytes: lone surrogates stand for bytes of a variable that are not UTF-8.
        """
        return self._text.encode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __len__(self) -> int:
        return len(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.to_bytes(), other.to_bytes())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is never pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate from a string; serialise as ``***``."""
        return core_schema.no_info_plain_validator_function(
            _parse_secret, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )


def _parse_secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    raise PydanticCustomError("secret_type", "expected text; a number needs quotes")
