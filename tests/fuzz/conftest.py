"""The in-memory gateway, for the tests that fuzz it over raw sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.conftest import gateway

__all__ = ["gateway"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these out of the coverage: they find what nobody thought of, run no line that other
    tests do not, and being counted would take them most of their time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.no_cover)
