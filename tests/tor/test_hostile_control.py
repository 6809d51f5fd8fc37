"""A control port that talks rubbish ends its connection with a sentence, and nothing else."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from tests.tor.daemons import when_status
from tests.tor.hostile_control import (
    AUTHENTICATED,
    LAST,
    TRICKS,
    HostileControl,
    Trick,
    greeting_socks,
    offering,
)
from tortxd.errors import SetupError, TorTimeout
from tortxd.tor import consensus
from tortxd.tor.control import PATIENCE, Control, _ControlProtocol
from tortxd.tor.status import BackingOff, Bootstrapping, Degraded, Failed, Ready, Status, sentence
from tortxd.tor.supervisor import AttachSettings, TorSupervisor
from tortxd.tor.table import MOST_OPEN_CIRCUITS, MOST_OPEN_STREAMS
from tortxd.wire import control

reactor: Any = installed


@pytest.fixture
def faults() -> Iterator[EventLoggingObserver]:
    """What was logged with a traceback."""
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)
    assert not [event for event in observer if event.get("log_failure")]


class Attaching:
    """Attaches daemons to hostile ports."""

    def __init__(self) -> None:
        self.ends: list[Callable[[], Deferred[Any]]] = []

    def __call__(
        self, port: HostileControl, *, password: str | None = None
    ) -> tuple[TorSupervisor, Deferred[Status]]:
        """A daemon, and its first status that is an outcome."""
        listener = reactor.listenTCP(0, port, interface="127.0.0.1")
        control = f"tcp:127.0.0.1:{listener.getHost().port}"
        daemon = TorSupervisor(reactor, AttachSettings(control, password))
        self.ends += [daemon.stop, listener.stopListening]
        over: Deferred[Status] = Deferred()

        def look(status: Status) -> None:
            if isinstance(status, Failed | BackingOff | Degraded) and not over.called:
                over.callback(status)

        def forget() -> Deferred[Status]:
            over.cancel()
            return over.addErrback(lambda failure: failure.trap(CancelledError))

        over.addTimeout(60, reactor)
        self.ends.append(forget)
        daemon.on_status(look)
        daemon.start()
        return daemon, over

    def greeting_socks(self) -> int:
        """A SOCKS port that lives."""
        listener = reactor.listenTCP(0, greeting_socks(), interface="127.0.0.1")
        self.ends.append(listener.stopListening)
        number: int = listener.getHost().port
        return number


@pytest_twisted.async_yield_fixture
async def attach() -> AsyncIterator[Attaching]:
    attaching = Attaching()
    yield attaching
    for end in attaching.ends:
        await maybeDeferred(end)


@pytest.mark.parametrize("name", [name for name, trick in TRICKS.items() if trick.says])
@ensureDeferred
async def test_rubbish_ends_the_connection_with_a_sentence(
    attach: Attaching,
    faults: EventLoggingObserver,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # To read as many as there may be takes longer here, at worst, than a Tor has to answer.
    monkeypatch.setattr(consensus, "MOST_NODES", 10_000)
    monkeypatch.setattr(control, "MOST_KEPT", 2 * 1024 * 1024)
    trick = TRICKS[name]
    daemon, over = attach(HostileControl(trick, socks=attach.greeting_socks()))
    assert trick.says in sentence(await over)
    assert len(daemon.streams()) <= MOST_OPEN_STREAMS
    assert len(daemon.circuits()) <= MOST_OPEN_CIRCUITS


@pytest.mark.parametrize("name", [name for name, trick in TRICKS.items() if not trick.says])
@ensureDeferred
async def test_what_is_absurd_is_passed_over(
    attach: Attaching, faults: EventLoggingObserver, name: str
) -> None:
    daemon, over = attach(HostileControl(TRICKS[name], socks=1))
    await daemon.when_ready()
    await daemon.control.ask("version")
    await daemon.control.ask("version")
    assert not over.called
    for circuit in daemon.circuits():
        assert len(circuit.id) <= 16
        for relay in circuit.path:
            assert (relay.address, relay.country) == (None, None)
    assert all(stream.source is None for stream in daemon.streams())


@ensureDeferred
async def test_words_of_a_port_cannot_write_lines_of_a_log(
    attach: Attaching, faults: EventLoggingObserver
) -> None:
    progress = rb'BOOTSTRAP PROGRESS=5 TAG=\nx SUMMARY="a\nb\033[2J%s"' % (b"x" * 9000)
    replies = {
        "GETINFO status/bootstrap-phase": b"250-status/bootstrap-phase=NOTICE %s\r\n250 OK\r\n"
        % progress
    }
    daemon, _ = attach(HostileControl(Trick("", replies), socks=1))
    status = await when_status(daemon, Bootstrapping)
    assert isinstance(status, Bootstrapping)
    assert sentence(status).isprintable()
    assert len(sentence(status)) < 400


@ensureDeferred
async def test_a_network_larger_than_the_public_one_is_read(
    attach: Attaching, faults: EventLoggingObserver
) -> None:
    """Nor are its microdescriptors too many; a line of 20,000 bytes names a large family."""
    relays = "".join(
        f"r a {b64encode(n.to_bytes(20, 'big')).decode()[:27]} D "
        "2026-11-22 15:00:00 192.0.2.1 9 0\r\n"
        "s Exit Fast Guard Running Stable V2Dir Valid\r\n"
        "w Bandwidth=1000\r\n"
        for n in range(20_000)
    )
    descriptor = (
        "onion-key\r\n-----BEGIN RSA PUBLIC KEY-----\r\n"
        + f"{'x' * 64}\r\n" * 3
        + f"-----END RSA PUBLIC KEY-----\r\nntor-onion-key {'x' * 43}\r\nid ed25519 {'x' * 43}\r\n"
    )
    family = "family " + " ".join(["$" + "A" * 40] * 480) + "\r\np6 accept 80,443\r\n"
    replies = {
        "GETINFO ns/all": f"250+ns/all=\r\n{relays}.\r\n250 OK\r\n".encode(),
        "GETINFO md/all": f"250+md/all=\r\n{descriptor * 20_000}{family}.\r\n250 OK\r\n".encode(),
    }
    daemon, over = attach(HostileControl(Trick("", replies), socks=1))
    await daemon.when_ready()
    assert await daemon.exits_carry("2001:db8::1", 443) is True
    assert await daemon.exits_carry("2001:db8::1", 22) is False
    assert not over.called


@ensureDeferred
async def test_a_path_in_its_log_is_not_looked_at(
    attach: Attaching, faults: EventLoggingObserver
) -> None:
    line = f'650 WARN Managed proxy "{__file__}" having PID 1 has exited.\r\n'.encode()
    _, over = attach(HostileControl(Trick("", unasked=lambda: iter((line,)), after=LAST), socks=1))
    assert "is missing, or ends by itself." in sentence(await over)


# --- what takes all of a slow machine -----------------------------------------------------------


def test_events_may_take_so_much_of_the_processors_time(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0.0

    def spend() -> float:
        nonlocal spent
        spent += 0.2  # with each look, before and after
        return spent

    clock = Clock()
    port = _ControlProtocol(clock, "127.0.0.1:9051", None)
    port.makeConnection(StringTransport())
    port.post_bootstrap.addErrback(lambda _: None)
    for reply in AUTHENTICATED:
        port.dataReceived(reply)
    monkeypatch.setattr("tortxd.tor.control.thread_time", spend)
    for _ in range(20):
        port.dataReceived(b"650 CIRC 1 LAUNCHED\r\n")
    assert port.fault is None
    clock.advance(60.0)
    for _ in range(40):
        port.dataReceived(b"650 CIRC 1 LAUNCHED\r\n")
    assert port.fault == (
        "Tor's control port is not believed: it sent events faster than they can be read."
    )


# --- slow ones ----------------------------------------------------------------------------------


class Dripping:
    """A connection to a control port in memory, what is said on it, and a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lost: list[str] = []
        self.connecting = Deferred.fromCoroutine(
            Control.connect(self.clock, cast(Any, self), cast(Any, self), name="here")
        )

    def connect(self, factory: Any) -> Deferred[Any]:
        self.port = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.port.makeConnection(self.transport)
        return succeed(self.port)

    def control_lost(self, reason: str) -> None:
        self.lost.append(reason)

    def say(self, *replies: bytes) -> None:
        for reply in replies:
            self.port.dataReceived(reply)

    def drip(self, begin: bytes, over: Deferred[Any]) -> float:
        """One byte each second, as long as they are waited for; for how many seconds that was."""
        self.say(begin)
        began = self.clock.seconds()
        while not over.called:
            self.say(b"x")
            self.clock.advance(1.0)
        return self.clock.seconds() - began


