"""``make bench``: Ringback, LiteLLM and bare Envoy side by side, on this machine, in one run."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from bench.compare import publish, table
from bench.compare.load import LoadError, NoWrkError
from bench.compare.parts import PARTS, Plan
from bench.compare.quiet import BusyError, Quiet
from bench.compare.results import LATEST, load, save
from bench.compare.rig import rig
from bench.compare.systems import BARE, LITELLM, RINGBACK, StartError


class _Part(StrEnum):
    comparison = "comparison"
    starts = "starts"
    deployments = "deployments"
    policies = "policies"
    keys = "keys"


class _Other(StrEnum):
    litellm = LITELLM
    bare = BARE


_LITELLM: Final = Path(__file__).parents[2] / ".bench" / "litellm" / "bin" / "litellm"

Only = Annotated[
    list[_Part] | None, typer.Option(help="Measure this part, and others that are named so.")
]
Without = Annotated[list[_Other] | None, typer.Option(help="Leave this one out.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often each run is repeated.")]
Seconds = Annotated[int, typer.Option(min=1, help="Of one run.")]
Starts = Annotated[int, typer.Option(min=1, help="How often each system is started.")]
Count = Annotated[int, typer.Option(min=2, help="In the large configuration or database.")]
Force = Annotated[bool, typer.Option("--force", help="On a busy machine, too; marks the results.")]
Out = Annotated[
    Path, typer.Option(help="The results; parts that are not run keep theirs.", show_default=False)
]
LiteLLMProgram = Annotated[Path, typer.Option(help="LiteLLM's program.", show_default=False)]


def main(
    *,
    only: Only = None,
    without: Without = None,
    rounds: Rounds = 5,
    seconds: Seconds = 3,
    starts: Starts = 3,
    deployments: Count = 10_000,
    policies: Count = 10_000,
    keys: Count = 100_000,
    force: Force = False,
    out: Out = LATEST,
    litellm: LiteLLMProgram = _LITELLM,
) -> None:
    """Measure, print the table, and write the results with their picture beside them."""
    plan = Plan(
        systems=[name for name in (RINGBACK, LITELLM, BARE) if name not in (without or ())],
        rounds=rounds,
        seconds=seconds,
        starts=starts,
        deployments=deployments,
        policies=policies,
        keys=keys,
    )
    try:
        for name in only or _Part:
            sys.stderr.write(f"{name}\n")
            with rig(Quiet(force=force), litellm) as ready:
                part = PARTS[name](ready, plan)
            results = load(out).model_copy(update={name: part})
            save(results, out)
    except (BusyError, LoadError, NoWrkError, StartError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from error
    results = load(out)
    print(table.text(results))
    publish.draw(results, out.with_suffix(".svg"))


if __name__ == "__main__":
    typer.run(main)
