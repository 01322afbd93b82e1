"""Typed stubs of what Ringback speaks of the Envoy API: envoy.type.matcher."""
