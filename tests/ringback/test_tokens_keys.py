import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc.jwk import OctKey

from ringback.secrets import Secret
from ringback.tokens.errors import KeyFileError, TokenError
from ringback.tokens.keys import HANDLE_PURPOSE, TOKEN_PURPOSE, KeyRing

SECRET = Secret("correct horse battery staple")
MIDNIGHT = 1_767_225_600  # 2026-01-01T00:00:00Z
DAY_S = 86_400
LEEWAY_S = 5
MATERIAL = urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
OTHER_MATERIAL = urlsafe_b64encode(bytes(range(1, 33))).decode().rstrip("=")

WriteKeys = Callable[[object], Path]


@pytest.fixture
def write_keys(tmp_path: Path) -> WriteKeys:
    """Write a JWK set file."""

    def write(content: object) -> Path:
        path = tmp_path / "keys.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def daily(purpose: str = TOKEN_PURPOSE, secret: Secret = SECRET) -> KeyRing:
    """Return keys derived from a secret."""
    return KeyRing.from_secret(secret, purpose, leeway_s=LEEWAY_S)


def jwk(kid: object = "2026-a", k: object = MATERIAL, **members: object) -> dict[str, object]:
    """Return one JWK, right unless told otherwise."""
    return {"kty": "oct", "kid": kid, "k": k, **members}


@pytest.mark.parametrize(
    ("now", "kid"),
    [
        # Realistic
        pytest.param(MIDNIGHT + 43_200.5, "2026-01-01", id="noon"),
        # Synthetic
        pytest.param(MIDNIGHT, "2026-01-01", id="first-second"),
        pytest.param(MIDNIGHT - 0.001, "2025-12-31", id="just-before-midnight"),
        pytest.param(1_709_164_800, "2024-02-29", id="leap-day"),
        # Pathological
        pytest.param(0, "1970-01-01", id="clock-not-set"),
    ],
)
def test_the_key_id_is_the_utc_day(now: float, kid: str) -> None:
    """The key that seals is named after the day in UTC."""
    assert daily().sealing_key(now)[0] == kid


@pytest.mark.parametrize(
    ("now", "kids"),
    [
        # Realistic
        pytest.param(MIDNIGHT + 43_200, {"2025-12-31", "2026-01-01"}, id="noon"),
        # Synthetic
        pytest.param(MIDNIGHT, {"2025-12-31", "2026-01-01"}, id="first-second"),
        pytest.param(
            MIDNIGHT + DAY_S - LEEWAY_S - 0.001, {"2025-12-31", "2026-01-01"}, id="before-leeway"
        ),
        pytest.param(
            MIDNIGHT + DAY_S - LEEWAY_S,
            {"2025-12-31", "2026-01-01", "2026-01-02"},
            id="leeway-begins",
        ),
        pytest.param(
            MIDNIGHT + DAY_S - 0.001, {"2025-12-31", "2026-01-01", "2026-01-02"}, id="leeway-ends"
        ),
    ],
)
def test_today_and_yesterday_open_and_tomorrow_within_the_leeway(
    now: float, kids: set[str]
) -> None:
    """Exactly the keys of today, yesterday and, close to midnight, tomorrow open."""
    ring = daily()
    opened = set()
    for kid in ("2025-12-30", "2025-12-31", "2026-01-01", "2026-01-02", "2026-01-03"):
        try:
            ring.opening_key(kid, now)
        except TokenError as error:
            assert error.reason == "kid"  # noqa: PT017  one assertion of two outcomes
        else:
            opened.add(kid)
    assert opened == kids


def test_replicas_derive_the_same_keys() -> None:
    """What one replica seals with, another one opens with, on the next day too."""
    kid, key = daily().sealing_key(MIDNIGHT)
    assert daily().opening_key(kid, MIDNIGHT + DAY_S).raw_value == key.raw_value


def test_every_day_purpose_and_secret_has_its_own_key(write_keys: WriteKeys) -> None:
    """No two days, purposes, secrets or sources share a key, and none is the secret itself."""
    path = write_keys({"keys": [jwk(), jwk("b", OTHER_MATERIAL)]})
    tokens = KeyRing.from_jwk_set(path, TOKEN_PURPOSE, leeway_s=0)
    handles = KeyRing.from_jwk_set(path, HANDLE_PURPOSE, leeway_s=0)
    keys: list[OctKey] = [
        daily().sealing_key(MIDNIGHT)[1],
        daily().sealing_key(MIDNIGHT + DAY_S)[1],
        daily(HANDLE_PURPOSE).sealing_key(MIDNIGHT)[1],
        daily(secret=Secret("another secret")).sealing_key(MIDNIGHT)[1],
        tokens.opening_key("2026-a", 0),
        tokens.opening_key("b", 0),
        handles.opening_key("2026-a", 0),
        handles.opening_key("b", 0),
    ]
    values = {key.raw_value for key in keys}
    assert len(values) == len(keys)
    assert not values & {bytes(range(32)), bytes(range(1, 33)), SECRET.reveal().encode()}


