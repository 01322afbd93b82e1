"""Base URLs taken apart: ``api_base`` of a deployment, and those of services."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from extauthz.deployments import DEFAULT_PORTS, Origin, ProviderName

_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_-]+)*")
_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")
# What people copy into api_base beyond the base: the start of the provider's own paths.
_OWN_PATHS: Final[dict[ProviderName, tuple[str, ...]]] = {
    "openai": ("/v1",),
    "azure": ("/openai/v1", "/openai"),
}


def parse_api_base(api_base: str, provider: ProviderName) -> tuple[Origin, str]:
    """Return the origin, and the path that the provider's own paths are put behind.

    Args:
        api_base: For example ``https://NAME.openai.azure.com/openai/v1/``.
        provider: Decides which start of its own paths is dropped, once: OpenAI's ``/v1``, Azure's
            ``/openai`` or ``/openai/v1``.

    Raises:
        ValueError: If it cannot be a base; the text says what to do and quotes nothing.
    """
    origin, path = parse_base_url(api_base)
    for own_path in _OWN_PATHS[provider]:
        if path.endswith(own_path):
            return origin, path.removesuffix(own_path).rstrip("/")
    return origin, path


def parse_base_url(base_url: str) -> tuple[Origin, str]:
    """Return the origin, and the path behind it without a slash at the end.

    Raises:
        ValueError: If it cannot be a base; the text says what to do and quotes nothing.
    """
    if not _VISIBLE.fullmatch(base_url):
        raise ValueError("expected a URL without spaces, in ASCII letters (xn-- for other scripts)")
    try:
        url = urlsplit(base_url)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise ValueError("expected https://host[:port], with a port up to 65535") from error
    if url.scheme not in DEFAULT_PORTS or not host:
        raise ValueError("expected a URL that begins with https:// or http:// and a host")
    if "@" in url.netloc:
        raise ValueError("remove user and password from the URL; keys have fields of their own")
    if "?" in base_url or "#" in base_url:
        raise ValueError("remove everything from ? or # on; this is a plain base URL")
    if port == 0 or not _is_host(host, is_address="[" in url.netloc):
        raise ValueError("the host or port is not one that can be connected to")
    path = url.path.rstrip("/")
    if not _PATH.fullmatch(path):
        raise ValueError("the path has empty, dot or escaped parts; write it plainly")
    return Origin(url.scheme, host, port or DEFAULT_PORTS[url.scheme]), path


def _is_host(host: str, *, is_address: bool) -> bool:
    if not is_address:
        return _HOST.fullmatch(host) is not None
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host
