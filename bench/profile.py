"""Profiles of both services under load: ``PYTHONPATH=.:tests python -m bench.profile call``.

Needs ``pip install py-spy``, and the right to trace processes (root, or ptrace_scope 0). Writes a
flame graph of one worker of each service into ``.bench``.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from bench.compare.load import run
from bench.compare.processes import kind_of, tree
from bench.compare.quiet import Quiet
from bench.compare.rig import rig
from bench.compare.systems import Ringback

_FOLDER: Final = Path(__file__).parents[1] / ".bench"
_CONNECTIONS: Final = 16

Operation = Annotated[Literal["mint", "call"], typer.Argument(help="What is asked for.")]
Seconds = Annotated[int, typer.Option(min=1, help="How long.")]


def main(operation: Operation, *, seconds: Seconds = 10) -> None:
    """Put load on a gateway, and record what its workers do."""
    py_spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if py_spy is None:
        raise SystemExit("Profiles are made by py-spy: .venv/bin/python -m pip install py-spy")
    with rig(Quiet(force=True), Path()) as ready:
        gateway = Ringback(ready.world)
        try:
            gateway.start()
            gateway.wait()
            request = gateway.requests()[operation]
            run(gateway.url, request, _CONNECTIONS, 2)
            workers = {kind_of(pid): pid for pid in tree(gateway.program.pid)}
            recorders = [
                _record(py_spy, workers[service], f"{operation}-{service}", seconds)
                for service in ("extauthz", "sdpfilter")
            ]
            load = run(gateway.url, request, _CONNECTIONS, seconds + 2)
            print(f"{load.per_s:.0f} per second under the eyes of py-spy")
            for recorder in recorders:
                recorder.wait()
        finally:
            gateway.stop()


def _record(py_spy: str, pid: int, name: str, seconds: int) -> subprocess.Popen[bytes]:
    _FOLDER.mkdir(exist_ok=True)
    options = ["--rate", "100", "--duration", str(seconds), "--pid", str(pid)]
    output = _FOLDER / f"profile-{name}.svg"
    print(output)
    return subprocess.Popen([py_spy, "record", *options, "--output", str(output)])  # noqa: S603


if __name__ == "__main__":
    typer.run(main)
