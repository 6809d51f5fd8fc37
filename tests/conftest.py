"""What all tests share: the private Tor network's fixtures."""

from __future__ import annotations

pytest_plugins = ["tortxd.testing.fixtures"]
