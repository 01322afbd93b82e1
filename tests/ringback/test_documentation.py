from pathlib import Path

import pytest
from pydantic import BaseModel

from ringback.settings import Settings

ROOT = Path(__file__).parents[2]


def _names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += _names(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


@pytest.mark.parametrize("name", _names(Settings))
def test_every_setting_has_its_row(name: str) -> None:
    """docs/configuration.md lists every setting that there is."""
    rows = (ROOT / "docs/configuration.md").read_text().splitlines()
    assert any(row.startswith("| `") and f"`{name}`" in row.split(" | ")[0] for row in rows)


def test_the_readme_is_short() -> None:
    """A newcomer reads the README in one go: at most 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


PAGES = [
    page
    for folder in (".", "docs", "docs/adr", "envoy", "proto", "tests/data")
    for page in sorted((ROOT / folder).glob("*.md"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file of the repository."""
    for part in page.read_text().split("](")[1:]:
        target = part.split(")")[0].split("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), target
