"""Writes the figures of the latest results into the documentation.

``python -m bench.compare.publish``. They stand between ``<!-- figures: NAME -->`` and
``<!-- end of figures -->``, where nobody types.
"""

import re
from pathlib import Path
from typing import Final

from bench.compare import model, table
from bench.compare.picture import svg
from bench.compare.results import LATEST, Results, load
from bench.compare.systems import CALL, MINT
from bench.compare.targets import targets

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = (ROOT / "README.md", ROOT / "docs" / "performance.md")
PICTURE: Final = LATEST.with_suffix(".svg")

_BLOCK: Final = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def figures(results: Results) -> dict[str, str]:
    """Return what belongs into the documentation, by name, in Markdown."""
    return {
        "notes": "\n\n".join(table.notes(results)),
        "comparison": table.markdown(table.compared(results)),
        "targets": table.markdown(table.target_rows(results)),
        "costs": table.markdown(table.costs(results)),
        "model": _model(results),
        "summary": _summary(results),
    }


def filled(document: str, results: Results) -> str:
    """Return a document with its figures renewed.

    Raises:
        KeyError: If it asks for figures that there are none of.
    """
    every = figures(results)
    return _BLOCK.sub(lambda found: f"{found[1]}{every[found[2]]}\n{found[3]}", document)


def write(results: Results) -> None:
    """Renew the figures of all documents, and the picture."""
    for file in DOCUMENTS:
        file.write_text(filled(file.read_text(encoding="utf-8"), results), encoding="utf-8")
    draw(results, PICTURE)


def draw(results: Results, file: Path) -> None:
    """Write the picture."""
    file.write_text(svg(results), encoding="utf-8")


def _model(results: Results) -> str:
    rows = model.model_rows(results)
    if len(rows) == 1:
        return table.NOTHING
    mint, call = (model.cost_us(results, operation) for operation in (MINT, CALL))
    costs = f"A mint takes {mint:,.0f} us of processor time, a call {call:,.0f} us."
    return f"{costs}\n\n{table.markdown(rows)}"


def _summary(results: Results) -> str:
    """Return two sentences for the README."""
    found = {target.figure: target for target in targets(results)}
    if results.comparison is None:
        return table.NOTHING
    calls, mints = (
        found[f"{what} per second at 16 at once, against LiteLLM"].found
        for what in ("calls", "client_secrets")
    )
    met = sum(target.is_met is True for target in found.values())
    said = (
        f"{calls} the calls and {mints} the client secrets of LiteLLM per second on the same "
        f"machine; {met} of {len(found)} targets are met."
    )
    is_reliable = all(part.is_reliable for part in results.parts)
    return said if is_reliable else f"**UNRELIABLE** figures: {said}"


if __name__ == "__main__":
    write(load())
