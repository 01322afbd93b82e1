"""A free port for the metrics of a gateway's workers."""

import random
import socket
from contextlib import ExitStack, suppress


def metrics_port() -> int:
    """Return a port below those that the kernel hands out, free for two workers of each service."""
    for port in random.sample(range(20_000, 30_000, 20), 50):
        with ExitStack() as stack, suppress(OSError):
            for own in (port, port + 1, port + 10, port + 11):
                stack.enter_context(socket.create_server(("127.0.0.1", own)))
            return port
    raise RuntimeError("no port is free")
