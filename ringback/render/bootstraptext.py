"""A bootstrap as text that says where it is from."""

from typing import Any

import yaml

from ringback.paths import ENVOY_VERSION


def bootstrap_text(bootstrap: dict[str, Any], command: str, *, is_static: bool) -> str:
    """Return a bootstrap as YAML; the same input gives the same text.

    Args:
        bootstrap: From `ringback.render.bootstrap.adapt_bootstrap`.
        command: What has written it.
        is_static: Whether the upstreams are in it.
    """
    clusters = (
        "The upstreams are those of the LiteLLM configuration at that time: after a change of\n"
        "# its upstreams, write it again."
        if is_static
        else "The upstreams come from extauthz (CDS)."
    )
    header = (
        f"# Written by `{command}`, for Envoy {ENVOY_VERSION}. Do not edit: change\n"
        "# ringback.yaml and write it again. envoy/envoy.yaml has the comments.\n"
        f"# {clusters}\n"
    )
    return header + yaml.safe_dump(bootstrap, sort_keys=False, allow_unicode=True, width=100)
