import ast
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from ringback.sdppolicy import AudioLimits, Policy, PolicySettings
from sdpfilter import hints, policyerrors
from sdpfilter.errors import SDPError
from sdpfilter.explain import EDIT_RULES
from sdpfilter.policies import Policies
from sdpfilter.policy import PRESETS
from sdpfilter.sdp.attributes import Direction

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sdp.md").read_text()


def _codes(error: type[SDPError]) -> set[str]:
    """Return the codes of an error's subclasses."""
    found = {code} if (code := error.__dict__.get("code")) else set()
    return found.union(*map(_codes, error.__subclasses__()))


def _hint_codes() -> set[str]:
    """Return the codes of all hints, read from the source; the directions are codes too."""
    tree = ast.parse(Path(hints.__file__).read_text())
    calls = [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Hint"
    ]
    words = {str(code.value) for code in calls if isinstance(code, ast.Constant)}
    return words | {*Direction} - {Direction.SENDRECV}


def _recipes() -> list[PolicySettings]:
    """Return the sections that the page shows."""
    blocks = PAGE.split("```yaml\n")[1:]
    contents = [yaml.safe_load(block.split("```")[0]) for block in blocks]
    return [PolicySettings.model_validate(content["sdp"]) for content in contents]


def _switches(model: type[BaseModel]) -> list[str]:
    return [name for name in model.model_fields if not name.endswith("_audio")]


@pytest.mark.parametrize("name", [*_switches(Policy), *_switches(AudioLimits)])
def test_every_switch_has_its_row(name: str) -> None:
    """docs/sdp.md lists every switch at the start of a row."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{name}`" in row for row in rows)


@pytest.mark.parametrize("word", sorted({*_codes(SDPError), *EDIT_RULES, *_hint_codes()}), ids=str)
def test_every_word_has_its_row(word: str) -> None:
    """docs/sdp.md lists every code of a refusal, rule of an edit, and hint."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{word}`" in row for row in rows)


def test_the_codes_of_policies_are_among_them() -> None:
    """The words are read from the code itself: those of policies are there too."""
    assert policyerrors.NoCandidateLeftError.code in _codes(SDPError)
    assert "udp_only" in _hint_codes()


def test_recipes_are_the_presets() -> None:
    """What the page gives to copy is what the presets do, switch by switch."""
    recipes = [
        policy
        for settings in _recipes()
        for name, policy in settings.policies.items()
        if name.startswith("my_")
    ]
    assert recipes == [
        PRESETS[name] for name in ("privacy", "kiosk", "strict_firewall", "low_bandwidth")
    ]


def test_sections_on_the_page_can_be_used() -> None:
    """Each section is one that a start accepts."""
    for settings in _recipes():
        assert Policies(settings).for_call() != Policy()
