"""Envoys of a few lines: a provider that answers at once, a door that only passes on."""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.compare.processes import Program
from ringback.cli.ports import Wanted, take_ports
from ringback.paths import find_envoy

EPHEMERAL_KEY: Final = "ek_" + "6" * 48

_TYPE: Final = "type.googleapis.com/envoy.extensions.filters"
_CALL_ID: Final = "rtc_u1_9c6574da8b8a41a18da9308f4ad974ce"
_MINTED: Final = {
    "value": EPHEMERAL_KEY,
    "expires_at": 4_000_000_000,
    "session": {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_9c6574da8b8a41a18da9308f4ad974ce",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "instructions": "You are a helpful assistant that speaks briefly and in plain words.",
        "audio": {"output": {"voice": "marin", "speed": 1.0}},
    },
}

_HTTP2: Final[dict[str, Any]] = {"http2_protocol_options": {}}

Json = dict[str, Any]


def free_port() -> int:
    """Return a TCP port that is free at this moment."""
    (address,) = take_ports(Wanted("a port", "127.0.0.1", 0))
    return address.port


class Envoy:
    """An Envoy with one listener.

    Args:
        name: Of its files.
        folder: Where they are.
        routes: Of its listener.
        clusters: That the routes name.
        concurrency: Worker threads.
        filters: In front of the router.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        routes: list[Json],
        *,
        clusters: Sequence[Json] = (),
        concurrency: int = 1,
        filters: Sequence[Json] = (),
    ) -> None:
        self._name, self._folder, self._concurrency = name, folder, concurrency
        self._config: Json = {"static_resources": {"clusters": clusters}}
        self._manager = _manager(routes, filters)
        self.program: Program | None = None

    def start(self) -> None:
        """Start it; it listens a moment later."""
        port, admin = free_port(), free_port()
        self.url, self._admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        self._config["admin"] = {"address": _address(admin)}
        self._config["static_resources"]["listeners"] = [_listener(port, self._manager)]
        file = self._folder / f"{self._name}.json"
        file.write_text(json.dumps(self._config), encoding="utf-8")
        options = ["-c", str(file), "--concurrency", str(self._concurrency), "--log-level", "error"]
        command = [str(find_envoy()), *options, "--disable-hot-restart"]
        self.program = Program(command, self._folder / f"{self._name}.log")

    def stop(self) -> None:
        """End it."""
        program, self.program = self.program, None
        if program:
            program.stop()

    def answered(self) -> int:
        """Return how many requests it has answered."""
        url = f"{self._admin}/stats?filter=downstream_rq_2xx&format=json"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own admin
            stats = json.load(answer)["stats"]
        return sum(stat["value"] for stat in stats if stat["name"].startswith("http.front."))


def stub_upstream(folder: Path, answer: Path) -> Envoy:
    """Return a provider that answers mints and calls at once.

    Args:
        folder: For its files.
        answer: The SDP that it answers.
    """
    location = _header("location", f"/v1/realtime/calls/{_CALL_ID}")
    call: Json = {
        # With whatever query.
        "match": {"path": "/v1/realtime/calls"},
        "response_headers_to_add": [_header("content-type", "application/sdp"), location],
        "direct_response": {"status": 201, "body": {"filename": str(answer)}},
    }
    return Envoy("stub", folder, [_mint_route(), call])


def bare_envoy(folder: Path, upstream: str, concurrency: int) -> Envoy:
    """Return an Envoy that passes everything on and asks nobody.

    Args:
        folder: For its files.
        upstream: The URL of the upstream.
        concurrency: Worker threads.
    """
    port = int(upstream.rpartition(":")[2])
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    cluster = {
        "name": "upstream",
        "load_assignment": {"cluster_name": "upstream", "endpoints": endpoints},
    }
    routes: list[Json] = [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]
    return Envoy("bare", folder, routes, clusters=[cluster], concurrency=concurrency)


def asking_envoy(folder: Path, address: str) -> Envoy:
    """Return an Envoy that asks an ext_authz service before it answers mints itself.

    Args:
        folder: For its files.
        address: Of the service, ``unix:/path``.
    """
    pipe = {"pipe": {"path": address.partition(":")[2]}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": pipe}}]}]
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": _HTTP2}
    cluster = {
        "name": "asked",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {"cluster_name": "asked", "endpoints": endpoints},
    }
    ext_authz = {
        "@type": f"{_TYPE}.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "asked"}, "timeout": "15s"},
    }
    filters: list[Json] = [{"name": "ext_authz", "typed_config": ext_authz}]
    return Envoy("asking", folder, [_mint_route()], clusters=[cluster], filters=filters)


def _mint_route() -> Json:
    return {
        "match": {"path": "/v1/realtime/client_secrets"},
        "response_headers_to_add": [_header("content-type", "application/json")],
        "direct_response": {"status": 200, "body": {"inline_string": json.dumps(_MINTED)}},
    }


def _manager(routes: list[Json], filters: Sequence[Json]) -> Json:
    router = {"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}}
    return {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, router],
    }


def _listener(port: int, manager: Json) -> Json:
    filters = [{"name": "http", "typed_config": manager}]
    return {"name": "front", "address": _address(port), "filter_chains": [{"filters": filters}]}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _header(key: str, value: str) -> Json:
    # Envoy gives a 201 of its own a location: that of the request.
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
