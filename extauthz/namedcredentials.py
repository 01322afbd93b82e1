"""``credential_list``: values that several entries of ``model_list`` share by name. Pure."""

from collections.abc import Iterable
from typing import Any, Final

from extauthz.fields import Field

_NAME: Final = "litellm_credential_name"


class NamedCredentials:
    """What ``litellm_params.litellm_credential_name`` refers to.

    Args:
        entries: Those of ``credential_list``; mistakes are noted in them.
    """

    def __init__(self, entries: Iterable[Field] = ()) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        for entry in entries:
            entry.entries()
            name = entry.child("credential_name").required_text("write what entries call it")
            values = entry.child("credential_values").entries()
            if name in self._values:
                entry.child("credential_name").problem("another credential has this name")
            self._values.setdefault(name, {key: field.value for key, field in values.items()})

    def fill(self, entry: Field) -> Field:
        """Return an entry of ``model_list`` with what it lacks of its credential.

        As in LiteLLM, what stands in the entry itself wins, and the values may be anything that
        ``litellm_params`` take. Unlike there a name that nobody has is a mistake: some other key
        of the environment would be sent in its place.
        """
        params = entry.child("litellm_params")
        if not isinstance(params.value, dict) or not params.value.get(_NAME):
            return entry
        name = params.child(_NAME).text()
        if name is not None and name not in self._values:
            params.child(_NAME).problem(
                "is in no credential_list of these files; those of LiteLLM's database are not read"
            )
        merged = {**self._values.get(name or "", {}), **params.value}
        return entry.replaced({**entry.value, "litellm_params": merged})
