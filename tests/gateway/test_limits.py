"""What happens at the limit of connections (rule 25)."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import alsoProvides

from tests.gateway.conftest import Gateway, port_of
from tests.web_client import Wire
from tortxd.gateway import limits
from tortxd.gateway.front import connection, connections, endings
from tortxd.gateway.limits import Limits, descriptors_here, raise_descriptors

HANG = "http://origin.test.example/hang"


def limited(gateway: Gateway, clients: int, idle: int = 10) -> None:
    gateway.core.limits = Limits(clients, idle)


async def busy(gateway: Gateway, count: int) -> list[Wire]:
    """Clients whose requests are under way."""
    wires = []
    for _ in range(count):
        wire = await gateway.connect()
        number = len(gateway.origin.requests) + 1
        wire.send(f"GET {gateway.path(HANG)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await gateway.origin.when_requested(number)
        wires.append(wire)
    return wires


@pytest.mark.parametrize("request_line", ["GET /health", "CONNECT a.example:80", "nonsense"])
@ensureDeferred
async def test_one_too_many_is_told_so(gateway: Gateway, request_line: str) -> None:
    limited(gateway, 2)
    wires = await busy(gateway, 2)
    wire = await gateway.connect()
    wire.send(f"{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    assert reply.json["retryable"] is True
    assert reply["Retry-After"] == "5"
    assert reply["Connection"] == "close"
    assert reply.whole
    await wire.lost
    # It passes as soon as somebody leaves.
    connection = gateway.origin.requests[0].connection
    wires[0].transport.abortConnection()
    await gateway.origin.when_closed(connection)
    assert (await gateway.ask("/health")).status == 200


@ensureDeferred
async def test_a_head_that_is_one_too_many_gets_no_body(gateway: Gateway) -> None:
    """Rule 26."""
    limited(gateway, 1)
    await busy(gateway, 1)
    wire = await gateway.connect()
    wire.send(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reply = await wire.reply(b"HEAD")
    assert (reply.status, reply["Tortxd-Error"]) == (503, "overloaded")
    await wire.lost
    assert wire.raw.endswith(b"\r\n\r\n")


@ensureDeferred
async def test_who_has_long_been_idle_makes_room(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LONG_IDLE", 0.0)
    limited(gateway, 3)
    first, second = [await gateway.connect() for _ in range(2)]
    await busy(gateway, 1)
    assert (await gateway.ask("/health")).status == 200
    await first.lost
    assert second.closed is None


@ensureDeferred
async def test_who_has_only_just_come_does_not(gateway: Gateway) -> None:
    limited(gateway, 2)
    wires = [await gateway.connect() for _ in range(2)]
    assert (await gateway.ask("/health")).status == 503
    for wire in wires:
        wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.reply()).status == 200


@pytest.fixture
def soon_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few can be refused at one time, and those who ask for nothing are before long."""
    monkeypatch.setattr(connections, "REFUSALS", 2)
    monkeypatch.setattr(connection, "REFUSAL_TIME", 0.1)
    monkeypatch.setattr(connection, "LINGER_TIME", 0.3)
    monkeypatch.setattr(endings, "LINGER_TIME", 0.3)


@pytest.mark.parametrize("asks", [True, False])
@ensureDeferred
async def test_each_of_many_too_many_is_told_so(
    gateway: Gateway, soon_refused: None, asks: bool
) -> None:
    """Rule 30: even who asks for nothing, and though few are told at one time."""
    limited(gateway, 1)
    (working,) = await busy(gateway, 1)
    wires = [await gateway.connect() for _ in range(9)]
    for wire in wires:
        if asks:
            wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.json["code"]) == (503, "overloaded")
        assert reply["Retry-After"] == "5"
        assert len(gateway.factory.connections) <= 3
    await gatherResults([wire.lost for wire in wires])
    assert working.closed is None


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@ensureDeferred
async def test_the_first_in_a_ports_queue_are_told_too(
    gateway: Gateway, soon_refused: None, tmp_path: Path, kind: str
) -> None:
    """Of a port that is named when it begins to listen; there are more than Twisted accepts before
    it reads anything."""
    limited(gateway, 0)
    path = str(tmp_path / "gateway")
    words = "tcp:0:interface=127.0.0.1" if kind == "tcp" else f"unix:{path}"
    endpoint = serverFromString(gateway.reactor, f"{words}:backlog=200")
    port = await endpoint.listen(gateway.factory)
    gateway.factory.listens_on(port)
    crowd = []
    for _ in range(120):
        client = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
        client.settimeout(20.0)
        client.connect(("127.0.0.1", port_of(port)) if kind == "tcp" else path)
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        crowd.append(client)

    def read_all() -> None:
        for client in crowd:
            with client, client.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 503 ")

    await deferToThread(read_all)
    await port.stopListening()