def raised(over: Deferred[Any]) -> str:
    """What has become of it."""
    failure = over.result
    over.addErrback(lambda _: None)
    assert isinstance(failure, Failure)
    assert isinstance(failure.value, TorTimeout)
    return failure.getErrorMessage()


def test_a_beginning_that_drips_is_not_waited_for() -> None:
    dripping = Dripping()
    assert dripping.drip(b"250-PROTOCOLINFO ", dripping.connecting) == PATIENCE
    assert raised(dripping.connecting) == "What listens at here does not answer as Tor does."
    assert dripping.transport.disconnected


@pytest.mark.parametrize("begin", [b"250-version=", b"250+version=\r\nx\r\n", b"2"])
def test_a_reply_that_drips_is_not_waited_for(begin: bytes) -> None:
    """Its time counts from the command on, however often a byte of it comes; so does that of the
    command behind it."""
    dripping = Dripping()
    dripping.say(*AUTHENTICATED)
    control = dripping.connecting.result
    assert isinstance(control, Control)
    asked = Deferred.fromCoroutine(control.ask("version"))
    next_one = Deferred.fromCoroutine(control.ask("version"))
    passed_on = Deferred.fromCoroutine(control.ask_for_lines("ns/all", lambda line: None))
    assert dripping.drip(begin, asked) == PATIENCE
    for over in (asked, next_one, passed_on):
        assert raised(over) == "Tor does not answer on its control port."
    assert not dripping.clock.getDelayedCalls()
    control.close()
    assert not dripping.lost


