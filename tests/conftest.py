"""Fixtures that tests of several packages use."""

import signal
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from helpers.dataplanes import DATA_PLANES, OWN, DataPlane
from helpers.postgres import Database, PostgresServer

# Requests in each case, and how long a test may take that sends more, in seconds.
FLOOD: Final = 200
_LONG_FLOOD_S: Final = 1800

# A shell ignores Ctrl-C for what it runs in the background, and what that starts inherits it; tests
# press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about what is tested.
settings.register_profile(
    "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let soaks send more than is worth the time in every run."""
    parser.addoption(
        "--flood", type=int, default=FLOOD, help="requests in each case of tests that fail closed"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not for a data plane; give floods by hand the time that they take."""
    items[:] = [item for item in items if _is_wanted(item)]
    if config.getoption("--flood") > FLOOD:
        for item in items:
            item.add_marker(pytest.mark.timeout(_LONG_FLOOD_S), append=False)


def _is_wanted(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("dataplanes")
    if mark is None or "only" not in mark.kwargs or not isinstance(item, pytest.Function):
        return True
    plane = item.callspec.params["dataplane"]
    return plane == OWN or item.callspec.id.removeprefix(f"{plane}-") in mark.kwargs["only"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked so through other data planes, too."""
    if mark := metafunc.definition.get_closest_marker("dataplanes"):
        planes = [OWN, *(DATA_PLANES[name] for name in mark.args)]
        metafunc.parametrize("dataplane", planes, ids=str)


@pytest.fixture
def dataplane() -> DataPlane:
    """What makes Envoy's configuration: our own, but for tests marked ``dataplanes(...)``."""
    return OWN


@pytest.fixture
def flood(request: pytest.FixtureRequest) -> int:
    """How many requests a test sends against something that fails; `--flood 10000` soaks it."""
    count: int = request.config.getoption("--flood")
    return count


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A Postgres to be left running; tests that stop theirs start one of their own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """An empty database with LiteLLM's newest schema, for one test alone."""
    database = postgres.create_database()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def shared_database(postgres: PostgresServer) -> Iterator[Database]:
    """The same for all tests of a module, which have rows of their own in it."""
    database = postgres.create_database()
    yield database
    database.drop()