@ensureDeferred
async def test_those_who_never_leave_do_not_keep_others_out(
    gateway: Gateway, soon_refused: None
) -> None:
    """They ask for nothing, and do not close their end; the next wait until they are closed."""
    limited(gateway, 1)
    (working,) = await busy(gateway, 1)
    silent = [await gateway.connect() for _ in range(6)]
    for wire in silent:
        alsoProvides(wire, IHalfCloseableProtocol)
        wire.readConnectionLost = wire.writeConnectionLost = lambda: None  # type: ignore[attr-defined]
    asking = Deferred.fromCoroutine(gateway.ask("/health"))
    assert (await asking.addTimeout(10.0, gateway.reactor)).status == 503
    # With room again, those in the queue are served.
    working.transport.abortConnection()
    await gateway.origin.when_closed(1)
    assert (await gateway.ask("/health")).status == 200
    for wire in silent:
        await wire.when_came(b"HTTP/1.1 503 ")  # the last may have just been accepted
        wire.transport.abortConnection()


@ensureDeferred
async def test_a_port_that_waits_can_be_closed(
    gateway: Gateway, soon_refused: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REFUSAL_TIME", 60.0)
    limited(gateway, 1)
    port = gateway.reactor.listenTCP(0, gateway.factory, interface="127.0.0.1")
    others = await busy(gateway, 1)
    gateway.ports["front"] = port_of(port)
    others += [await gateway.connect() for _ in range(3)]
    while port in gateway.reactor.getReaders():
        await deferLater(gateway.reactor, 0)
    await port.stopListening()
    others[1].send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await others[1].lost
    assert port not in gateway.reactor.getReaders()


@ensureDeferred
async def test_the_oldest_waiting_connection_to_tor_goes_first(gateway: Gateway) -> None:
    gateway.core.pool._limit = 2
    for key in "abc":
        await gateway.fetch("/", f"Tor-Stream-Isolation: {key}")
    await gateway.origin.when_closed(1)
    assert [one.number for one in gateway.origin.open_connections] == [2, 3]
    assert len(gateway.core.pool) == 2


@pytest.mark.parametrize("descriptors", [100, 256, 1024, 4096, 65536])
def test_descriptors_are_enough_for_what_may_be_open(descriptors: int) -> None:
    """Each client may have a connection to Tor; refusals and our own come on top."""
    here = Limits.of(descriptors)
    assert here.clients > 0
    assert here.idle > 0
    if descriptors >= 256:
        used = 2 * here.clients + here.idle + limits.REFUSALS + limits.OWN
        assert used <= descriptors


def test_the_limits_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert descriptors_here() == 1024
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert descriptors_here() == limits.WANTED


@pytest.mark.parametrize(
    ("soft", "hard", "asked"),
    [
        (1024, 4096, (4096, 4096)),
        (1024, 1_000_000, (limits.WANTED, 1_000_000)),
        (1024, resource.RLIM_INFINITY, (limits.WANTED, resource.RLIM_INFINITY)),
        (4096, 4096, None),
        (1_000_000, 1_000_000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_raising(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: tuple[int, int] | None
) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: done.append(pair))
    raise_descriptors()
    assert done == ([] if asked is None else [asked])


# --- descriptors ----------------------------------------------------------------------------------


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[], Callable[[], None]]]:
    """Takes all descriptors that there are; what it returns gives them back."""
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()

    def give_back() -> None:
        while taken:
            os.close(taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def take() -> Callable[[], None]:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        return give_back

    yield take
    give_back()


def answer_to(client: socket.socket) -> bytes:
    """All that comes, in a thread."""
    client.settimeout(20)
    came = bytearray()
    while data := client.recv(65_536):
        came += data
    return bytes(came)


@ensureDeferred
async def test_rule_25_who_finds_no_descriptor_is_told_so(
    gateway: Gateway, no_descriptors: Callable[[], Callable[[], None]]
) -> None:
    """Each in turn, and what waits for its next request makes room."""
    assert (await gateway.fetch("/bytes/3")).status == 200
    assert len(gateway.core.pool) == 1
    await deferToThread(lambda: None)
    clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(3)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    give_back = no_descriptors()
    answers = [deferToThread(answer_to, client) for client in clients]
    first = await answers[0]
    assert first.startswith(b"HTTP/1.1 503 ")
    assert b"Tortxd-Error: overloaded" in first
    assert len(gateway.core.pool) == 0
    assert gateway.core.health.name == "degraded"
    for answer in answers[1:]:
        assert (await answer).startswith(b"HTTP/1.1 ")
    for client in clients:
        client.close()
    give_back()
    assert (await gateway.fetch("/bytes/3")).status == 200
