from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from extauthz.catalogue import Catalogue
from extauthz.deployments import Deployment, Origin
from ringback.secrets import Secret

OPENAI = Origin("https", "api.openai.com", 443)
AZURE = Origin("https", "r.openai.azure.com", 443)
VOICE = Deployment("d1", "voice", "openai", "gpt-realtime", OPENAI, "", Secret("sk-one"))


@dataclass(frozen=True, slots=True)
class Config:
    """The part of a configuration that a catalogue is made of."""

    deployments: tuple[Deployment, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


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
        catalogue.deployments("gone")


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
