"""The objects of an Envoy file, each with its place."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ringback.contract import INGRESS_LISTENER

Json = dict[str, Any]
Keys = tuple[str | int, ...]


class Part(NamedTuple):
    """An object of a file.

    Attributes:
        path: Where it is, for people: items of lists go by their names if they have any.
        keys: The same for programs.
        value: The object.
    """

    path: str
    keys: Keys
    value: Json


class Offence(NamedTuple):
    """What must be changed in a file.

    Attributes:
        path: Where, for people.
        keys: The same for programs.
        advice: What is wrong and what to do instead.
    """

    path: str
    keys: Keys
    advice: str

    def __str__(self) -> str:
        return f"{self.path or 'the file'}: {self.advice}"


def offence(part: Part, advice: str, *inner: str) -> Offence:
    """Return an offence of a part, or of a field in it."""
    return Offence("/".join((part.path, *inner)), (*part.keys, *inner), advice)


def parts(value: Any, path: str = "", keys: Keys = ()) -> Iterator[Part]:
    """Yield every object below a value, itself first."""
    if isinstance(value, dict):
        yield Part(path, keys, value)
        for key, item in value.items():
            yield from parts(item, f"{path}/{key}" if path else str(key), (*keys, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from parts(item, f"{path}/{name}", (*keys, index))


def type_of(part: Json) -> str:
    """Return the last word of a part's ``@type``."""
    return str(part.get("@type", "")).rpartition(".")[2]


def named(items: list[Json], name: str) -> Json:
    """Return the one part with a name."""
    (part,) = [item for item in items if item["name"] == name]
    return part


def manager(bootstrap: Json, listener: str = INGRESS_LISTENER) -> Json:
    """Return the HTTP connection manager of a listener of ours."""
    found = named(bootstrap["static_resources"]["listeners"], listener)
    ((only,),) = [chain["filters"] for chain in found["filter_chains"]]
    config: Json = only["typed_config"]
    return config


def http_filter(bootstrap: Json, name: str) -> Json:
    """Return the configuration of an HTTP filter of our ingress."""
    config: Json = named(manager(bootstrap)["http_filters"], name)["typed_config"]
    return config


def routes(bootstrap: Json, listener: str = INGRESS_LISTENER) -> list[Json]:
    """Return the routes of the one virtual host of a listener of ours."""
    (host,) = manager(bootstrap, listener)["route_config"]["virtual_hosts"]
    found: list[Json] = host["routes"]
    return found
