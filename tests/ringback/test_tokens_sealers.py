import json
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from ringback.errors import StartError
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import Mode, handle_sealer, token_sealer
from ringback.tokens.errors import (
    KeyFileError,
    MissingSecretError,
    SealingKeyError,
    TokenError,
    WeakSecretError,
)

NOW = 1_767_268_800
CLAIMS = {"iat": NOW, "exp": NOW + 60}
OWN, SALT, MASTER, FILED = (f"{name}-0123456789abcdef" for name in ("own", "salt", "sk", "sk-file"))
JWK_SET = {
    "keys": [{"kty": "oct", "kid": "a", "k": urlsafe_b64encode(bytes(32)).decode().rstrip("=")}]
}


def test_each_source_of_keys_beats_the_next(tmp_path: Path) -> None:
    """The order is: JWK set, own secret, salt key, master key, master key of the file."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(JWK_SET))
    environ = {"LITELLM_SALT_KEY": SALT, "LITELLM_MASTER_KEY": MASTER}
    fallback = Secret(FILED)
    nothing = TokenSettings()
    own = TokenSettings(secret=Secret(OWN))
    keys = TokenSettings(jwk_set_file=path)
    pairs = [
        (TokenSettings(secret=Secret(OWN), jwk_set_file=path), environ, keys),
        (own, environ, own),
        (nothing, environ, TokenSettings(secret=Secret(SALT))),
        (nothing, {"LITELLM_MASTER_KEY": MASTER}, TokenSettings(secret=Secret(MASTER))),
        (nothing, {"LITELLM_SALT_KEY": ""}, TokenSettings(secret=fallback)),
        (TokenSettings(secret=Secret("")), {}, TokenSettings(secret=fallback)),
    ]
    for settings, variables, same in pairs:
        sealed = token_sealer(settings, variables, fallback=fallback).seal(CLAIMS, NOW)
        assert token_sealer(same, {}).open(sealed, NOW) == CLAIMS


def test_tokens_and_handles_have_their_own_prefix_and_keys() -> None:
    """A token begins with ``ek_``, a handle with ``rtc_``, and neither opens as the other."""
    settings = TokenSettings(secret=Secret(OWN))
    token = token_sealer(settings, {}).seal(CLAIMS, NOW)
    handle = handle_sealer(settings, {}).seal(CLAIMS, NOW)
    assert token.startswith("ek_")
    assert handle.startswith("rtc_")
    with pytest.raises(TokenError, match="decrypt"):
        handle_sealer(settings, {}).open("rtc_" + token.removeprefix("ek_"), NOW)


def test_tokens_and_handles_of_one_jwk_set_have_their_own_keys(tmp_path: Path) -> None:
    """A JWK is not used itself: each purpose has a key derived from it."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(JWK_SET))
    settings = TokenSettings(jwk_set_file=path)
    token = token_sealer(settings, {}).seal(CLAIMS, NOW)
    with pytest.raises(TokenError, match="decrypt"):
        handle_sealer(settings, {}).open("rtc_" + token.removeprefix("ek_"), NOW)


def test_the_leeway_of_the_settings_counts() -> None:
    """``leeway_s`` is how far ahead the clock of the replica that sealed may be."""
    sealer = token_sealer(TokenSettings(secret=Secret(OWN), leeway_s=9), {})
    token = sealer.seal(CLAIMS, NOW)
    assert sealer.open(token, NOW - 9) == CLAIMS
    with pytest.raises(TokenError, match="not_yet"):
        sealer.open(token, NOW - 10)


def test_no_secret_is_a_start_error_that_tells_what_to_set() -> None:
    """Without a secret nothing starts, and the text names every way to set one."""
    with pytest.raises(MissingSecretError) as caught:
        token_sealer(TokenSettings(), {"LITELLM_SALT_KEY": ""}, mode="development")
    assert isinstance(caught.value, StartError)
    assert str(caught.value) == (
        "There is no secret to seal tokens with. Set LITELLM_SALT_KEY, LITELLM_MASTER_KEY, "
        "general_settings.master_key, RINGBACK_TOKEN__SECRET or RINGBACK_TOKEN__JWK_SET_FILE."
    )


@pytest.mark.parametrize(
    ("settings", "environ", "source"),
    [
        pytest.param(
            TokenSettings(secret=Secret("hunter2")), {}, "RINGBACK_TOKEN__SECRET", id="own"
        ),
        pytest.param(
            TokenSettings(), {"LITELLM_SALT_KEY": "hunter2"}, "LITELLM_SALT_KEY", id="salt"
        ),
        pytest.param(
            TokenSettings(), {"LITELLM_MASTER_KEY": "sk-hunter2"}, "LITELLM_MASTER_KEY", id="master"
        ),
        pytest.param(TokenSettings(), {}, "general_settings.master_key", id="file"),
    ],
)
def test_a_short_secret_is_for_development_only(
    settings: TokenSettings, environ: dict[str, str], source: str
) -> None:
    """In production a short secret is refused by name, even if a longer one comes after it."""
    fallback = Secret("hunter2-15chars")
    with pytest.raises(WeakSecretError) as caught:
        handle_sealer(settings, environ, fallback=fallback)
    assert isinstance(caught.value, SealingKeyError)
    assert str(caught.value) == (
        f"{source} is too short to seal tokens with. Use 16 random characters or more, for example "
        "from `openssl rand -hex 32`; RINGBACK_TOKEN__SECRET takes precedence over all others."
    )
    sealer = handle_sealer(settings, environ, mode="development", fallback=fallback)
    assert sealer.seal(CLAIMS, NOW).startswith("rtc_")


@pytest.mark.parametrize("mode", ["production", "development"])
def test_a_bad_key_file_is_never_passed_over(mode: Mode, tmp_path: Path) -> None:
    """A JWK set that cannot be used is an error in every mode, even if a secret is set too."""
    settings = TokenSettings(secret=Secret(OWN), jwk_set_file=tmp_path / "none.json")
    with pytest.raises(KeyFileError):
        token_sealer(settings, {"LITELLM_SALT_KEY": SALT}, mode=mode)


def test_sixteen_characters_are_enough() -> None:
    """The shortest secret for production has 16 characters."""
    token_sealer(TokenSettings(secret=Secret("x" * 16)), {})
    with pytest.raises(WeakSecretError):
        token_sealer(TokenSettings(secret=Secret("x" * 15)), {})