def test_made_up_key_ids_cost_no_memory() -> None:
    """However many ids clients make up, the ring keeps the keys of three days at most."""
    ring = daily()
    now = MIDNIGHT + DAY_S - 1
    derived = {id(ring.opening_key(kid, now)) for kid in ("2025-12-31", "2026-01-01", "2026-01-02")}
    for number in range(1000):
        with pytest.raises(TokenError):
            ring.opening_key(f"{number:04}-01-01", now)
    again = {id(ring.opening_key(kid, now)) for kid in ("2025-12-31", "2026-01-01", "2026-01-02")}
    assert derived == again


def test_a_secret_that_is_not_utf8_has_keys() -> None:
    """A variable with bytes that are not UTF-8 arrives with surrogates, and is a secret too."""
    kid, _ = daily(secret=Secret("\udcff" * 16)).sealing_key(MIDNIGHT)
    assert kid == "2026-01-01"


def test_the_first_key_of_a_set_seals_and_all_open(write_keys: WriteKeys) -> None:
    """A JWK set rotates by order: the first key seals at any time, every one opens."""
    path = write_keys({"keys": [jwk("new", use="enc", alg="A256GCM"), jwk("old", OTHER_MATERIAL)]})
    ring = KeyRing.from_jwk_set(path, TOKEN_PURPOSE, leeway_s=LEEWAY_S)
    kid, key = ring.sealing_key(MIDNIGHT)
    assert kid == "new"
    assert ring.opening_key("new", MIDNIGHT + 400 * DAY_S) is key
    assert ring.opening_key("old", MIDNIGHT) is not key
    with pytest.raises(TokenError, match="kid"):
        ring.opening_key("2026-01-01", MIDNIGHT)


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        # Realistic
        pytest.param("", ["it is not JSON"], id="empty-file"),
        pytest.param(
            {"keys": [{"kty": "RSA", "kid": "a", "n": "x", "e": "AQAB"}]},
            ["key 1: kty must be oct", "key 1: k must be 256 bits in base64url without padding"],
            id="rsa",
        ),
        pytest.param(
            jwk(), ['expected an object {"keys": [...]} with at least one key'], id="key-not-set"
        ),
        pytest.param(
            {"keys": [jwk(k=urlsafe_b64encode(bytes(16)).decode().rstrip("="))]},
            ["key 1: k must be 256 bits in base64url without padding"],
            id="128-bit",
        ),
        pytest.param(
            {"keys": [jwk(), jwk(k=OTHER_MATERIAL)]},
            ["key 2: another key has the same kid"],
            id="kid-twice",
        ),
        pytest.param(
            {"keys": [{"kty": "oct", "k": MATERIAL}]},
            ["key 1: kid must be 1 to 64 letters, digits, dots, underscores and hyphens"],
            id="no-kid",
        ),
        # Synthetic
        pytest.param(
            {"keys": [jwk(use="sig")]}, ["key 1: use must be enc or absent"], id="for-signatures"
        ),
        pytest.param(
            {"keys": [jwk(kid=7, k=7), "x", jwk(), jwk(kid="a b")]},
            [
                "key 1: kid must be 1 to 64 letters, digits, dots, underscores and hyphens",
                "key 1: k must be 256 bits in base64url without padding",
                "key 2: expected an object",
                "key 4: kid must be 1 to 64 letters, digits, dots, underscores and hyphens",
            ],
            id="all-at-once",
        ),
        pytest.param(
            {"keys": [jwk(k=MATERIAL + "=")]},
            ["key 1: k must be 256 bits in base64url without padding"],
            id="padding",
        ),
        pytest.param(
            {"keys": []},
            ['expected an object {"keys": [...]} with at least one key'],
            id="no-keys",
        ),
        # Pathological
        pytest.param(
            {"keys": [jwk(k=MATERIAL[:-1] + "9")]},
            ["key 1: k must be 256 bits in base64url without padding"],
            id="alternative-last-character",
        ),
        pytest.param(
            {"keys": [jwk(k="é" * 43), jwk(k="A"), jwk(k="+" * 43), jwk(kid="x" * 65)]},
            [
                "key 1: k must be 256 bits in base64url without padding",
                "key 2: k must be 256 bits in base64url without padding",
                "key 3: k must be 256 bits in base64url without padding",
                "key 4: kid must be 1 to 64 letters, digits, dots, underscores and hyphens",
            ],
            id="no-base64url",
        ),
        pytest.param("[" * 100_000, ["it is not JSON"], id="bottomless"),
        pytest.param(
            '"keys"', ['expected an object {"keys": [...]} with at least one key'], id="a-string"
        ),
    ],
)
def test_everything_wrong_with_a_key_file_is_named(
    write_keys: WriteKeys, content: object, problems: list[str]
) -> None:
    """One error lists every problem of the file with the position of the key, and no key."""
    path = write_keys(content)
    with pytest.raises(KeyFileError) as caught:
        KeyRing.from_jwk_set(path, TOKEN_PURPOSE, leeway_s=LEEWAY_S)
    lines = "".join(f"\n  {problem}" for problem in problems)
    assert str(caught.value) == f"{path} is no usable set of keys:{lines}"
    assert MATERIAL[:8] not in str(caught.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """A file that cannot be read is an error that names the file and the cause."""
    path = tmp_path / "none.json"
    with pytest.raises(KeyFileError) as caught:
        KeyRing.from_jwk_set(path, TOKEN_PURPOSE, leeway_s=LEEWAY_S)
    assert str(caught.value) == (
        f"{path} is no usable set of keys:\n  it cannot be read: No such file or directory"
    )
