"""Ask workers how they are: ``python -m ringback.health ADDR...`` exits with 0 or 1.

At ``unix:/path`` or ``host:port`` a gRPC server is asked whether it serves, in grpc.health.v1,
which both services speak beside their own:
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
At ``http://host:port/path`` the status of the answer counts: ``/healthz`` of a worker's metrics
port is 200 while its event loop is alive.
"""

import sys
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import grpc

TIMEOUT_S: Final = 2.0

_METHOD: Final = "/grpc.health.v1.Health/Check"

_OPTIONS: Final = (
    # Health is about this moment: a connection that was refused earlier must not delay the next.
    ("grpc.use_local_subchannel_pool", 1),
    # Neither is it about what a proxy of the environment says.
    ("grpc.enable_http_proxy", 0),
)


def check(address: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Tell whether the gRPC server at an address is serving.

    Args:
        address: ``unix:/path`` or ``host:port``.
        timeout_s: For connecting and asking together.
    """
    import grpc  # noqa: PLC0415  takes longer than to ask over HTTP, which needs none of it

    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        return check_channel(channel, timeout_s)


def check_http(url: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Tell whether a URL answers with 200; no proxy of the environment is asked.

    Args:
        url: ``http://host:port/path``.
        timeout_s: For each of connecting and answering.
    """
    try:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=timeout_s)
    except (ValueError, HTTPException):
        return False
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def check_channel(channel: "grpc.Channel", timeout_s: float) -> bool:
    """Tell whether the server behind a channel is serving; any failure means that it is not.

    Args:
        channel: To the server.
        timeout_s: For the answer.
    """
    import grpc  # noqa: PLC0415  as above
    from grpc_health.v1 import health_pb2  # noqa: PLC0415

    ask = channel.unary_unary(
        _METHOD,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = ask(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    except grpc.RpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def main(arguments: list[str]) -> int:
    """Print one line about each address and return the exit code: 0 if all is well, else 1."""
    if not arguments:
        print("usage: python -m ringback.health unix:/path | host:port | http://host:port/path ...")  # noqa: T201
        return 2
    return max([_report(address) for address in arguments])


def _report(address: str) -> int:
    is_url = address.startswith("http://")
    is_well = check_http(address) if is_url else check(address)
    word = "well" if is_url else "serving"
    print(f"{address} is {word if is_well else f'not {word}'}")  # noqa: T201
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
