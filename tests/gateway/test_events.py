"""``/events``: what is told, to whom, how much of it, and when readers are sent away."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import define, field
from jsonschema import Draft202012Validator
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.gateway.conftest import OPERATOR, FakeLink, Gateway
from tests.web_client import Wire
from tortxd.gateway.answers import NotTaken
from tortxd.gateway.control import ring
from tortxd.gateway.control.events import MOST_READERS, PATIENCE, QUIET, Reader
from tortxd.gateway.control.feed import KINDS, LINGER, MOST_AT_ONCE, MOST_SHOWN, TICK, Feed
from tortxd.gateway.control.ring import Ring
from tortxd.gateway.control.schemas import BANDWIDTH, CIRCUIT, HEALTH, SNAPSHOT, STREAM
from tortxd.gateway.control.views import Views
from tortxd.gateway.health import Health
from tortxd.tor.changes import Bandwidth, C, CircuitChanged
from tortxd.tor.link import Circuit, Stream
from tortxd.tor.status import Bootstrapping
from tortxd.tor.table import Table

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"
SCHEMAS: dict[str, Any] = {
    "snapshot": SNAPSHOT,
    "status": HEALTH,
    "circuit": CIRCUIT,
    "stream": STREAM,
    "bandwidth": BANDWIDTH,
}
PATH = f"${'A' * 40}~guard,${'B' * 40}~middle,${'C' * 40}~exit"
TOLD = frozenset(KINDS)


def events_in(wire: bytes) -> list[tuple[str, str, Any]]:
    """The id, type and data of each event, each as its schema has it; comments are left out."""
    found = []
    for block in wire.decode().split("\n\n"):
        if not block or block.startswith(":"):
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = json.loads(fields["data"])
        Draft202012Validator(SCHEMAS[fields["event"]]).validate(data)
        found.append((fields["id"], fields["event"], data))
    return found


@implementer(IConsumer)
@define
class Consumer:
    """Takes what a reader is sent, and pauses it when the test says so."""

    wire: bytearray = field(factory=bytearray)
    producer: IPushProducer | None = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.wire += data

    def take(self) -> list[tuple[str, str, Any]]:
        """What came since the last time."""
        came, self.wire = bytes(self.wire), bytearray()
        return events_in(came)


@define
class TableLink(FakeLink):
    """A Tor with a real table, which the test feeds."""

    table: Table = field(factory=Table)

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        return self.table.listen(kind, listener)

    def describe(self, circuit: CircuitChanged) -> Circuit:
        return self.table.describe(circuit)

    def circuits(self) -> Sequence[Circuit]:
        return self.table.circuits()

    def streams(self) -> Sequence[Stream]:
        return self.table.streams()

    def stream(self, id: str) -> Stream | None:
        return self.table.stream(id)

    def bandwidth(self) -> Sequence[Bandwidth]:
        return self.table.traffic.seconds


@define
class World:
    """A feed over such a Tor, and its readers, in a time of their own."""

    link: TableLink
    clock: Clock
    feed: Feed
    ended: list[Consumer] = field(factory=list)
    given_up: list[Consumer] = field(factory=list)

    def reader(self, kinds: frozenset[str] = TOLD, last: bytes = b"") -> Consumer:
        consumer = Consumer()
        reader = Reader(self.clock, self.feed, kinds, last)
        reading = Deferred.fromCoroutine(reader.read(consumer))

        def failed(failure: Failure) -> None:
            failure.trap(NotTaken)
            self.given_up.append(consumer)

        reading.addCallbacks(lambda _: self.ended.append(consumer), failed)
        return consumer

    def event(self, name: str, line: str) -> None:
        self.link.table.feed(name, line, self.clock.seconds())

    def stream(self, number: int, state: str, more: str = "") -> None:
        self.event("STREAM", f"{number} {state} 7 a.example:80 {more}")


@pytest.fixture
def world(gateway: Gateway) -> World:
    link, clock = TableLink(), Clock()
    gateway.core.link = link
    gateway.core.reactor = clock  # type: ignore[assignment]
    gateway.core.health = Health(clock, link)
    return World(link, clock, Feed(gateway.core, Views(gateway.core)))


# --- the ring -------------------------------------------------------------------------------------


def id_of(number: int, of: Ring) -> bytes:
    return of.wire("x", b"", number).split(b"\n")[0].removeprefix(b"id: ")


def test_the_ring_gives_what_comes_behind_an_id() -> None:
    ring = Ring()
    for number in range(1, 4):
        ring.add("x", b"%d" % number)
    after = ring.after(id_of(1, ring))
    assert after == 2
    assert [event.number for event in ring.since(after)] == [2, 3]
    assert ring.after(id_of(3, ring)) == 4
    assert list(ring.since(4)) == []
    assert ring.after(id_of(0, ring)) == 1


@pytest.mark.parametrize(
    "id", [b"", b"x", b"-", b"x-1", b"-1", b"1", b"x-\xb2", b"x-" + b"9" * 5000]
)
def test_strange_ids_are_none_of_its_own(id: bytes) -> None:
    ring = Ring()
    ring.add("x", b"1")
    name = id_of(1, ring).partition(b"-")[0]
    assert ring.after(id) is None
    assert ring.after(id.replace(b"x", name)) in (None, 2)
    assert ring.after(id_of(2, ring)) is None  # it has not been yet
    assert Ring().after(id_of(1, ring)) is None


def test_the_ring_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    many, large = Ring(), Ring()
    for _ in range(ring.MOST_EVENTS + 10):
        many.add("x", b"")
    assert (many.oldest, many.next) == (11, ring.MOST_EVENTS + 11)
    assert many.after(id_of(9, many)) is None
    assert many.after(id_of(10, many)) == 11
    for _ in range(5):
        large.add("x", bytes(400_000))
    assert (large.oldest, large.next) == (4, 6)


# --- what is told ---------------------------------------------------------------------------------


def test_a_snapshot_comes_first(world: World) -> None:
    world.event("CIRC", f"7 BUILT {PATH} PURPOSE=GENERAL")
    world.stream(20, "NEW", 'SOURCE_ADDR=127.0.0.1:1 SOCKS_USERNAME="u" PURPOSE=USER')
    world.event("BW", "10 20")
    world.clock.advance(2)
    ((_, kind, snapshot),) = world.reader().take()
    assert kind == "snapshot"
    assert snapshot["status"]["status"] == "ok"
    assert [one["id"] for one in snapshot["circuits"]] == ["7"]
    (stream,) = snapshot["streams"]
    assert (stream["id"], stream["circuit"], stream["way"]) == ("20", "7", "socks")
    assert snapshot["circuits"][0]["isolation"] == stream["isolation"]
    assert snapshot["bandwidth"] == [{"read": 10, "written": 20, "age": 2.0}]


def test_changes_follow_as_they_come(world: World) -> None:
    consumer = world.reader()
    consumer.take()
    world.link.become(Bootstrapping(50, "loading", "Loading"))
    world.event("BW", "1 2")
    (_, first, status), (_, second, bandwidth) = consumer.take()
    assert (first, status["bootstrap"]["progress"]) == ("status", 50)
    assert (second, bandwidth) == ("bandwidth", {"read": 1, "written": 2})
    world.event("CIRC", "7 LAUNCHED PURPOSE=GENERAL")
    assert consumer.take() == []
    world.event("CIRC", f"7 BUILT {PATH} PURPOSE=GENERAL")
    world.stream(20, "NEW")
    world.clock.advance(TICK)
    (_, first, circuit), (_, second, stream) = consumer.take()
    assert (first, circuit["id"], circuit["state"]) == ("circuit", "7", "BUILT")
    assert (second, stream["id"], stream["state"]) == ("stream", "20", "NEW")
    world.stream(20, "CLOSED", "REASON=END REMOTE_REASON=DONE")
    world.event("CIRC", f"7 CLOSED {PATH} REASON=DESTROYED REMOTE_REASON=OR_CONN_CLOSED")
    world.clock.advance(TICK)
    (_, _, circuit), (_, _, stream) = consumer.take()
    assert (circuit["state"], circuit["reason"], circuit["remoteReason"]) == (
        "CLOSED",
        "DESTROYED",
        "OR_CONN_CLOSED",
    )
    assert (stream["state"], stream["reason"], stream["remoteReason"]) == ("CLOSED", "END", "DONE")
    world.clock.advance(TICK * 10)
    assert consumer.take() == []


def test_types_are_chosen(world: World) -> None:
    consumer = world.reader(frozenset(("circuit",)))
    ((_, kind, snapshot),) = consumer.take()
    assert (kind, snapshot) == ("snapshot", {"circuits": []})
    world.event("BW", "1 2")
    world.stream(20, "NEW")
    world.event("CIRC", "8 LAUNCHED")
    world.clock.advance(TICK)
    assert [kind for _, kind, _ in consumer.take()] == ["circuit"]


def test_another_tor_is_told_as_a_snapshot(world: World) -> None:
    consumer = world.reader()
    world.event("CIRC", "8 LAUNCHED")
    consumer.take()
    world.link.table.clear()
    ((_, kind, snapshot),) = consumer.take()
    assert (kind, snapshot["circuits"], snapshot["bandwidth"]) == ("snapshot", [], [])
    world.clock.advance(TICK)
    assert consumer.take() == []


def test_another_tors_snapshot_has_what_was_chosen(world: World) -> None:
    consumer = world.reader(frozenset(("circuit", "bandwidth")))
    consumer.take()
    world.link.table.clear()
    ((_, kind, snapshot),) = consumer.take()
    assert (kind, snapshot) == ("snapshot", {"circuits": [], "bandwidth": []})


def test_so_much_is_told_at_once_and_the_rest_later(world: World) -> None:
    consumer = world.reader()
    consumer.take()
    for number in range(MOST_AT_ONCE + 20):
        world.event("CIRC", f"{number} LAUNCHED")
        world.stream(number, "NEW")
    world.clock.advance(TICK)
    assert len(consumer.take()) == 2 * MOST_AT_ONCE
    world.clock.advance(TICK)
    assert len(consumer.take()) == 2 * 20


def test_what_came_and_went_in_a_crowd_is_not_told(world: World) -> None:
    consumer = world.reader()
    consumer.take()
    for number in range(MOST_AT_ONCE * 10):
        world.stream(number, "NEW")
        if number >= MOST_AT_ONCE:
            world.stream(number, "CLOSED", "REASON=DONE")
    world.clock.advance(TICK)
    assert len(consumer.take()) == MOST_AT_ONCE
    world.clock.advance(TICK * 100)
    assert consumer.take() == []
    # That those end which were told of is told, whatever the crowd.
    for number in range(MOST_AT_ONCE):
        world.stream(number, "CLOSED", "REASON=DONE")
    world.clock.advance(TICK)
    assert {stream["state"] for _, _, stream in consumer.take()} == {"CLOSED"}


def test_a_snapshot_is_bounded(world: World) -> None:
    for number in range(MOST_SHOWN + 5):
        world.event("CIRC", f"{number} LAUNCHED")
        world.stream(number, "NEW")
    ((_, _, snapshot),) = world.reader().take()
    assert len(snapshot["circuits"]) == len(snapshot["streams"]) == MOST_SHOWN


# --- who reads ------------------------------------------------------------------------------------


def test_nobody_listens_while_nobody_reads(world: World) -> None:
    listeners = world.link.table._listeners._listeners
    assert not any(listeners.values())
    consumer = world.reader()
    assert all(listeners.values())
    assert world.feed._health._listeners
    assert consumer.producer is not None
    consumer.producer.stopProducing()
    assert len(world.feed) == 0
    world.clock.advance(LINGER - 1)
    assert all(listeners.values())
    world.clock.advance(1)
    assert not any(listeners.values())
    assert not world.feed._health._listeners
    assert not world.clock.getDelayedCalls()


def test_who_was_away_goes_on_where_it_was(world: World) -> None:
    first = world.reader()
    world.event("BW", "1 1")
    last = first.take()[-1][0].encode()
    assert first.producer is not None
    first.producer.stopProducing()
    world.event("BW", "2 2")
    second = world.reader(last=last)
    assert [(kind, data["read"]) for _, kind, data in second.take()] == [("bandwidth", 2)]
    third = world.reader(last=b"another-1")
    assert [kind for _, kind, _ in third.take()] == ["snapshot"]


def test_who_was_away_for_long_gets_a_snapshot(world: World) -> None:
    first = world.reader()
    world.event("BW", "1 1")
    last = first.take()[-1][0].encode()
    assert first.producer is not None
    first.producer.stopProducing()
    world.clock.advance(LINGER)
    world.event("BW", "2 2")
    assert [kind for _, kind, _ in world.reader(last=last).take()] == ["snapshot"]


def test_silence_is_broken_by_a_comment(world: World) -> None:
    consumer = world.reader()
    consumer.take()
    world.clock.advance(QUIET - 1)
    assert not consumer.wire
    world.event("BW", "1 1")
    consumer.take()
    world.clock.advance(QUIET - 1)
    assert not consumer.wire
    world.clock.advance(1)
    assert consumer.wire == b": \n\n"
    world.clock.advance(QUIET)
    assert consumer.wire == b": \n\n: \n\n"


def test_a_reader_that_takes_nothing_is_sent_away(world: World) -> None:
    consumer = world.reader()
    assert consumer.producer is not None
    consumer.producer.pauseProducing()
    size = len(consumer.wire)
    world.event("BW", "1 1")
    world.clock.advance(PATIENCE - 1)
    assert not world.given_up
    world.clock.advance(1)
    assert world.given_up == [consumer]
    assert len(consumer.wire) == size
    assert len(world.feed) == 0


def test_a_reader_that_takes_it_again_misses_nothing(world: World) -> None:
    consumer = world.reader()
    consumer.take()
    assert consumer.producer is not None
    consumer.producer.pauseProducing()
    for number in range(1000):
        world.event("BW", f"{number} 1")
    world.clock.advance(PATIENCE - 1)
    assert not consumer.wire
    consumer.producer.resumeProducing()
    assert [data["read"] for _, _, data in consumer.take()] == list(range(1000))
    world.clock.advance(PATIENCE)
    assert not world.given_up


def test_a_reader_that_is_too_far_behind_is_sent_away(world: World) -> None:
    consumer = world.reader()
    assert consumer.producer is not None
    consumer.producer.pauseProducing()
    for number in range(ring.MOST_EVENTS + 1):
        world.event("BW", f"{number} 1")
    assert world.given_up == [consumer]


def test_all_are_sent_away_at_a_stop(world: World) -> None:
    consumers = [world.reader(), world.reader()]
    world.feed.dismiss()
    assert world.ended == consumers
    assert not world.clock.getDelayedCalls()


# --- over HTTP ------------------------------------------------------------------------------------


async def reading(gateway: Gateway, path: str = "/events", *headers: str) -> Wire:
    wire = await gateway.connect()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", TOKEN, *headers, "", ""]
    wire.send("\r\n".join(lines).encode())
    return wire


@ensureDeferred
async def test_events_over_http(either: Gateway) -> None:
    wire = await reading(either)
    await wire.when_came(b"event: snapshot")
    head = bytes(wire.raw).partition(b"\r\n\r\n")[0]
    assert b"Content-Type: text/event-stream" in head
    assert b"Cache-Control: no-store" in head
    either.link.become(Bootstrapping(10, "conn", "Connecting"))
    await wire.when_came(b"event: status")
    wire.transport.abortConnection()


@ensureDeferred
async def test_last_event_id_reaches_the_route(either: Gateway) -> None:
    wire = await reading(either)
    await wire.when_came(b"event: snapshot")
    either.link.changes.tell(Bandwidth(1, 2, 0.0))
    await wire.when_came(b"event: bandwidth")
    last = bytes(wire.raw).rpartition(b"id: ")[2].partition(b"\n")[0].decode()
    either.link.changes.tell(Bandwidth(3, 4, 0.0))
    again = await reading(either, "/events", f"Last-Event-ID: {last}")
    await again.when_came(b'{"read":3,"written":4}')
    assert b"snapshot" not in again.raw
    wire.transport.abortConnection()
    again.transport.abortConnection()


@pytest.mark.parametrize("query", ["types=nonsense", "types=", "types=circuit,x", "types=%00"])
@ensureDeferred
async def test_other_types_are_refused(either: Gateway, query: str) -> None:
    reply = await either.ask(f"/events?{query}", TOKEN)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")


@ensureDeferred
async def test_chosen_types_over_http(either: Gateway) -> None:
    wire = await reading(either, "/events?types=status,bandwidth")
    await wire.when_came(b"event: snapshot")
    assert b'"circuits"' not in wire.raw
    wire.transport.abortConnection()


@ensureDeferred
async def test_rule_32_events_are_for_operators(either: Gateway) -> None:
    """Rule 32."""
    for path in ("/events", "/requests", "/config", "/metrics"):
        assert (await either.ask(path)).status == 401
        page = "Origin: http://localhost:8000"
        assert (await either.ask(path, TOKEN, page)).status == 403


@ensureDeferred
async def test_there_are_so_many_readers_at_most(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.gateway.control.events.MOST_READERS", 2)
    assert MOST_READERS > 2
    wires = [await reading(gateway) for _ in range(2)]
    for wire in wires:
        await wire.when_came(b"event: snapshot")
    reply = await gateway.ask("/events", TOKEN)
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    for wire in wires:
        wire.transport.abortConnection()


@ensureDeferred
async def test_rule_32_what_a_reader_does_not_take_is_not_kept(either: Gateway) -> None:
    """Rule 32: otherwise, it would wait for its reader while others take that one's place."""
    wire = await reading(either)
    await wire.when_came(b"event: snapshot")
    wire.transport.pauseProducing()
    for _ in range(400):  # more than is remembered, behind what the kernel takes
        either.link.become(Bootstrapping(10, "conn", "x" * 50_000))
    wire.transport.resumeProducing()
    await wire.lost
    assert wire.closed is not None
    assert wire.closed.check(ConnectionLost)


@ensureDeferred
async def test_readers_do_not_keep_a_stop_waiting(gateway: Gateway) -> None:
    wire = await reading(gateway)
    await wire.when_came(b"event: snapshot")
    await gateway.factory.drain(60)
    assert wire.closed is not None


@ensureDeferred
async def test_rule_32_nothing_of_a_key_or_a_client_is_told(gateway: Gateway) -> None:
    """Rule 32."""
    keys = gateway.core.keys
    reply = await gateway.fetch("/", "Tor-Stream-Isolation: key-canary")
    assert reply.status == 200
    username = gateway.socks.served[0].username.decode()
    circuit = Circuit("7", "BUILT", (), "GENERAL", 0.0, username=username)
    stream = Stream("1", "NEW", "7", "a:1", ("192.0.2.99", 7), 0.0, "USER", username)
    views = Views(gateway.core)
    told = json.dumps([views.circuit(circuit), views.stream(stream), views.requests()])
    assert keys.tag(username) in told
    for secret in ("key-canary", username, "192.0.2.99", OPERATOR.decode(), "127.0.0.1"):
        assert secret not in told
