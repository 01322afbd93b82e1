"""Fixtures of the SDK tests: one gateway for all of them, and Node.js."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from helpers.programs import Node, node_with_sdks
from helpers.sdkgateway import Provided, sdk_gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provided]:
    """Envoy and both services, with a deployment of each dialect."""
    async with sdk_gateway(tmp_path_factory.mktemp("sdk")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node(
    gateway: Provided, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    """Node.js with openai-node and the agents SDK."""
    source, temporary = Path(__file__).parent / "node", tmp_path_factory.mktemp("tls")
    async with node_with_sdks(source, pytestconfig.cache, gateway, temporary) as ready:
        yield ready
