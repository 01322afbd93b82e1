import pytest

from extauthz.safety import InvalidSafetyIdentifierError, SafetyIdentifiers
from ringback.secrets import Secret
from ringback.settings import Settings, TokenSettings
from ringback.settings.safety import SafetyIdentifierKind
from ringback.tokens import pseudonyms

HASH = "1a" * 32
NAMES = pseudonyms(TokenSettings(secret=Secret("0123456789abcdef")), {})


@pytest.mark.parametrize(
    ("kind", "given", "user", "told"),
    [
        # Realistic
        pytest.param("off", None, "ada", None, id="off"),
        pytest.param("user", None, "ada", NAMES.of("user", "ada"), id="user"),
        pytest.param("key", None, "ada", NAMES.of("key", HASH), id="key"),
        pytest.param("off", "hash", "ada", "hash", id="the-callers"),
        pytest.param("user", "hash", "ada", "hash", id="the-callers-goes-first"),
        # Synthetic
        pytest.param("user", None, None, NAMES.of("key", HASH), id="no-user"),
        pytest.param("user", "", "ada", NAMES.of("user", "ada"), id="empty-is-none"),
        pytest.param("off", "x" * 256, None, "x" * 256, id="longest"),
    ],
)
def test_providers_are_told(
    kind: SafetyIdentifierKind, given: str | None, user: str | None, told: str | None
) -> None:
    """The caller's identifier, else a pseudonym as the settings say, else nothing."""
    found = SafetyIdentifiers(kind, NAMES).of(given, key_hash=HASH, user=user)
    assert (found and found.reveal()) == told


@pytest.mark.parametrize("given", ["a b", "a,b", "x" * 257, "é", "a\n"])
def test_an_odd_identifier_is_refused(given: str) -> None:
    """What could be two values, or is no header, is refused without being quoted."""
    with pytest.raises(InvalidSafetyIdentifierError) as refused:
        SafetyIdentifiers().of(given, key_hash=HASH, user=None)
    assert refused.value.http_status == 400
    assert given not in str(refused.value)


def test_pseudonyms_tell_nothing() -> None:
    """A pseudonym is 32 characters of a header, without the name, and of its kind only."""
    name = NAMES.of("user", "ada@example.com")
    assert len(name) == 32
    assert name.isascii()
    assert "ada" not in name
    assert name == NAMES.of("user", "ada@example.com")
    assert len({name, NAMES.of("key", "ada@example.com"), NAMES.of("user", "bob")}) == 3


def test_pseudonyms_hang_on_the_secret() -> None:
    """Another secret gives other pseudonyms; the same one gives the same, every day."""
    other = pseudonyms(TokenSettings(secret=Secret("fedcba9876543210")), {})
    again = pseudonyms(TokenSettings(), {"LITELLM_SALT_KEY": "0123456789abcdef"})
    assert other.of("user", "ada") != NAMES.of("user", "ada") == again.of("user", "ada")


def test_off_is_a_word_in_yaml_too() -> None:
    """YAML reads ``off`` as false, which is the same here."""
    assert Settings.model_validate({"safety_identifier": False}).safety_identifier == "off"
    assert Settings(safety_identifier="user").safety_identifier == "user"
    with pytest.raises(ValueError, match="safety_identifier"):
        Settings.model_validate({"safety_identifier": True})
