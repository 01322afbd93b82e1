"""Typed stubs of what Ringback speaks of the Envoy API: envoy.extensions.transport_sockets.tls.v3."""