# --- where it wants to be connected to -----------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ('"localhost:9050"', "no SOCKS port open"),
        ('"224.0.0.1:9050"', "224.0.0.1:9050, which is not a loopback address"),
        ('"[ff02::1]:9050" "localhost:1"', "[ff02::1]:9050, which is not a loopback address"),
        ('"[::ffff:224.0.0.1]:9050"', "224.0.0.1:9050, which is not a loopback address"),
        ('"127.0.0.1:0"', "no SOCKS port open"),
        ('"unix:relative" "unix:/a\\001b"', "no SOCKS port open"),
        ('"unix:/' + "x" * 200 + '"', "no SOCKS port open"),
        ("\\", "no SOCKS port open"),
        ('"\\' * 100_000, "no SOCKS port open"),
    ],
)
@ensureDeferred
async def test_only_loopback_is_believed(
    attach: Attaching, faults: EventLoggingObserver, named: str, says: str
) -> None:
    reply = f"250-net/listeners/socks={named}\r\n250 OK\r\n".encode()
    port = HostileControl(Trick(says, {"GETINFO net/listeners/socks": reply}))
    daemon, over = attach(port)
    status = await over
    assert isinstance(status, Failed)
    assert says in status.reason
    assert "`socks`" in status.reason
    assert daemon.socks_address is None


