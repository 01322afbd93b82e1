"""Sealed tokens and call handles, and the keys that seal them."""

from collections.abc import Mapping
from typing import Literal

from ringback.contract import CALL_ID_PREFIX, TOKEN_PREFIX
from ringback.secretfiles import Variables
from ringback.secrets import Secret
from ringback.settings import MIN_SECRET_CHARS, TokenSettings
from ringback.tokens.budget import SealBudget
from ringback.tokens.errors import MissingSecretError, WeakSecretError
from ringback.tokens.jwe import Sealer
from ringback.tokens.keys import (
    CALL_KEY_PURPOSE,
    HANDLE_PURPOSE,
    PSEUDONYM_PURPOSE,
    TOKEN_PURPOSE,
    KeyRing,
    lasting_key,
)
from ringback.tokens.pseudonyms import Pseudonyms

Mode = Literal["production", "development"]


def token_sealer(
    settings: TokenSettings,
    environ: Mapping[str, str],
    *,
    mode: Mode = "production",
    fallback: Secret | None = None,
) -> Sealer:
    """Return what seals and opens ``ek_`` tokens.

    The keys come from the first of these that is set: ``settings.jwk_set_file``,
    ``settings.secret``, LITELLM_SALT_KEY, LITELLM_MASTER_KEY, ``fallback``.

    Args:
        settings: The settings ``token``.
        environ: Environment variables; their values may be in files (`ringback.secretfiles`).
        mode: Only ``development`` allows short secrets.
        fallback: The master key of LiteLLM's configuration file.

    Raises:
        SealingKeyError: If there is no secret, or a weak one, or the file is of no use.
        SecretFileError: If a variable should be in a file that cannot be used.
    """
    ring = _find_keys(settings, environ, TOKEN_PURPOSE, mode, fallback)
    return Sealer(ring, prefix=TOKEN_PREFIX, budget=SealBudget(TOKEN_PURPOSE))


def handle_sealer(
    settings: TokenSettings,
    environ: Mapping[str, str],
    *,
    mode: Mode = "production",
    fallback: Secret | None = None,
) -> Sealer:
    """Return what `ringback.tokens.handles` seals with; everything else as in `token_sealer`."""
    ring = _find_keys(settings, environ, HANDLE_PURPOSE, mode, fallback)
    return Sealer(ring, prefix=CALL_ID_PREFIX, budget=SealBudget(HANDLE_PURPOSE))


def call_key_sealer(
    settings: TokenSettings,
    environ: Mapping[str, str],
    *,
    mode: Mode = "production",
    fallback: Secret | None = None,
) -> Sealer:
    """Return what seals ephemeral keys of calls for ourselves; the rest as in `token_sealer`."""
    ring = _find_keys(settings, environ, CALL_KEY_PURPOSE, mode, fallback)
    return Sealer(ring, prefix="ck_", budget=SealBudget(CALL_KEY_PURPOSE))


def pseudonyms(
    settings: TokenSettings,
    environ: Mapping[str, str],
    *,
    mode: Mode = "production",
    fallback: Secret | None = None,
) -> Pseudonyms:
    """Return what names users for providers; everything else as in `token_sealer`."""
    material = settings.jwk_set_file or _find_secret(settings, environ, mode, fallback)
    return Pseudonyms(lasting_key(material, PSEUDONYM_PURPOSE))


def _find_keys(
    settings: TokenSettings,
    environ: Mapping[str, str],
    purpose: str,
    mode: Mode,
    fallback: Secret | None,
) -> KeyRing:
    if settings.jwk_set_file is not None:
        return KeyRing.from_jwk_set(settings.jwk_set_file, purpose, leeway_s=settings.leeway_s)
    secret = _find_secret(settings, environ, mode, fallback)
    return KeyRing.from_secret(secret, purpose, leeway_s=settings.leeway_s)


def _find_secret(
    settings: TokenSettings, environ: Mapping[str, str], mode: Mode, fallback: Secret | None
) -> Secret:
    variables = Variables(environ)
    candidates = (
        ("RINGBACK_TOKEN__SECRET", settings.secret),
        ("LITELLM_SALT_KEY", Secret(variables.get("LITELLM_SALT_KEY", ""))),
        ("LITELLM_MASTER_KEY", Secret(variables.get("LITELLM_MASTER_KEY", ""))),
        ("general_settings.master_key", fallback),
    )
    for source, secret in candidates:
        if secret:
            if mode == "production" and len(secret) < MIN_SECRET_CHARS:
                raise WeakSecretError(source, MIN_SECRET_CHARS)
            return secret
    raise MissingSecretError
