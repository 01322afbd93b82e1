import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.apibase import parse_api_base
from extauthz.deployments import Origin, ProviderName

AZURE = Origin("https", "r.openai.azure.com", 443)


@pytest.mark.parametrize(
    ("provider", "api_base", "origin", "base_path"),
    [
        # Realistic
        ("openai", "https://api.openai.com", Origin("https", "api.openai.com", 443), ""),
        ("openai", "https://api.openai.com/", Origin("https", "api.openai.com", 443), ""),
        ("openai", "https://api.openai.com/v1", Origin("https", "api.openai.com", 443), ""),
        ("openai", "https://api.openai.com/v1//", Origin("https", "api.openai.com", 443), ""),
        ("openai", "https://gw.test/v1/acc/openai", Origin("https", "gw.test", 443), None),
        ("openai", "http://127.0.0.1:8080/v1", Origin("http", "127.0.0.1", 8080), ""),
        ("openai", "http://emulator", Origin("http", "emulator", 80), ""),
        ("azure", "https://r.openai.azure.com", AZURE, ""),
        ("azure", "https://r.openai.azure.com/", AZURE, ""),
        ("azure", "https://r.openai.azure.com/openai", AZURE, ""),
        ("azure", "https://r.openai.azure.com/openai/v1/", AZURE, ""),
        ("azure", "https://apim.test/eu/openai/v1", Origin("https", "apim.test", 443), "/eu"),
        # Synthetic
        ("openai", "https://gw.test/v1/v1", Origin("https", "gw.test", 443), "/v1"),
        ("openai", "https://gw.test/openai/v1", Origin("https", "gw.test", 443), "/openai"),
        ("azure", "https://gw.test/v1", Origin("https", "gw.test", 443), "/v1"),
        ("azure", "HTTPS://R.OpenAI.Azure.com:443", AZURE, ""),
        ("openai", "http://[::1]:8080/v1", Origin("http", "::1", 8080), ""),
        ("openai", "https://my_svc:8443/a.b/~c", Origin("https", "my_svc", 8443), "/a.b/~c"),
        ("openai", "https://xn--bcher-kva.test:", Origin("https", "xn--bcher-kva.test", 443), ""),
    ],
)
def test_a_base_is_taken_apart(
    provider: ProviderName, api_base: str, origin: Origin, base_path: str | None
) -> None:
    """One start of the provider's own paths and trailing slashes are dropped, the rest is kept."""
    expected = "/v1/acc/openai" if base_path is None else base_path
    assert parse_api_base(api_base, provider) == (origin, expected)


SPACES = "expected a URL without spaces, in ASCII letters (xn-- for other scripts)"
SCHEME = "expected a URL that begins with https:// or http:// and a host"
PORT = "expected https://host[:port], with a port up to 65535"
USER = "remove user and password from the URL; keys have fields of their own"
QUERY = "remove everything from ? or # on; this is a plain base URL"
HOST = "the host or port is not one that can be connected to"
PATH = "the path has empty, dot or escaped parts; write it plainly"


@pytest.mark.parametrize(
    ("api_base", "problem"),
    [
        # Realistic
        pytest.param("api.openai.com/v1", SCHEME, id="no-scheme"),
        pytest.param("wss://api.openai.com/v1", SCHEME, id="websocket"),
        pytest.param("https://", SCHEME, id="no-host"),
        pytest.param("https://user:pw@api.openai.com", USER, id="password"),
        pytest.param("https://r.openai.azure.com/?api-version=2025", QUERY, id="query"),
        pytest.param("https://r.openai.azure.com?", QUERY, id="empty-query"),
        pytest.param("https://r.openai.azure.com/#x", QUERY, id="fragment"),
        pytest.param("https://api.openai.com /v1", SPACES, id="space"),
        pytest.param("https://bücher.test", SPACES, id="other-script"),
        pytest.param("https://gw.test/a%20b", PATH, id="escape"),
        # Pathological
        pytest.param("https://a\r\nb", SPACES, id="line-break"),
        pytest.param("https://a:65536", PORT, id="port-too-high"),
        pytest.param("https://a:x", PORT, id="port-word"),
        pytest.param("https://[::1", PORT, id="open-bracket"),
        pytest.param("https://a:0", HOST, id="port-zero"),
        pytest.param("https://a..b", HOST, id="empty-label"),
        pytest.param("https://a.", HOST, id="trailing-dot"),
        pytest.param("https://-a", HOST, id="leading-hyphen"),
        pytest.param("https://" + "a" * 254, HOST, id="long-host"),
        pytest.param("https://a*b", HOST, id="wildcard"),
        pytest.param("https://[fe80::1%25eth0]", HOST, id="zone"),
        pytest.param("https://[v1.x]", HOST, id="ip-future"),
        pytest.param("https://a\\b", HOST, id="backslash"),
        pytest.param("https://a//b", PATH, id="empty-part"),
        pytest.param("https://a/../b", PATH, id="dots"),
        pytest.param("https://a/./b", PATH, id="dot"),
        pytest.param("https://a/b/..", PATH, id="dots-at-the-end"),
    ],
)
def test_what_is_no_base_is_refused(api_base: str, problem: str) -> None:
    """What cannot be a base is refused with what to do."""
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        parse_api_base(api_base, "openai")


@given(st.text(max_size=60).map(lambda rest: f"https://{rest}"))
def test_any_text_is_a_base_or_refused(api_base: str) -> None:
    """Whatever follows the scheme, the result can stand in a header, or it is a ValueError."""
    try:
        origin, path = parse_api_base(api_base, "openai")
    except ValueError:
        return
    line = f"{origin.authority}{path}{origin.cluster}"
    assert line.isascii()
    assert line.isprintable()
    assert " " not in line
    assert parse_api_base(f"{origin}{path}/v1", "openai") == (origin, path)
