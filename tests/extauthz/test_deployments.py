from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from extauthz.deployments import Catalogue, Deployment, Origin
from ringback.secrets import Secret

OPENAI = Origin("https", "api.openai.com", 443)
AZURE = Origin("https", "r.openai.azure.com", 443)
VOICE = Deployment("d1", "voice", "openai", "gpt-realtime", OPENAI, "", Secret("sk-one"))


@dataclass(frozen=True, slots=True)
class Config:
    """The part of a configuration that a catalogue is made of."""

    deployments: tuple[Deployment, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


def first(deployments: Sequence[Deployment]) -> Deployment:
    """Return the first, as a strategy."""
    return deployments[0]


@pytest.mark.parametrize(
    ("origin", "text", "authority", "cluster"),
    [
        # Realistic
        pytest.param(
            OPENAI,
            "https://api.openai.com",
            "api.openai.com",
            "upstream_https_api_openai_com_443",
            id="openai",
        ),
        pytest.param(
            Origin("http", "127.0.0.1", 8080),
            "http://127.0.0.1:8080",
            "127.0.0.1:8080",
            "upstream_http_127_0_0_1_8080",
            id="emulator",
        ),
        # Synthetic
        pytest.param(
            Origin("http", "gw", 80), "http://gw", "gw", "upstream_http_gw_80", id="http-default"
        ),
        pytest.param(
            Origin("https", "gw", 80), "https://gw:80", "gw:80", "upstream_https_gw_80", id="odd"
        ),
        pytest.param(
            Origin("https", "::1", 443), "https://[::1]", "[::1]", "upstream_https___1_443", id="v6"
        ),
    ],
)
def test_an_origin_names_itself(origin: Origin, text: str, authority: str, cluster: str) -> None:
    """An origin gives its URL, its Host header and its cluster; default ports are left out."""
    assert str(origin) == text
    assert origin.authority == authority
    assert origin.cluster == cluster


def test_a_deployment_shows_no_key() -> None:
    """A deployment can be logged, compared and hashed, and never changes."""
    deployment = replace(VOICE, extra_headers={"x-key": Secret("sk-two")})
    assert "sk-" not in repr(deployment)
    assert deployment == replace(deployment)
    assert hash(deployment) == hash(replace(deployment))
    with pytest.raises(FrozenInstanceError):
        deployment.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("upstream_model", "mode", "is_realtime"),
    [
        ("gpt-realtime", None, True),
        ("gpt-4o-Realtime-preview", None, True),
        ("gpt-realtime", "chat", True),
        ("my-voice", "realtime", True),
        ("my-voice", None, False),
        ("gpt-4o", "chat", False),
    ],
)
def test_realtime_is_said_by_mode_or_name(
    upstream_model: str, mode: str | None, is_realtime: bool
) -> None:
    """A deployment is realtime by its mode, or by the name of its upstream model."""
    deployment = replace(VOICE, upstream_model=upstream_model, mode=mode)
    assert deployment.is_realtime is is_realtime


CONFIG = Config(
    (
        VOICE,
        replace(VOICE, id="d2", provider="azure", origin=AZURE),
        replace(VOICE, id="d3", model_name="chat", upstream_model="gpt-4o"),
    ),
    {"fast": "voice", "chat": "voice", "gone": "nothing", "faster": "fast"},
)


@pytest.mark.parametrize(
    ("model", "group"),
    [
        ("voice", "voice"),
        ("fast", "voice"),
        ("chat", "voice"),  # an alias hides the group of its name
        ("gone", None),
        ("faster", None),  # an alias of an alias is not followed
        ("unknown", None),
        ("Voice", None),
        ("", None),
    ],
)
def test_a_model_resolves_to_a_group(model: str, group: str | None) -> None:
    """A model name is an alias or a group; anything else is served by nothing."""
    assert Catalogue(CONFIG).resolve(model) == group


def test_a_catalogue_finds_deployments() -> None:
    """Deployments are found by group and by id; what is not there is not found."""
    catalogue = Catalogue(CONFIG)
    assert catalogue.groups == ("voice", "chat")
    assert catalogue.by_id("d3") is CONFIG.deployments[2]
    assert catalogue.by_id("d4") is None
    assert catalogue.origins() == (OPENAI, AZURE)
    assert catalogue.deployments("voice") == CONFIG.deployments[:2]
    with pytest.raises(KeyError):
        catalogue.deployments("fast")


@pytest.mark.parametrize(
    ("deployments", "group"),
    [
        pytest.param((), None, id="none"),
        pytest.param(CONFIG.deployments, "voice", id="one-group-of-two"),
        pytest.param(CONFIG.deployments[2:], None, id="no-realtime"),
        pytest.param((VOICE, replace(VOICE, id="d4", model_name="other")), None, id="two-groups"),
    ],
)
def test_only_a_single_realtime_group_is_the_default(
    deployments: tuple[Deployment, ...], group: str | None
) -> None:
    """There is a default group if exactly one group is realtime."""
    assert Catalogue(Config(deployments)).only_realtime_group() == group
