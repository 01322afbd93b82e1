"""An ext_authz service that agrees to everything: what gRPC in Python costs at least.

``python bench/echo.py unix:/some/socket``
"""

import asyncio
import sys
from typing import Any

import grpc

from envoyapi.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse, OkHttpResponse
from envoyapi.service.auth.v3.external_auth_pb2_grpc import (
    AuthorizationServicer,
    add_AuthorizationServicer_to_server,
)


class _Echo(AuthorizationServicer):
    async def Check(self, request: CheckRequest, context: Any) -> CheckResponse:  # noqa: ARG002
        return CheckResponse(ok_response=OkHttpResponse())


async def main(address: str) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    add_AuthorizationServicer_to_server(_Echo(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
