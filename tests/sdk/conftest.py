"""Fixtures of the SDK tests: one gateway for all of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from helpers.sdkgateway import Provided, sdk_gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provided]:
    """Envoy and both services, with a deployment of each provider."""
    async with sdk_gateway(tmp_path_factory.mktemp("sdk")) as running:
        yield running
