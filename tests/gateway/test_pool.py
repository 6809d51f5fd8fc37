"""How long connections wait for a further request."""

from __future__ import annotations

from typing import cast

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tortxd.relay.timeouts import Timeouts
from tortxd.relay.upstream import IDLE, LIFETIME, Carried, Pool, PoolKey, Upstream
from tortxd.tor.isolation import Credentials

CREDENTIALS = Credentials(b"identity", b"key")
NOBODY = cast(Carried, None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> Pool:
    return Pool(Timeouts(clock), limit=100)


def used(pool: Pool) -> Upstream:
    """A connection whose request is over."""
    upstream = Upstream(pool, PoolKey(CREDENTIALS, "http", "site.test.example", 80), NOBODY)
    upstream.transport = StringTransport()  # type: ignore[assignment]
    return upstream


def was_closed(upstream: Upstream) -> bool:
    return cast(StringTransport, upstream.transport).disconnecting


def test_each_waits_equally_long(pool: Pool, clock: Clock) -> None:
    first, second = used(pool), used(pool)
    pool.give(first)
    clock.advance(IDLE / 2)
    pool.give(second)
    clock.advance(IDLE / 2 - 1)
    assert list(pool._waiting) == [first, second]
    clock.advance(1)
    assert list(pool._waiting) == [second]
    assert was_closed(first)
    clock.advance(IDLE / 2 - 1)
    assert len(pool) == 1
    clock.advance(2)
    assert len(pool) == 0
    assert not pool._by_key
    assert not clock.getDelayedCalls()


def test_what_comes_later_is_looked_at_as_well(pool: Pool, clock: Clock) -> None:
    for _ in range(3):
        pool.give(used(pool))
        clock.advance(IDLE)
        assert len(pool) == 0


def test_waiting_starts_anew_with_each_request(pool: Pool, clock: Clock) -> None:
    upstream = used(pool)
    pool.give(upstream)
    clock.advance(IDLE - 1)
    pool.forget(upstream)
    pool.give(upstream)
    clock.advance(IDLE - 1)
    assert list(pool._waiting) == [upstream]
    clock.advance(2)
    assert len(pool) == 0


def test_nothing_is_left_of_those_that_are_closed(pool: Pool, clock: Clock) -> None:
    upstream = used(pool)
    pool.give(upstream)
    pool.clear()
    assert was_closed(upstream)
    assert not any(queue.entries for queue in pool.timeouts._queues.values())
    pool.give(used(pool))
    clock.advance(IDLE)
    assert len(pool) == 0


def test_what_grew_old_in_use_is_not_kept(pool: Pool, clock: Clock) -> None:
    """Rule 9: 10 minutes."""
    upstream = used(pool)
    clock.advance(LIFETIME + 1)
    pool.give(upstream)
    assert len(pool) == 0
    assert was_closed(upstream)


def test_what_grew_old_waiting_is_not_used(pool: Pool, clock: Clock) -> None:
    upstream = used(pool)
    clock.advance(LIFETIME - 1)
    pool.give(upstream)
    clock.advance(2)
    assert pool.take(upstream.pool_key, NOBODY) is None
    assert len(pool) == 0


class Compared(Upstream):
    """Counts how often one is compared with another."""

    comparisons = 0

    def unasked(self, *, ends: bool = True) -> bytes | None:
        return None

    def __eq__(self, other: object) -> bool:
        Compared.comparisons += 1
        return self is other

    __hash__ = Upstream.__hash__


def test_one_is_taken_without_a_look_at_all_that_wait(pool: Pool) -> None:
    key = PoolKey(CREDENTIALS, "http", "site.test.example", 80)
    made = [Compared(pool, key, NOBODY) for _ in range(100)]
    for one in made:
        pool.give(one)
    before = Compared.comparisons
    taken = [pool.take(key, NOBODY) for _ in made]
    assert Compared.comparisons == before
    assert all(one is other for one, other in zip(taken, reversed(made), strict=True))
    assert pool.take(key, NOBODY) is None
    assert len(pool) == 0
