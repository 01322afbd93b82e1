"""Errors of sealed values and of the keys that seal them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from ringback.errors import StartError

TokenRefusal: TypeAlias = Literal[
    "length",
    "prefix",
    "form",
    "header",
    "kid",
    "revoked",
    "decrypt",
    "claims",
    "expired",
    "not_yet",
]


class TokenError(Exception):
    """A sealed value that is refused.

    A client is told nothing but that its token is not accepted (401), or that there is no such
    call (404): what exactly is wrong helps nobody but a forger.

    Args:
        reason: Why, as a stable word for logs and metrics.
    """

    def __init__(self, reason: TokenRefusal) -> None:
        self.reason: TokenRefusal = reason

    def __str__(self) -> str:
        return f"refused: {self.reason}"


class CannotSealError(Exception):
    """The key that should seal may not any more: 503, until there is another one.

    Args:
        reason: Why: it is ``worn_out``, or ``revoked``.
    """

    def __init__(self, reason: Literal["worn_out", "revoked"]) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"the sealing key is {self.reason.replace('_', ' ')}"


class SealingKeyError(StartError):
    """There is no key to seal tokens with."""


class MissingSecretError(SealingKeyError):
    """No secret is set from which keys could be derived."""

    def __str__(self) -> str:
        return (
            "There is no secret to seal tokens with. Set LITELLM_SALT_KEY, LITELLM_MASTER_KEY, "
            "general_settings.master_key, RINGBACK_TOKEN__SECRET or RINGBACK_TOKEN__JWK_SET_FILE."
        )


class WeakSecretError(SealingKeyError):
    """A secret is so short that it can be guessed from one sealed token.

    Args:
        source: Where the secret comes from.
        min_chars: How long it has to be.
    """

    def __init__(self, source: str, min_chars: int) -> None:
        self.source = source
        self.min_chars = min_chars

    def __str__(self) -> str:
        return (
            f"{self.source} is too short to seal tokens with. Use {self.min_chars} random "
            "characters or more, for example from `openssl rand -hex 32`; RINGBACK_TOKEN__SECRET "
            "takes precedence over all others."
        )


class KeyFileError(SealingKeyError):
    """A JWK set file that cannot be used.

    Args:
        path: The file.
        problems: Everything that is wrong with it, one line each, never key material.
    """

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.path = path
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        return f"{self.path} is no usable set of keys:\n{lines}"
