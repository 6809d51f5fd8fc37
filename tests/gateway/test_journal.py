"""What became of requests: counted by those that are served, refused and given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock, deferLater

from tests.gateway.asking import forward
from tests.gateway.conftest import CIRCUIT, OPERATOR, FakeLink, Gateway
from tests.web_client import connect_to
from tortxd.errors import BadUrl, InternalError, Overloaded, ResolveFailed, TorDown, TortxdError
from tortxd.gateway.health import Health
from tortxd.gateway.journal import (
    BOUNDS,
    INTERVAL,
    INTERVALS,
    MOST_FAILURES,
    MOST_TIMES,
    Distribution,
    RequestJournal,
)
from tortxd.relay.journal import Summary
from tortxd.tor.link import Circuit
from tortxd.tor.status import BackingOff

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"


class NoCircuits:
    def circuit_of(self, source: tuple[str, int]) -> Circuit | None:
        return CIRCUIT if source == ("127.0.0.1", 7) else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> RequestJournal:
    return RequestJournal(clock, NoCircuits(), Health(clock, FakeLink()))


def summary(error: TortxdError | None = None, **more: Any) -> Summary:
    values: dict[str, Any] = {
        "way": "proxy",
        "outcome": "ok" if error is None else error.code,
        "status": 200,
        "to_connect": 0.1,
        "to_head": 0.2,
        "seconds": 0.3,
        "sent": 0,
        "received": 10,
        "attempts": 1,
        "error": error,
    }
    return Summary(**(values | more))


def test_a_distribution_counts_what_is_at_most_so_long() -> None:
    distribution = Distribution()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] + 0.001, BOUNDS[-1], 1000.0):
        distribution.add(seconds)
    assert distribution.counts == [2, 1, *[0] * 7, 1, 1]
    assert distribution.total == pytest.approx(sum((*BOUNDS[:1], 0.051, BOUNDS[-1], 1000.0)))


def test_intervals_of_the_last_minutes(clock: Clock, journal: RequestJournal) -> None:
    clock.advance(INTERVAL * 10 + 1)
    for seconds in (0.1, 0.5, 0.3):
        journal.responded(clock.seconds(), seconds)
    (interval,) = journal.intervals
    assert (interval.began, interval.requests, interval.failed) == (INTERVAL * 10, 3, 0)
    assert (interval.median, interval.longest) == (0.3, 0.5)
    clock.advance(INTERVAL - 1)
    journal.over(summary(ResolveFailed(), to_head=None))
    first, second = journal.intervals
    assert first is interval
    assert (second.requests, second.failed, second.median, second.longest) == (1, 1, None, None)
    # What broke off had been answered before: it is one request, not two.
    journal.responded(clock.seconds(), 0.2)
    journal.over(summary(TorDown()))
    assert (second.requests, second.failed) == (2, 2)
    clock.advance(INTERVAL * INTERVALS - INTERVAL + 1)
    assert journal.intervals == (second,)
    clock.advance(INTERVAL)
    assert not journal.intervals


def test_what_is_remembered_is_bounded(clock: Clock, journal: RequestJournal) -> None:
    for number in range(MOST_TIMES + 10):
        journal.responded(clock.seconds(), float(number))
        journal.over(summary(ResolveFailed(str(number))))
    assert len(journal.intervals[0].times) == MOST_TIMES
    assert len(journal.failures) == MOST_FAILURES
    assert journal.failures[-1].sentence == str(MOST_TIMES + 9)
    for _ in range(INTERVALS * 2):
        clock.advance(INTERVAL)
        journal.responded(clock.seconds(), 0.1)
    assert len(journal.intervals) == INTERVALS


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (BadUrl(), "client"),
        (ResolveFailed(), "destination"),
        (TorDown(), "tor"),
        (Overloaded(), "gateway"),
        (InternalError(), "gateway"),
    ],
)
def test_whose_fault_it_was(journal: RequestJournal, error: TortxdError, fault: str) -> None:
    error.tor_reason = "RESOLVEFAILED"
    journal.over(summary(error, source=("127.0.0.1", 7), username=b"user"))
    (failure,) = journal.failures
    assert (failure.fault, failure.code, failure.sentence) == (fault, error.code, str(error))
    assert (failure.circuit, failure.username) == (CIRCUIT, "user")
    assert failure.tor_reason == "RESOLVEFAILED"


def test_who_listens_is_told_until_it_leaves(journal: RequestJournal) -> None:
    told: list[Summary] = []
    leave = journal.listen(told.append)
    one = summary()
    journal.over(one)
    journal.refused("connect", BadUrl())
    leave()
    journal.over(one)
    assert told[0] is one
    assert [(each.way, each.outcome) for each in told] == [("proxy", "ok"), ("connect", "bad_url")]
    assert journal.counts == {("proxy", "ok"): 2, ("connect", "bad_url"): 1}


# --- the ways in ----------------------------------------------------------------------------------


async def outcome_of(gateway: Gateway, number: int = 1) -> list[tuple[str, str]]:
    """What was counted, once so many requests are over."""
    counts = gateway.core.journal.counts
    while counts.total() < number:
        await deferLater(gateway.reactor, 0)
    return sorted(counts.elements())


@ensureDeferred
async def test_a_request_is_counted_where_it_is_over(either: Gateway) -> None:
    told: list[Summary] = []
    either.core.journal.listen(told.append)
    reply = await either.fetch("/echo/path", method="POST", body=b"12345")
    assert reply.status == 200
    assert await outcome_of(either) == [("proxy", "ok")]
    (one,) = told
    assert (one.status, one.sent, one.attempts) == (200, 5, 1)
    assert one.received > len(reply.body)
    assert one.to_connect is not None
    assert one.to_head is not None
    assert 0 <= one.to_connect <= one.to_head <= one.seconds
    journal = either.core.journal
    assert sum(journal.to_head.counts) == sum(journal.to_connect.counts) == 1
    assert [one.requests for one in journal.intervals] == [1]


@ensureDeferred
async def test_a_connection_that_waits_is_not_connected_again(gateway: Gateway) -> None:
    told: list[Summary] = []
    gateway.core.journal.listen(told.append)
    for _ in range(2):
        assert (await gateway.fetch("/")).status == 200
    assert await outcome_of(gateway, 2) == [("proxy", "ok")] * 2
    assert [one.attempts for one in told] == [1, 0]
    assert told[1].to_connect is None
    assert sum(gateway.core.journal.to_connect.counts) == 1


@ensureDeferred
async def test_proxy_mode_has_ways_of_its_own(gateway: Gateway) -> None:
    assert (await forward(gateway, "/")).status == 200
    wire = await gateway.connect()
    wire.send(connect_to("origin.test.example:80"))
    await wire.when_came(b" 200 OK")
    wire.transport.abortConnection()
    # A tunnel ends with its client: that is how it is meant.
    assert await outcome_of(gateway, 2) == [("absolute-form", "ok"), ("connect", "ok")]


@ensureDeferred
async def test_a_client_that_leaves_is_no_failure(gateway: Gateway) -> None:
    gateway.socks.held = True
    wire = await gateway.connect()
    wire.send(f"GET {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await gateway.socks.asked()
    wire.transport.abortConnection()
    assert await outcome_of(gateway) == [("proxy", "client_gone")]
    assert not gateway.core.journal.failures


def _bad_url(gateway: Gateway) -> str:
    return "/proxy?url=nonsense"


def _forbidden(gateway: Gateway) -> str:
    return gateway.path("http://127.0.0.1/canary")


@pytest.mark.parametrize(
    ("path", "code"), [(_bad_url, "bad_url"), (_forbidden, "target_forbidden")]
)
@ensureDeferred
async def test_what_is_refused_is_counted(
    either: Gateway, path: Callable[[Gateway], str], code: str
) -> None:
    assert (await either.ask(path(either))).json["code"] == code
    assert await outcome_of(either) == [("proxy", code)]
    (failure,) = either.core.journal.failures
    assert (failure.fault, failure.circuit) == ("client", None)


@ensureDeferred
async def test_what_is_no_request_has_no_way(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n")
    assert (await wire.reply()).status == 400
    assert await outcome_of(gateway) == [("unknown", "bad_request")]


@ensureDeferred
async def test_a_malformed_body_is_the_clients_fault(gateway: Gateway) -> None:
    wire = await gateway.connect()
    head = f"POST {gateway.path('/upload')} HTTP/1.1\r\nHost: localhost\r\n"
    wire.send(f"{head}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n".encode())
    assert (await wire.reply(b"POST")).status == 400
    assert await outcome_of(gateway) == [("proxy", "bad_request")]


@ensureDeferred
async def test_routes_of_its_own_are_not_counted(gateway: Gateway) -> None:
    for path in ("/health", "/nope", "/circuits"):
        await gateway.ask(path)
    assert not gateway.core.journal.counts


@ensureDeferred
async def test_a_failure_says_where_it_happened(either: Gateway) -> None:
    either.socks.code = 4
    reply = await either.ask(either.path("http://gone.test.example/canary"))
    assert reply.json["code"] == "resolve_failed"
    value = (await either.ask("/requests", TOKEN)).json
    (failure,) = value["failures"]
    assert failure["age"] >= 0
    assert failure | {"age": 0} == {
        "age": 0,
        "way": "proxy",
        "code": "resolve_failed",
        "fault": "destination",
        "error": reply.json["error"],
        "retryable": True,
        "torReason": None,
        "circuit": "7",
        "exit": {
            "fingerprint": "C" * 40,
            "nickname": "exitnode",
            "address": "192.0.2.7",
            "country": "de",
        },
        "isolation": failure["isolation"],
    }
    assert len(failure["isolation"]) == 8
    assert value["counts"] == [{"way": "proxy", "outcome": "resolve_failed", "count": 1}]
    assert b"canary" not in (await either.ask("/requests", TOKEN)).body


@ensureDeferred
async def test_a_tor_that_is_down_is_what_failed(gateway: Gateway) -> None:
    gateway.link.status, gateway.link.socks_address = BackingOff(1.0, "It died."), None
    assert (await gateway.fetch("/")).json["code"] == "tor_down"
    (failure,) = gateway.core.journal.failures
    assert (failure.code, failure.fault) == ("tor_down", "tor")


@ensureDeferred
async def test_what_is_under_way_is_shown(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(f"GET {gateway.path('/hang')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await gateway.origin.when_requested(1)
    value = (await gateway.ask("/requests", TOKEN)).json
    assert (value["underWay"], value["connections"], value["pool"]) == (1, 2, 0)
