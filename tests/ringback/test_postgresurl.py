from pathlib import Path

import pytest

from ringback.postgresurl import DatabaseUrl, DatabaseUrlError, parse_database_url
from ringback.secrets import Secret

PLAIN = DatabaseUrl("db.example", 5432, "litellm", Secret("pw"), "main")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        # Realistic
        ("postgresql://litellm:pw@db.example:5432/main", PLAIN),
        ("postgres://litellm:pw@db.example/main", PLAIN),
        (" postgresql://litellm:pw@db.example/main\n", PLAIN),
        (
            "postgresql://a%40b:p%3A%2F%40%C3%A9@db.example:6432/main",
            DatabaseUrl("db.example", 6432, "a@b", Secret("p:/@é"), "main"),
        ),
        (
            "postgresql://u@[::1]/d?schema=litellm&connection_limit=7&pgbouncer=true&sslmode=require",
            DatabaseUrl("::1", 5432, "u", None, "d", "litellm", "require", None, 7, is_pooled=True),
        ),
        (
            "postgresql://u@h/d?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
            DatabaseUrl(
                "h", 5432, "u", None, "d", ssl_mode="verify-ca", ca_file=Path("/etc/ca.pem")
            ),
        ),
        (
            "postgresql://u@h/d?sslaccept=strict",
            DatabaseUrl("h", 5432, "u", None, "d", ssl_mode="verify-full"),
        ),
        (
            "postgresql://u@localhost/d?host=/var/run/postgresql",
            DatabaseUrl("/var/run/postgresql", 5432, "u", None, "d"),
        ),
        # Synthetic
        (
            "postgresql://u@h/d?connection_limit=5000&pgbouncer=false&unknown=x&sslmode=",
            DatabaseUrl("h", 5432, "u", None, "d", connection_limit=100),
        ),
    ],
    ids=range(9),
)
def test_urls_of_litellm_are_understood(url: str, expected: DatabaseUrl) -> None:
    """A URL with the parameters of Prisma or libpq says where the database is."""
    parsed = parse_database_url(Secret(url))
    assert parsed == expected
    assert parsed.password == expected.password


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "expected postgresql://"),
        ("mysql://u:hidden@h/d", "expected postgresql://"),
        ("postgresql://u:hidden@h", "expected postgresql://"),
        ("postgresql://h/d", "expected postgresql://"),
        ("postgresql://u:hidden@/d", "expected postgresql://"),
        ("postgresql://u:hidden@a,b/d", "one host"),
        ("postgresql://u:hidden@h/d/e", "one database"),
        ("postgresql://u:hid#den@h/d", "%-escapes"),
        ("postgresql://u:hidden@h:x/d", "%-escapes"),
        ("postgresql://u:hidden@h:99999/d", "%-escapes"),
        ("postgresql://u:hidden@[h/d", "%-escapes"),
        ("postgresql://u:hidden%FF@h/d", "%-escapes"),
        ("postgresql://u:hidden@h/d?sslmode=maybe", "sslmode"),
        ("postgresql://u:hidden@h/d?sslidentity=x.p12", "client certificates"),
        ("postgresql://u:hidden@h/d?connection_limit=0", "connection_limit"),
        ("postgresql://u:hidden@h/d?connection_limit=ten", "connection_limit"),
        ("postgresql://u:hidden@h/d?connection_limit=9999999999", "connection_limit"),
    ],
    ids=range(17),
)
def test_wrong_urls_stop_the_start_without_being_shown(url: str, problem: str) -> None:
    """The message says what is wrong with a URL and shows nothing of it."""
    with pytest.raises(DatabaseUrlError) as caught:
        parse_database_url(Secret(url))
    assert problem in str(caught.value)
    for part in ("hid", "u:", "@h"):
        assert part not in str(caught.value).replace("user:password@host", "")
