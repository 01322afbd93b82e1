"""The parts of the benchmark: each measures one thing and can be run alone."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from bench import keys as filler
from bench.compare.load import run
from bench.compare.machine import describe
from bench.compare.processes import cpu_s, pss_bytes, tree
from bench.compare.results import Comparison, Flatness, Results, Sample, Starts
from bench.compare.rig import KEY_ALIAS, Rig
from bench.compare.systems import (
    BARE,
    CALL,
    LITELLM,
    MINT,
    MODEL,
    OPERATIONS,
    RINGBACK,
    Bare,
    LiteLLM,
    Ringback,
    System,
    World,
    entry,
)

CONNECTIONS: Final = (1, 16, 64)
SMALL: Final = "small"
# So many connections keep both services busy without queueing.
_FLAT_CONNECTIONS: Final = 16
_WARM_S: Final = 2
_FEW_KEYS: Final = 10_000

S = TypeVar("S", bound=System)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        systems: Names of those that are compared.
        rounds: How often everything is repeated.
        seconds: How long one run of wrk is.
        starts: How often each system is started.
        deployments: Of the large configuration.
        policies: The same.
        keys: In the large database.
    """

    systems: Sequence[str]
    rounds: int
    seconds: int
    starts: int
    deployments: int
    policies: int
    keys: int


def compare(rig: Rig, plan: Plan) -> Comparison:
    """Measure the systems side by side: rates, times, processor time, memory."""
    runs: dict[str, dict[int, dict[str, list[Sample]]]] = {
        operation: {count: {name: [] for name in plan.systems} for count in CONNECTIONS}
        for operation in OPERATIONS
    }
    with _started([_make(rig, name) for name in plan.systems]) as systems:
        requests = {system.name: system.requests() for system in systems}
        for system in systems:
            for operation in OPERATIONS:
                rig.measure(system, requests[system.name][operation], 16, _WARM_S)
        for number in range(plan.rounds):
            for operation, count in ((op, count) for count in CONNECTIONS for op in OPERATIONS):
                for system in _turned(systems, number):
                    request = requests[system.name][operation]
                    sample = rig.measure(system, request, count, plan.seconds)
                    runs[operation][count][system.name].append(sample)
                    _say(f"{number + 1}/{plan.rounds} {operation:5}{count:3} {system.name}", sample)
        memory = {system.name: pss_bytes(tree(system.program.pid)) for system in systems}
        stub_per_s = rig.stub_per_s(Bare(rig.world).requests()[CALL], plan.seconds)
        return Comparison(
            **_about(rig),
            seconds=plan.seconds,
            stub_per_s=stub_per_s,
            runs=runs,
            memory_bytes=memory,
        )


def start(rig: Rig, plan: Plan) -> Starts:
    """Measure how long Ringback and LiteLLM take to their first good answer."""
    seconds: dict[str, list[float]] = {name: [] for name in plan.systems if name != BARE}
    for number in range(plan.starts):
        for name, times in seconds.items():
            took = _start_s(rig, name)
            times.append(round(took, 3))
            sys.stderr.write(f"  {number + 1}/{plan.starts} {name} starts in {took:.2f} s\n")
    return Starts(**_about(rig), seconds=seconds)


def deployments(rig: Rig, plan: Plan) -> Flatness:
    """Measure requests with many deployments: of one model, and of as many models."""
    one = entry(MODEL, rig.world.upstream, id="first")
    numbers = range(1, plan.deployments)
    of_one = [entry(MODEL, rig.world.upstream, id=f"of-one-{number}") for number in numbers]
    of_many = [entry(f"model-{number}", rig.world.upstream) for number in numbers]
    gateways = [
        Ringback(rig.world, SMALL, [one]),
        Ringback(rig.world, "all of one model", [one, *of_one]),
        Ringback(rig.world, "each of a model of its own", [one, *of_many]),
    ]
    return _flat(rig, plan, plan.deployments, gateways, OPERATIONS, mints=3 * plan.deployments)


def policies(rig: Rig, plan: Plan) -> Flatness:
    """Measure calls with many SDP policies, one of them for our key."""
    gateways = [
        Ringback(rig.world, SMALL, settings={"sdp": _policies(1)}),
        Ringback(rig.world, "many", settings={"sdp": _policies(plan.policies)}),
    ]
    return _flat(rig, plan, plan.policies, gateways, (CALL,))


