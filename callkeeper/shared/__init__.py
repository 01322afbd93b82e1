"""Calls that several replicas share in Valkey, so that none is lost with the one that kept it."""
