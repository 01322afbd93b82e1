import pytest

from extauthz.pageorigin import OriginUnusableError, page_origin


@pytest.mark.parametrize(
    "origin",
    [
        # Realistic
        "https://app.example.com",
        "http://localhost:3000",
        "https://xn--bcher-kva.example",
        # Synthetic
        "http://[::1]:8080",
        None,
    ],
)
def test_a_page_is_what_its_browser_says(origin: str | None) -> None:
    """What browsers send as Origin is kept as it is; no Origin is no page."""
    assert page_origin({} if origin is None else {"origin": origin}) == origin


@pytest.mark.parametrize(
    "origin",
    [
        # Realistic
        "null",
        "file://",
        "https://app.example.com/",
        "https://App.Example.com",
        "https://app.example.com:443",
        "chrome-extension://abcdefghijklmnop",
        # Synthetic
        "",
        "https://a.example,https://b.example",
        "https://user@app.example.com",
        "https://app.example.com\r\nx: y",
        # Pathological
        "https://" + "a" * 5000,
    ],
)
def test_what_no_page_could_repeat_is_refused(origin: str) -> None:
    """A token for an origin that no browser would send again would be good for nobody: 400."""
    with pytest.raises(OriginUnusableError, match="as browsers do") as caught:
        page_origin({"origin": origin})
    assert caught.value.http_status == 400
    assert origin == "" or origin not in str(caught.value)
