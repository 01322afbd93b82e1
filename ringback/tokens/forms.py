"""What the members of sealed claims may look like, checked when they are made and when read."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from ringback.secrets import Secret
from ringback.tokens.errors import TokenError

IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
VISIBLE: Final = re.compile(r"[!-~]{1,128}")
TEXT: Final = re.compile(r".{1,512}", re.DOTALL)
# Names that people give: an empty one is a name too.
LABEL: Final = re.compile(r".{0,512}", re.DOTALL)
# It becomes the value of a header, so no space or control character may be in it.
CREDENTIAL: Final = re.compile(r"[!-~]{1,4096}")
# Characters of a path and query, RFC 3986 sections 3.3 and 3.4.
PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,511}")
_HOST: Final = r"(?:[a-z0-9_][a-z0-9._-]{0,252}|\[[0-9a-f:.]{2,45}\])"
_PORT: Final = r"(?::[1-9][0-9]{0,4})?"
# RFC 6454 section 6.2: lower case, without the port that the scheme implies.
ORIGIN: Final = re.compile(rf"(?:http://{_HOST}(?!:80\Z){_PORT}|https://{_HOST}(?!:443\Z){_PORT})")


def check_times(issued_at: object, expires_at: object) -> None:
    """Check that both are whole seconds since the epoch, in order.

    Raises:
        ValueError: If they are not.
    """
    # Not isinstance: True is an int too.
    if type(issued_at) is not int or type(expires_at) is not int:
        raise ValueError("times are whole seconds")
    if not 0 <= issued_at < expires_at:
        raise ValueError("a token expires after it was issued")


def check_forms(
    record: object, forms: Mapping[str, re.Pattern[str]], optional: AbstractSet[str] = frozenset()
) -> None:
    """Check fields of a record.

    Args:
        record: Has an attribute for each form.
        forms: What the fields look like, by name.
        optional: Names of fields that may be None.

    Raises:
        ValueError: If a field is not text of its form; names the field only.
    """
    for name, form in forms.items():
        value = getattr(record, name)
        if value is None and name in optional:
            continue
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or not form.fullmatch(text):
            raise ValueError(f"{name} cannot be sealed: it has a form that no such value has")


def read_members(
    claims: Mapping[str, Any], members: Mapping[str, str], optional: AbstractSet[str] = frozenset()
) -> dict[str, Any]:
    """Return the values by field name.

    Args:
        claims: What was sealed.
        members: The name of each field's member, by field name.
        optional: Names of fields whose member may be absent.

    Raises:
        TokenError: With reason ``claims`` if a member is unknown, null or absent.
    """
    fields = {name: claims[member] for name, member in members.items() if member in claims}
    if (
        len(fields) != len(claims)
        or not members.keys() - optional <= fields.keys()
        or None in fields.values()
    ):
        raise TokenError("claims")
    return fields