def keys(rig: Rig, plan: Plan) -> Flatness:
    """Measure mints, each with another key that has to be looked up, in a large database."""
    counts = {SMALL: min(_FEW_KEYS, plan.keys), "many": plan.keys}
    gateways: list[Ringback] = []
    for name, count in counts.items():
        sys.stderr.write(f"  filling a database with {count:,} keys\n")
        url, _ = filler.fill(rig.postgres, count)
        gateways.append(_gateway_of_keys(rig, name, url))
    runs: dict[str, list[Sample]] = {name: [] for name in counts}
    sent = 0
    with _started(gateways) as systems:
        for number in range(-1, plan.rounds):
            for system in _turned(systems, number):
                request = system.mint()
                pick = (sent, counts[system.name])
                sample = rig.measure(system, request, _FLAT_CONNECTIONS, plan.seconds, pick)
                sent += round(sample.per_s * plan.seconds)
                if number >= 0:
                    runs[system.name].append(sample)
                    _say(f"{number + 1}/{plan.rounds} {system.name}", sample)
    return Flatness(**_about(rig), size=plan.keys, runs={MINT: runs})


PARTS: Final[Mapping[str, Callable[[Rig, Plan], Any]]] = {
    "comparison": compare,
    "starts": start,
    "deployments": deployments,
    "policies": policies,
    "keys": keys,
}
assert set(PARTS) == set(Results.model_fields)  # noqa: S101


def _flat(
    rig: Rig,
    plan: Plan,
    size: int,
    gateways: list[Ringback],
    operations: Sequence[str],
    *,
    mints: int = 0,
) -> Flatness:
    """Measure gateways in turns.

    What the first mint of a deployment makes (the children of its metrics, its URL) is made once.
    With so many mints before all else, deployments drawn at random have had nearly all of that.
    """
    runs: dict[str, dict[str, list[Sample]]] = {
        operation: {gateway.name: [] for gateway in gateways} for operation in operations
    }
    with _started(gateways) as systems:
        requests = {system.name: system.requests() for system in systems}
        for system in systems:
            done = 0
            while done < mints:
                done += run(system.url, requests[system.name][MINT], _FLAT_CONNECTIONS, 5).requests
        for number in range(-1, plan.rounds):
            for operation in operations:
                for system in _turned(systems, number):
                    request = requests[system.name][operation]
                    sample = rig.measure(system, request, _FLAT_CONNECTIONS, plan.seconds)
                    if number >= 0:  # the first round is to warm up
                        runs[operation][system.name].append(sample)
                        _say(f"{number + 1}/{plan.rounds} {operation:5} {system.name}", sample)
    return Flatness(**_about(rig), size=size, runs=runs)


def _gateway_of_keys(rig: Rig, name: str, url: str) -> Ringback:
    world = replace(rig.world, database=url, key="sk-0")
    # Remembers next to nothing, so that each request asks the database.
    settings = {"key_cache": {"max_entries": 1}}
    return Ringback(world, name, [entry("a", world.upstream)], settings=settings, model="a")


def _policies(count: int) -> dict[str, Any]:
    """Return policies that each have a key, all of them for calls like ours."""
    names = [f"policy-{number}" for number in range(count)]
    switches = {"offer_candidates": "drop_private", "mask_related_addresses": True}
    holders = [KEY_ALIAS, *(f"key-{number}" for number in range(1, count))]
    return {
        "policies": {
            name: {**switches, "max_candidates": 64 + number % 8}
            for number, name in enumerate(names)
        },
        "keys": dict(zip(holders, names, strict=True)),
    }


def _make(rig: Rig, name: str) -> System:
    makers: dict[str, Callable[[World], System]] = {
        RINGBACK: Ringback,
        LITELLM: LiteLLM,
        BARE: Bare,
    }
    return makers[name](rig.world)


def _start_s(rig: Rig, name: str) -> float:
    """Start a system on a quiet machine, and return how long it took."""
    with ExitStack() as stack:
        system = _make(rig, name)
        stack.callback(system.stop)

        def work() -> float:
            system.stop()  # what an attempt that was disturbed has left
            system.start()
            system.wait()
            return system.ready_s

        return rig.quiet.run(work, lambda: _cpu_s(system))


def _cpu_s(system: System) -> float:
    return cpu_s([system.program.pid]) if system.is_started else 0.0


@contextmanager
def _started(systems: Sequence[S]) -> Iterator[Sequence[S]]:
    with ExitStack() as stack:
        for system in systems:
            stack.callback(system.stop)
            system.start()
            system.wait()
            sys.stderr.write(f"  {system.name} is ready after {system.ready_s:.1f} s\n")
        yield systems


def _turned(systems: Sequence[S], number: int) -> Sequence[S]:
    """Let another system be the first one in each round."""
    first = number % len(systems)
    return [*systems[first:], *systems[:first]]


def _about(rig: Rig) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": describe(rig.world.litellm),
        "others": round(rig.quiet.others, 3),
        "is_reliable": rig.quiet.is_reliable,
    }


def _say(what: str, sample: Sample) -> None:
    rate, cost = f"{sample.per_s:9.0f}/s", f"{sample.all_cpu_us:7.0f} us"
    times = f"p50 {sample.p50_ms:8.2f} ms  p99 {sample.p99_ms:8.2f} ms"
    sys.stderr.write(f"  {what:40}{rate}  {times}  {cost}\n")