@ensureDeferred
async def test_a_far_control_port_needs_a_socks_address() -> None:
    daemon = TorSupervisor(reactor, AttachSettings("tcp:control.example:9051"))
    with pytest.raises(SetupError, match=r"another machine's, control\.example:9051.*`socks`"):
        daemon.prepare()


# --- cookies -------------------------------------------------------------------------------------


def cookie_named(path: Path | str, methods: str = "COOKIE,SAFECOOKIE") -> dict[str, bytes]:
    return offering(f'{methods} COOKIEFILE="{path}"')


@ensureDeferred
async def test_a_cookie_is_not_handed_to_who_does_not_know_it(
    attach: Attaching, faults: EventLoggingObserver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(sha256(b"secret").digest())
    secret.chmod(0o600)
    plain = HostileControl(Trick("", cookie_named(secret, "COOKIE")))
    assert "SAFECOOKIE" in sentence(await attach(plain)[1])
    for answer, says in (
        (b"250 AUTHCHALLENGE SERVERHASH=%s SERVERNONCE=%s\r\n" % (b"AB" * 32, b"CD" * 32), "know"),
        (b"250 AUTHCHALLENGE SERVERHASH=\xe9 SERVERNONCE=CD\r\n", "no challenge"),
        (b"250 OK\r\n", "no challenge"),
        (b"513 No\r\n", "refuses the authentication"),
    ):
        replies = {**cookie_named(secret), "AUTHCHALLENGE": answer}
        port = HostileControl(Trick("", replies))
        assert says in sentence(await attach(port)[1])
        assert not [command for command in port.heard if command.startswith("AUTHENTICATE")]
    assert not [command for command in plain.heard if command.startswith("AUTH")]


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _huge(path: Path) -> None:
    path.touch(0o600)  # whatever the umask: Debian's newer one lets the group write
    os.truncate(path, 1 << 40)


def _of(size: int, mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(bytes(size))
        path.chmod(mode)

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_pipe, "it is a pipe"),
        (_socket, "it is a socket"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: None, "No such file"),
        (_huge, "too large"),
        (_of(31, 0o600), "has 32 bytes"),
        (_of(33, 0o600), "too large"),
        (_of(32, 0o602), "written by others"),
        (_of(32, 0o620), "written by others"),
    ],
)
@ensureDeferred
async def test_a_cookie_file_is_a_file(
    attach: Attaching,
    faults: EventLoggingObserver,
    tmp_path: Path,
    make: Callable[[Path], object],
    says: str,
) -> None:
    """Whatever is there, nothing waits for it."""
    path = tmp_path / "cookie"
    make(path)
    port = HostileControl(Trick("", cookie_named(path)))
    status = await attach(port)[1]
    assert isinstance(status, Failed)
    assert says in status.reason, status.reason
    assert not [command for command in port.heard if command.startswith("AUTH")]


@pytest.mark.parametrize("offer", ['COOKIE,SAFECOOKIE COOKIEFILE="', "SAFECOOKIE", ",,,=", '"\\'])
@ensureDeferred
async def test_an_offer_that_offers_nothing(
    attach: Attaching, faults: EventLoggingObserver, offer: str
) -> None:
    status = await attach(HostileControl(Trick("", offering(offer))))[1]
    assert "`control_password_file`" in sentence(status)


@ensureDeferred
async def test_a_password_comes_before_a_cookie(
    attach: Attaching, faults: EventLoggingObserver, tmp_path: Path
) -> None:
    path = tmp_path / "cookie"
    _of(32, 0o600)(path)
    port = HostileControl(
        Trick("", cookie_named(path, "COOKIE,SAFECOOKIE,HASHEDPASSWORD")), socks=1
    )
    daemon, _ = attach(port, password="sesame")
    assert await when_status(daemon, Ready) == Ready()
    assert port.heard[1] == "AUTHENTICATE " + b"sesame".hex()
