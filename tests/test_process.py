"""The daemon's process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tortxd import process


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is set up is the tests' own process again afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(process, "raise_descriptors", lambda: None)
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("restored")
def test_requests_that_wait_are_not_looked_through_for_circles() -> None:
    reactor: Any = MemoryReactorClock()
    process.set_up(reactor, None)
    gc.collect()
    looks: list[str] = []
    gc.callbacks.append(lambda phase, _: looks.append(phase))
    waiting = [[number] for number in range(20_000)]
    gc.callbacks.pop()
    assert len(waiting) == 20_000
    assert looks == []
