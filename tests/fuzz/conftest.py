"""The in-memory gateway, for the tests that fuzz it over raw sockets."""

from __future__ import annotations

from tests.gateway.conftest import gateway

__all__ = ["gateway"]
