"""Typed stubs of what Ringback speaks of the Envoy API: envoy.extensions.filters.http.ext_proc.v3."""
