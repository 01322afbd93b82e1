"""Envoy's own message types, to which a bootstrap is held before it is written out."""

import importlib
from collections.abc import Iterator
from typing import Any, Final

# A message as its JSON form: https://protobuf.dev/programming-guides/json/
Json = dict[str, Any]

# Fields of Envoy whose names betterproto2 does not find when it reads JSON.
_UNREADABLE: Final = frozenset({"consecutive_5xx", "enforcing_consecutive_5xx"})


def check_types(bootstrap: Json) -> None:
    """Check every field of a bootstrap against Envoy's own message types.

    Takes about two seconds, because it imports each type that the bootstrap names.

    Raises:
        TypeError: If there is no such type or field.
        ValueError: If a value does not fit its field.
    """
    for name in sorted({url.rpartition("/")[2] for url in _type_urls(bootstrap)}):
        importlib.import_module(f"envoy_data_plane.{name.rpartition('.')[0]}")
    module = importlib.import_module("envoy_data_plane.envoy.config.bootstrap.v3")
    module.Bootstrap.from_dict(_without(bootstrap, _UNREADABLE))


def _type_urls(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "@type" in value:
            yield value["@type"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _type_urls(item)


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    if isinstance(value, list):
        return [_without(item, names) for item in value]
    return value
