"""Entries of model lists with ``*`` in them."""


def matches(pattern: str, name: str) -> bool:
    """Tell whether a name is one of those that a pattern stands for.

    Each ``*`` stands for any characters, or none; all else stands for itself, unlike in LiteLLM,
    where ``.`` is any character. Takes linear time, whatever the pattern.

    Args:
        pattern: A name, with or without ``*`` anywhere.
        name: The whole name.
    """
    first, *inner = pattern.split("*")
    if not inner:
        return name == pattern
    *inner, last = inner
    if not name.startswith(first):
        return False
    at = len(first)
    for part in inner:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(last) and name.endswith(last)
