"""The line of a YAML file in which a part stands."""

from typing import Any

import yaml

from ringback.envoylint.parts import Keys


def line_of(text: str, keys: Keys) -> int:
    """Return the line, from 1, in which a part begins, or what is there of the way to it.

    What a YAML alias stands for is where its anchor is.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    node: Any = yaml.compose(text, Loader=loader)
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(name, value) for name, value in node.value if name.value == str(key)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            found = [(item, item) for item in node.value[key : key + 1]]
        else:
            found = []
        if not found:
            break
        ((at, node),) = found
        line = at.start_mark.line + 1
    return line
