"""So many at once, and then so many a second."""

from __future__ import annotations

from twisted.internet.task import Clock

from tortxd.tor.pace import Pace


def test_a_burst_and_then_a_rate() -> None:
    clock = Clock()
    pace = Pace(clock, rate=10.0, burst=100)
    assert all(pace.keeps() for _ in range(100))
    assert not pace.keeps()
    clock.advance(1.0)
    assert all(pace.keeps() for _ in range(9))
    clock.advance(1000.0)
    assert pace.keeps(100)
    assert not pace.keeps(2)


def test_what_is_too_fast_does_not_count() -> None:
    clock = Clock()
    pace = Pace(clock, rate=10.0, burst=100)
    assert sum(pace.keeps() for _ in range(1000)) == 100
    clock.advance(1.0)
    assert sum(pace.keeps() for _ in range(1000)) == 10


def test_what_comes_steadily_keeps_to_it_for_ever() -> None:
    clock = Clock()
    pace = Pace(clock, rate=10.0, burst=100)
    for _ in range(5000):
        clock.advance(0.1)
        assert pace.keeps()


def test_what_comes_too_fast_does_not() -> None:
    clock = Clock()
    pace = Pace(clock, rate=10.0, burst=100)
    kept = 0
    while pace.keeps():
        kept += 1
        clock.advance(0.05)
    assert 190 <= kept <= 210
