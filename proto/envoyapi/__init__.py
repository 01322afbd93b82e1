"""Typed protobuf stubs of the part of the Envoy API that Ringback speaks."""
