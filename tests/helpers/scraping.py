"""What Prometheus would read of a running gateway."""

import random
import re
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import pytest

from helpers.http11 import Message, request_bytes, send
from ringback.metrics import ENVOY_METRICS_OFFSET
from ringback.worker import METRICS_PORT_STEP

STATS: Final = "/stats/prometheus"
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a scrape."""

    job: str
    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class MetricsPorts:
    """Where the parts of a gateway with one ``metrics_address`` serve their metrics.

    Attributes:
        base: Of the first worker of extauthz.
        workers: Of each service.
    """

    base: int
    workers: int = 1

    @property
    def address(self) -> str:
        """The setting."""
        return f"127.0.0.1:{self.base}"

    def extauthz(self, worker: int = 0) -> int:
        """Return the port of a worker."""
        return self.base + worker * METRICS_PORT_STEP

    def sdpfilter(self, worker: int = 0) -> int:
        """Return the port of a worker."""
        return self.base + 1 + worker * METRICS_PORT_STEP

    @property
    def envoy(self) -> int:
        """Where Envoy's stats are."""
        return self.base + ENVOY_METRICS_OFFSET

    def all(self) -> list[tuple[str, int, str]]:
        """Return job, port and path of everything that is to be scraped."""
        workers = range(self.workers)
        return [
            *(("extauthz", self.extauthz(worker), "/metrics") for worker in workers),
            *(("sdpfilter", self.sdpfilter(worker), "/metrics") for worker in workers),
            ("envoy", self.envoy, STATS),
        ]


def free_metrics_ports(workers: int = 1) -> MetricsPorts:
    """Return ports below those that the kernel hands out, free for all metrics of a gateway."""
    for base in random.sample(range(20_000, 30_000, 10 * workers), 50):
        ports = MetricsPorts(base, workers)
        with ExitStack() as stack, suppress(OSError):
            for _, port, _ in ports.all():
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return ports
    pytest.fail("no port is free")


async def get(port: int, target: str, method: str = "GET") -> Message:
    """Return the answer of 127.0.0.1 to a request."""
    return await send(port, request_bytes(method, target))


async def scrape(ports: MetricsPorts) -> list[Sample]:
    """Return all samples of all parts of a gateway."""
    samples: list[Sample] = []
    for job, port, target in ports.all():
        answer = await get(port, target)
        assert answer.status == 200, answer.raw
        samples += parse(job, answer.body.decode())
    return samples


def parse(job: str, text: str) -> list[Sample]:
    """Return the samples of a text, by their names as they stand there.

    NOTE: prometheus_client's own parser would call Envoy's counters something else.
    """
    return [
        Sample(job, name, dict(_LABEL.findall(labels)), float(value))
        for name, labels, value in _SAMPLE.findall(text)
    ]


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """Return the sum of all samples of a name that have these labels."""
    return sum(
        sample.value
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
