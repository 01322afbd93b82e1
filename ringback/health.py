"""Ask a gRPC server whether it serves: ``python -m ringback.health ADDR`` exits with 0 or 1.

The health protocol is grpc.health.v1, which both services speak beside their own:
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

TIMEOUT_S: Final = 2.0

_METHOD: Final = "/grpc.health.v1.Health/Check"

_OPTIONS: Final = (
    # Health is about this moment: a connection that was refused earlier must not delay the next.
    ("grpc.use_local_subchannel_pool", 1),
    # Neither is it about what a proxy of the environment says.
    ("grpc.enable_http_proxy", 0),
)


def check(address: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Tell whether the server at an address is serving.

    Args:
        address: ``unix:/path`` or ``host:port``.
        timeout_s: For connecting and asking together.
    """
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        return check_channel(channel, timeout_s)


def check_channel(channel: grpc.Channel, timeout_s: float) -> bool:
    """Tell whether the server behind a channel is serving; any failure means that it is not.

    Args:
        channel: To the server.
        timeout_s: For the answer.
    """
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
    """Print one line about the server and return the exit code: 0 if it serves, else 1."""
    if len(arguments) != 1:
        print("usage: python -m ringback.health unix:/path | host:port")  # noqa: T201
        return 2
    (address,) = arguments
    is_serving = check(address)
    print(f"{address} is {'serving' if is_serving else 'not serving'}")  # noqa: T201
    return 0 if is_serving else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
