"""Which deployment mints, which one next when it fails, and which are left alone for a while."""

from extauthz.routing.router import Router

__all__ = ["Router"]
