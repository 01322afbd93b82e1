"""The environment of a configuration that is read where its secrets are not.

Manifests are written on a laptop or in CI; the keys they refer to are in a cluster. A variable that
is not set stands for something there, and its name is all that counts.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_REFERENCE: Final = "os.environ/"
# Good as a key, a header and a number alike. It decides nothing and is written nowhere.
_STAND_IN: Final = "1"
# Keys that extauthz looks for where an entry names none.
_KEYS: Final = frozenset({"OPENAI_API_KEY", "AZURE_API_KEY", "AZURE_CLIENT_SECRET"})
# What the environment may say about places, for entries that say nothing: nothing stands in.
_PLACES: Final = frozenset(
    {
        "AZURE_API_BASE",
        "AZURE_AUTHORITY_HOST",
        "AZURE_CLIENT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "AZURE_SCOPE",
        "AZURE_TENANT_ID",
        "IDENTITY_ENDPOINT",
        "MSI_ENDPOINT",
        "OPENAI_API_BASE",
        "OPENAI_BASE_URL",
    }
)
# Fields that decide which upstreams there are.
_DECISIVE: Final = frozenset({"model", "model_name", "api_base", "calls_base"})


class StandIns(Mapping[str, str]):
    """Answers for every variable, with a stand-in if it is not set; notes who was asked for.

    Args:
        environ: The environment of whoever renders.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.asked: set[str] = set()
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        # Of several variables that may be set, none is: no name.
        if name in _PLACES or not name:
            return self._environ[name]
        return self._environ.get(name) or _STAND_IN

    def __bool__(self) -> bool:
        """Say that there is something to look up, however small the environment is."""
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def needed(self, documents: list[Any]) -> tuple[str, ...]:
        """Return the names of the variables that the configuration needs to be set, sorted.

        Args:
            documents: The files of the configuration, as plain data.
        """
        referred = {name for document in documents for _, name in references(document)}
        return tuple(sorted(self.asked & (referred | _KEYS)))


def references(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Give each ``os.environ/NAME`` in plain data: the field that refers, and the name."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from references(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from references(item, field)
    elif isinstance(value, str) and value.startswith(_REFERENCE):
        yield field, value.removeprefix(_REFERENCE)


def undecided(documents: list[Any], environ: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that is not set and without which no upstream is known."""
    found = {pair for document in documents for pair in references(document)}
    return [
        f"{field}: refers to {name}, which says where requests go: set it for this command"
        for field, name in sorted(found)
        if field in _DECISIVE and not environ.get(name)
    ]
