"""Typed stubs of how Ringback's services speak about calls: ringback.v1."""
