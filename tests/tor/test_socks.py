"""Streams through a SOCKS port: in memory, against a scripted server, and against a real Tor."""
# mypy: disable-error-code="untyped-decorator, no-untyped-call"

from __future__ import annotations

import shutil
from errno import EMFILE, ENFILE
from pathlib import Path
from typing import Any, cast

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.error import ConnectBindError, ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure

from tests.socks_server import OPEN, SocksServer
from tortxd.addresses import SocksAddress
from tortxd.errors import (
    BadUrl,
    ConnectRefused,
    Overloaded,
    TorDown,
    TorNotReady,
    TorTimeout,
    TortxdError,
)
from tortxd.tor.isolation import Credentials
from tortxd.tor.socks import TorEndpoint, open_stream
from tortxd.wire.socks5 import request

ALICE = Credentials(b"alice", b"1")
REQUEST = request("example.com", 80, b"alice", b"1")
AUTH = b"\x01\x00"


class Application(Protocol):
    """Writes at once, and keeps what it is told."""

    def __init__(self, first: bytes = b"") -> None:
        self.first = first
        self.events: list[str] = []
        self.data = b""
        self.lost: Deferred[Exception] = Deferred()

    def connectionMade(self) -> None:
        self.events.append("made")
        if self.first:
            assert self.transport is not None
            self.transport.write(self.first)

    def dataReceived(self, data: bytes) -> None:
        self.events.append("data")
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.lost.callback(cast(Exception, reason.value))


class Opened:
    """One stream being opened in memory."""

    def __init__(self, *, early: bool = False, address: SocksAddress | None = None) -> None:
        self.clock = MemoryReactorClock()
        self.application = Application(b"GET / HTTP/1.1\r\n\r\n" if early else b"")
        self.sources: list[object] = []
        self.result: list[Any] = []
        self.opened = open_stream(
            cast(Any, self.clock),
            address or SocksAddress(),
            "example.com",
            80,
            ALICE,
            self.application,
            early=early,
            timeout=30,
            reached=self.sources.append,
        )
        self.opened.addBoth(self.result.append)

    def reach(self) -> Any:
        """Let Tor's port take the connection."""
        factory: Any
        host, port, factory, _, _ = self.clock.tcpClients[0]
        assert (host, port) == ("127.0.0.1", 9050)
        protocol = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    @property
    def error(self) -> BaseException:
        (failure,) = self.result
        return cast(BaseException, failure.value)

    def nothing_is_left(self) -> bool:
        return not self.clock.getDelayedCalls()


