"""What all tests share: the private Tor network's fixtures, and an empty environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tortxd.testing.fixtures"]

# How fast an example runs says more of what else the machine does than of the code.
settings.register_profile("tortxd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tortxd")

# What the developer has set for a daemon of their own, and for programs that go through a proxy, is
# not what is to be tested; here, before anything has read it, once for all tests.
_OWN = ("TORTXD_", "GATEWAY_PORT", "TOR_SOCKS_PORT", "SOCKS_ADDR", "STATE_DIRECTORY")
for _name in list(os.environ):
    if _name.startswith(_OWN) or _name.lower().endswith("_proxy"):
        del os.environ[_name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the modules that need the Tor network come last: even idle, it takes a quarter of a
    core."""
    last = {item.path for item in items if "tor_network" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in last)
