"""Passthrough: what is not realtime goes to a LiteLLM proxy."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from ringback.settings.sections import Section

_HOST = r"(?:[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
_URL = re.compile(rf"https?://{_HOST}(?::[1-9][0-9]{{0,4}})?")


def _check_url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("expected http(s)://host[:port] in lower case, without a path")
    return url


class PassthroughSettings(Section):
    """Takes effect where the bootstrap is made: ``ringback up`` and ``ringback render envoy``."""

    url: Annotated[str, AfterValidator(_check_url)] | None = None
    """``scheme://host[:port]`` of the LiteLLM proxy; None: other paths are 404."""

    timeout_s: Annotated[float, Field(ge=16, le=86_400)] = 600
    """How long a request may take to arrive, and how long nothing may move in an answer. Requests
    for realtime have so long to arrive, too."""
