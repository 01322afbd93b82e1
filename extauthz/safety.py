"""``OpenAI-Safety-Identifier``: by which a provider tells the users of one key of ours apart.

https://platform.openai.com/docs/guides/safety-best-practices
"""

import re
from typing import Final

from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings.safety import SafetyIdentifierKind
from ringback.tokens.pseudonyms import Pseudonyms

SAFETY_IDENTIFIER: Final = "openai-safety-identifier"
# One value: repeated lines are joined by a comma.
_FORM: Final = re.compile(r"[!-+\--~]{1,256}")


class InvalidSafetyIdentifierError(ApiError):
    """The caller's ``OpenAI-Safety-Identifier`` cannot be passed on: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "safety_identifier_invalid"
    param = "OpenAI-Safety-Identifier"

    def __str__(self) -> str:
        return (
            "The OpenAI-Safety-Identifier header cannot be passed on. Send it once, as a hash of "
            "at most 256 ASCII characters without spaces and commas."
        )


class SafetyIdentifiers:
    """Says what a provider is told of who calls.

    Args:
        kind: Where the caller sends no identifier: none, or one for each user or each key.
        pseudonyms: Makes it; None only if the kind is ``off``.
    """

    def __init__(
        self, kind: SafetyIdentifierKind = "off", pseudonyms: Pseudonyms | None = None
    ) -> None:
        self._kind = kind
        self._pseudonyms = pseudonyms

    def of(self, given: str | None, *, key_hash: str, user: str | None) -> Secret | None:
        """Return the header's value, or None if none is sent.

        Args:
            given: The caller's own, which goes first.
            key_hash: The hash of the caller's key.
            user: The key's user; a key without one stands for itself.

        Raises:
            InvalidSafetyIdentifierError: If the caller's cannot be passed on: 400.
        """
        if given:
            if not _FORM.fullmatch(given):
                raise InvalidSafetyIdentifierError
            return Secret(given)
        if self._kind == "off" or self._pseudonyms is None:
            return None
        if self._kind == "user" and user:
            return Secret(self._pseudonyms.of("user", user))
        return Secret(self._pseudonyms.of("key", key_hash))