class Transport(StringTransportWithDisconnection):
    """Delivers to whatever protocol it has now, as the reactor's transports do."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


def test_everything_is_sent_in_one_go_and_the_transport_is_handed_over() -> None:
    stream = Opened()
    transport = stream.reach()
    assert transport.value() == REQUEST
    assert not stream.application.events
    transport.protocol.dataReceived(AUTH + OPEN)
    assert stream.result == [stream.application]
    assert transport.protocol is stream.application
    assert stream.application.transport is transport
    assert stream.application.events == ["made"]
    assert stream.nothing_is_left()


def test_what_comes_with_the_reply_is_delivered_at_once() -> None:
    stream = Opened()
    stream.reach().protocol.dataReceived(AUTH + OPEN + b"220 ready\r\n")
    assert stream.application.events == ["made", "data"]
    assert stream.application.data == b"220 ready\r\n"


def test_early_data_goes_right_behind_the_request() -> None:
    stream = Opened(early=True)
    transport = stream.reach()
    assert transport.value() == REQUEST + b"GET / HTTP/1.1\r\n\r\n"
    assert not stream.result
    transport.protocol.dataReceived(AUTH + OPEN + b"HTTP/1.1 200 OK\r\n")
    assert stream.result == [stream.application]
    assert stream.application.events == ["made", "data"]


def test_the_source_is_known_as_soon_as_the_port_is_reached() -> None:
    stream = Opened(early=True)
    transport = stream.reach()
    assert stream.sources == [("10.0.0.1", 12345)]
    assert transport.source == ("10.0.0.1", 12345)


@pytest.mark.parametrize("early", [False, True])
def test_a_refusal_closes_the_connection_and_is_told(early: bool) -> None:
    stream = Opened(early=early)
    transport = stream.reach()
    transport.protocol.dataReceived(AUTH + b"\x05\x05\x00\x01" + bytes(6))
    assert isinstance(stream.error, ConnectRefused)
    assert transport.aborted
    assert stream.application.events == (["made", "lost"] if early else [])
    if early:
        lost: list[Exception] = []
        stream.application.lost.addCallback(lost.append)
        assert lost == [stream.error]
    assert stream.nothing_is_left()


@pytest.mark.parametrize("early", [False, True])
def test_hanging_up_without_an_answer_is_tor_down(early: bool) -> None:
    stream = Opened(early=early)
    stream.reach().loseConnection()
    assert isinstance(stream.error, TorDown)
    assert stream.application.events == (["made", "lost"] if early else [])
    assert stream.nothing_is_left()


def test_a_refused_connection_is_tor_down() -> None:
    stream = Opened()
    factory: Any = stream.clock.tcpClients[0][2]
    factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    assert isinstance(stream.error, TorDown)
    assert stream.nothing_is_left()


@pytest.mark.parametrize("number", [EMFILE, ENFILE])
def test_without_a_descriptor_for_it_we_are_overloaded(number: int) -> None:
    """Rule 25."""
    stream = Opened()
    factory: Any = stream.clock.tcpClients[0][2]
    factory.clientConnectionFailed(None, Failure(ConnectBindError(number)))
    assert isinstance(stream.error, Overloaded)
    assert stream.nothing_is_left()


def test_no_answer_is_tor_timeout() -> None:
    stream = Opened()
    transport = stream.reach()
    stream.clock.advance(29.9)
    assert stream.result == []
    stream.clock.advance(0.1)
    assert isinstance(stream.error, TorTimeout)
    assert transport.aborted


def test_tor_that_does_not_take_the_connection_is_tor_timeout() -> None:
    stream = Opened()
    stream.clock.advance(30)
    assert isinstance(stream.error, TorTimeout)
    assert stream.clock.connectors[0].stoppedConnecting


@pytest.mark.parametrize("early", [False, True])
def test_cancelling_aborts_at_once(early: bool) -> None:
    stream = Opened(early=early)
    transport = stream.reach()
    stream.opened.cancel()
    assert transport.aborted
    assert isinstance(stream.error, CancelledError)
    assert stream.application.events == (["made", "lost"] if early else [])
    assert stream.nothing_is_left()


def test_cancelling_before_the_port_is_reached() -> None:
    stream = Opened()
    stream.opened.cancel()
    assert isinstance(stream.error, CancelledError)
    assert stream.nothing_is_left()


def test_after_the_handover_nothing_of_the_handshake_is_in_the_way() -> None:
    stream = Opened()
    transport = stream.reach()
    transport.protocol.dataReceived(AUTH + OPEN)
    stream.clock.advance(3600)
    assert transport.connected
    transport.loseConnection()
    assert stream.application.events == ["made", "lost"]


def test_what_socks_cannot_carry_is_refused_before_anything_is_connected() -> None:
    clock = MemoryReactorClock()
    with pytest.raises(BadUrl):
        open_stream(cast(Any, clock), SocksAddress(), "a b", 80, ALICE, Application())
    assert clock.tcpClients == []
    assert clock.getDelayedCalls() == []


def endpoint(reactor: Any, **changes: Any) -> TorEndpoint:
    values: dict[str, Any] = {"address": SocksAddress(), "host": "example.com", "port": 80}
    return TorEndpoint(reactor, credentials=ALICE, **{**values, **changes})


def test_endpoint_waits_for_the_port_to_be_known() -> None:
    clock = MemoryReactorClock()
    located: Deferred[SocksAddress] = Deferred()
    result = endpoint(clock, address=lambda: located).connect(Factory.forProtocol(Application))
    assert clock.tcpClients == []
    located.callback(SocksAddress(port=9999))
    assert [client[:2] for client in clock.tcpClients] == [("127.0.0.1", 9999)]
    result.cancel()
    failures: list[Failure] = []
    result.addErrback(failures.append)
    assert isinstance(failures[0].value, CancelledError)


def test_endpoint_waits_for_the_port_no_longer_than_its_timeout() -> None:
    clock = MemoryReactorClock()
    result = endpoint(clock, address=Deferred, timeout=5).connect(Factory())
    failures: list[Failure] = []
    result.addErrback(failures.append)
    clock.advance(5)
    assert isinstance(failures[0].value, TorNotReady)


def test_early_endpoint_fires_when_its_protocol_may_write() -> None:
    clock = MemoryReactorClock()
    result: list[Any] = []

    def connected(protocol: Any) -> None:
        result.append(protocol)
        protocol.transport.write(b"early")

    endpoint(clock, early=True).connect(Factory.forProtocol(Application)).addCallback(connected)
    transport = StringTransportWithDisconnection()
    leg: Any = clock.tcpClients[0][2].buildProtocol(None)
    transport.protocol = leg
    leg.makeConnection(transport)
    assert transport.value() == REQUEST + b"early"
    leg.dataReceived(AUTH + b"\x05\x05\x00\x01" + bytes(6))
    assert result[0].events == ["made", "lost"]


def test_nothing_of_the_destination_shows_in_an_endpoint() -> None:
    assert "canary" not in repr(endpoint(None, host="canary.example", address=SocksAddress()))


class Counting(Factory):
    """Counts how often it was started and stopped."""

    noisy = False

    def __init__(self) -> None:
        self.started = self.stopped = 0
        self.over: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Application:
        return Application(b"hello")

    def startFactory(self) -> None:
        self.started += 1

    def stopFactory(self) -> None:
        self.stopped += 1
        self.over.callback(None)


async def listening(reactor: Any, server: Factory) -> tuple[Any, SocksAddress]:
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server)
    return port, SocksAddress("127.0.0.1", port.getHost().port)


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@ensureDeferred
async def test_over_tcp(reactor: Any) -> None:
    server = SocksServer(held=True, behind=b"welcome")
    port, address = await listening(reactor, server)
    factory = Counting()
    connecting = endpoint(reactor, address=address).connect(factory)
    served = await server.asked()
    assert (served.username, served.password) == (b"alice", b"1")
    assert served.target == ("example.com", 80)
    served.answer()
    application = cast(Application, await connecting)
    transport: Any = application.transport
    assert transport.getTcpNoDelay()
    assert transport.source == (served.transport.getPeer().host, served.transport.getPeer().port)
    served.transport.loseConnection()
    assert isinstance(await application.lost, ConnectionDone)
    assert application.data == b"welcome"
    await factory.over
    assert (factory.started, factory.stopped) == (1, 1)
    await served.lost
    await port.stopListening()


@ensureDeferred
async def test_over_a_unix_socket(reactor: Any, tmp_path: Path) -> None:
    server = SocksServer()
    path = tmp_path / "socks"
    port = await cast(Any, UNIXServerEndpoint(reactor, str(path)).listen(server))
    application = Application(b"hello")
    await open_stream(
        reactor, SocksAddress(path=str(path)), "::1", 80, ALICE, application, early=True
    )
    assert cast(Any, application.transport).source is None
    assert server.served[0].target == ("::1", 80)
    assert server.served[0].received == b"hello"
    cast(Any, application.transport).abortConnection()
    await server.served[0].lost
    await application.lost
    await port.stopListening()


@ensureDeferred
async def test_cancelling_leaves_no_connection(reactor: Any) -> None:
    server = SocksServer(held=True)
    port, address = await listening(reactor, server)
    opening = open_stream(reactor, address, "example.com", 80, ALICE, Application())
    served = await server.asked()
    opening.cancel()
    with pytest.raises(CancelledError):
        await opening
    await served.lost
    await port.stopListening()


@ensureDeferred
async def test_refused_over_tcp(reactor: Any) -> None:
    port, address = await listening(reactor, SocksServer())
    await port.stopListening()
    with pytest.raises(TorDown):
        await open_stream(reactor, address, "example.com", 80, ALICE, Application())


class TorProcess(ProcessProtocol):
    """A Tor that can reach nothing but its own SOCKS port."""

    def __init__(self) -> None:
        self.listens: Deferred[int] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._log = b""

    def outReceived(self, data: bytes) -> None:
        self._log += data
        mark = b"Opened Socks listener connection (ready) on 127.0.0.1:"
        if not self.listens.called and mark in self._log:
            line = self._log.split(mark, 1)[1]
            if b"\n" in line:
                self.listens.callback(int(line.split(b"\n", 1)[0]))

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)
        if not self.listens.called:
            self.listens.errback(RuntimeError(self._log.decode("utf-8", "replace")))


@ensureDeferred
async def test_a_real_tor_takes_the_request_with_early_data_in_one_go(
    reactor: Any, tmp_path: Path
) -> None:
    """Tor needs no network to know that an onion address is invalid: its answer shows that it has
    read greeting, authentication and request in one go. An ordinary name it accepts and keeps."""
    tor = shutil.which("tor")
    assert tor is not None, "these tests need the tor executable"
    empty = tmp_path / "torrc"
    empty.touch()
    arguments = {
        "-f": empty,
        "--defaults-torrc": empty,
        "--TestingTorNetwork": "1",
        "--DirAuthority": f"none orport=9 v3ident={'A' * 40} 127.0.0.1:9 {'B' * 40}",
        "--DataDirectory": tmp_path / "data",
        "--SocksPort": "auto ExtendedErrors",
        "--Log": "notice stdout",
    }
    process = TorProcess()
    running = reactor.spawnProcess(
        process,
        tor,
        ["tor", *(str(word) for pair in arguments.items() for word in pair)],
        env={"HOME": str(tmp_path)},
    )
    try:
        address = SocksAddress("127.0.0.1", await process.listens)
        application = Application(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(BadUrl, match="onion address"):
            await open_stream(
                reactor, address, "a" * 56 + ".onion", 80, ALICE, application, early=True
            )
        assert application.events == ["made", "lost"]
        with pytest.raises(TortxdError) as refused:
            await open_stream(reactor, address, "ex_ample!.com", 80, ALICE, Application())
        assert refused.value.code == "connect_failed"
        with pytest.raises(TorTimeout):
            await open_stream(
                reactor, address, "example.com", 80, ALICE, Application(), timeout=0.5
            )
    finally:
        running.signalProcess("KILL")
        await process.ended
