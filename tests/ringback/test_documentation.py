import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from ringback.render.bootstrap import read_bootstrap
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


def _error_codes() -> list[str]:
    sources = [*(ROOT / "extauthz").rglob("*.py"), *(ROOT / "sdpfilter").rglob("*.py")]
    codes = {
        code
        for source in [*sources, ROOT / "ringback/upstream.py"]
        for code in re.findall(r'^    code = "(\w+)"', source.read_text(), re.MULTILINE)
    }
    codes |= set(re.findall(r"code: ([a-z_]+)\}", (ROOT / "envoy/envoy.yaml").read_text()))
    # The word of a base class, which nobody raises.
    return sorted(codes - {"unauthorized"})


@pytest.mark.parametrize("code", _error_codes())
def test_every_error_code_has_its_place(code: str) -> None:
    """docs/design.md lists every `error.code`; those of descriptions are in docs/sdp.md."""
    assert any(
        f"`{code}`" in (ROOT / "docs" / page).read_text() for page in ("design.md", "sdp.md")
    )


def test_every_part_of_the_bootstrap_has_its_row() -> None:
    """envoy/README.md lists every listener, route and cluster by name."""
    parts = read_bootstrap(ROOT / "envoy/envoy.yaml")["static_resources"]
    names = {part["name"] for part in [*parts["listeners"], *parts["clusters"]]}
    for listener in parts["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        for host in manager["route_config"]["virtual_hosts"]:
            names |= {route["name"] for route in host["routes"]}
    page = (ROOT / "envoy/README.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_the_readme_is_short() -> None:
    """A newcomer reads the README in one go: at most 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


PAGES = [
    page
    for folder in (".", "docs", "docs/adr", "docs/mesh", "envoy", "proto", "tests/data")
    for page in sorted((ROOT / folder).glob("*.md"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file of the repository."""
    for part in page.read_text().split("](")[1:]:
        target = part.split(")")[0].split("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), target
