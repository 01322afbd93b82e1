import pytest

from helpers.envoyproc import BOOTSTRAP
from ringback.envoylint import lint
from ringback.envoylint.parts import named, routes
from ringback.render.bootstrap import Changes, adapt_bootstrap, read_bootstrap
from ringback.render.envoytypes import check_types
from ringback.render.passthrough import passthrough_cluster
from ringback.settings import PassthroughSettings, Settings, UpstreamSettings


def test_bootstrap_with_passthrough_fails_open_nowhere() -> None:
    """The rules hold for it; its route is the last but one, behind a guard."""
    url = "https://litellm.example"
    settings = Settings(passthrough=PassthroughSettings(url=url, timeout_s=30))
    cluster = passthrough_cluster(settings, UpstreamSettings())
    assert cluster is not None
    changes = Changes(passthrough=cluster, passthrough_timeout_s=30)
    bootstrap = adapt_bootstrap(read_bootstrap(BOOTSTRAP), changes)
    assert lint(bootstrap) == []
    check_types(bootstrap)
    assert [route["name"] for route in routes(bootstrap)[-3:]] == [
        "not_found",
        "passthrough",
        "not_found",
    ]
    assert named(routes(bootstrap), "passthrough")["route"]["idle_timeout"] == "30s"
    assert cluster["transport_socket"]["typed_config"]["sni"] == "litellm.example"


def test_no_passthrough_without_a_setting() -> None:
    """Without a URL there is no cluster."""
    assert passthrough_cluster(Settings(), UpstreamSettings()) is None


@pytest.mark.parametrize(
    "url",
    [
        "litellm:4000",
        "http://litellm:4000/",
        "http://litellm/path",
        "HTTP://litellm",
        "ftp://litellm",
        "http://user:password@litellm",
        "http://litellm:0",
        "http://",
    ],
)
def test_url_is_an_origin(url: str) -> None:
    """Anything but scheme, host and port is a mistake; the message does not quote it."""
    with pytest.raises(ValueError, match="without a path") as caught:
        PassthroughSettings(url=url)
    assert url not in str(caught.value)
