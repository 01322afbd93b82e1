"""Programs as people run them: with an environment of their own, to the end."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from helpers.npm import find_node, install
from helpers.sdkgateway import Provided
from helpers.tlsrelay import server_context, tls_relay

_TIMEOUT_S = 60.0


async def run(*command: str | Path, stdin: str = "", env: Mapping[str, str]) -> str:
    """Return what a program prints.

    Args:
        command: The program and its arguments.
        stdin: What it reads.
        env: All of its environment.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
    )
    async with asyncio.timeout(_TIMEOUT_S):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


@dataclass(frozen=True, slots=True)
class Node:
    """Node.js with the SDKs.

    Attributes:
        folder: Has the packages, and so the scripts.
        https: The gateway, for what speaks TLS alone.
        authority: A PEM file with the authority that vouches for it.
    """

    folder: Path
    https: str
    authority: Path

    async def run(self, script: str, *, stdin: str = "", **env: str) -> str:
        """Return what a script of the folder prints."""
        env["NODE_EXTRA_CA_CERTS"] = str(self.authority)
        return await run(find_node(), self.folder / script, stdin=stdin, env=env)


@asynccontextmanager
async def node_with_sdks(
    source: Path, cache: pytest.Cache, gateway: Provided, temporary: Path
) -> AsyncIterator[Node]:
    """Install the packages of a folder, and put TLS in front of the gateway.

    Args:
        source: See `helpers.npm.install`.
        cache: Keeps the packages.
        gateway: What the scripts call.
        temporary: For the authority's certificate.
    """
    folder = install(source, cache)
    authority, pem = trustme.CA(), temporary / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    async with tls_relay(server_context(authority), gateway.port) as port:
        yield Node(folder, f"https://localhost:{port}", pem)
