"""A control port that talks rubbish, on loopback: each connection gets one :class:`Trick`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice, repeat
from typing import Any, cast

from attrs import field, frozen
from twisted.internet.interfaces import IAddress, IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from tortxd.wire.socks5 import METHOD_ACCEPTED

FINGERPRINT = "A" * 40
PATH = f"${FINGERPRINT}~a"
LOGIN = "x" * 1000
LONG = "x" * 8000
WORDS = ("ab " * 80_000 + "\r\n") * 10
LAST = "GETINFO address-mappings/control"
"""The last command of a beginning."""


AUTHENTICATED = (
    b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK\r\n",
    b"250 OK\r\n",
    b"250-signal/names=NEWNYM\r\n250 OK\r\n",
    b"250-version=0.4.9.11\r\n250 OK\r\n",
    b"250-events/names=CIRC CIRC_MINOR STREAM STATUS_CLIENT NETWORK_LIVENESS SIGNAL WARN\r\n"
    b"250 OK\r\n",
    b"250 OK\r\n",
)
"""The replies with which a connection begins."""


def _nothing() -> Iterator[bytes]:
    return iter(())


@frozen
class Trick:
    """How a port differs from a Tor that is ready."""

    says: str
    """What a sentence says of it; empty where all goes on."""
    replies: Mapping[str, bytes] = field(factory=dict)
    """Replies to commands that begin so."""
    unasked: Callable[[], Iterator[bytes]] = _nothing
    """What comes after the reply to :attr:`after`, endlessly or not."""
    after: str = "GETINFO status/bootstrap-phase"

    @property
    def speaks_unasked(self) -> bool:
        """Whether more comes than replies."""
        return self.unasked is not _nothing


def _data(key: str, lines: str = "") -> bytes:
    return f"250+{key}=\r\n{lines}.\r\n250 OK\r\n".encode()


_VALUES = {
    "version": "0.4.9.11",
    "signal/names": "RELOAD NEWNYM",
    "events/names": "CIRC CIRC_MINOR STREAM STATUS_CLIENT STATUS_GENERAL NETWORK_LIVENESS SIGNAL "
    "NOTICE WARN",
    "status/bootstrap-phase": 'NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"',
    "status/circuit-established": "1",
    "network-liveness": "up",
}
_PROTOCOLINFO = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=%s\r\n250-VERSION Tor="0.4.9.11"\r\n'


def offering(methods: str) -> dict[str, bytes]:
    """The reply to PROTOCOLINFO, with these methods."""
    return {"PROTOCOLINFO": _PROTOCOLINFO % methods.encode() + b"250 OK\r\n"}


def _event(text: str) -> Callable[[], Iterator[bytes]]:
    return lambda: iter((f"650 {text}\r\n".encode(),))


def _events(text: str, *, at_once: int = 500) -> Callable[[], Iterator[bytes]]:
    """Events without end, with a number of its own in each."""

    def make() -> Iterator[bytes]:
        for first in count(1, at_once):
            yield "".join(
                f"650 {text.format(n)}\r\n" for n in range(first, first + at_once)
            ).encode()

    return make


def _reply(begin: bytes, more: bytes) -> Callable[[], Iterator[bytes]]:
    def make() -> Iterator[bytes]:
        yield begin
        yield from repeat(more)

    return make


_LOOKED_UP = {
    f"GETINFO ns/id/{FINGERPRINT}": _data(
        f"ns/id/{FINGERPRINT}", "r a b c d e 192.0.2.1\rX-Evil:1 9 0\r\n"
    ),
    "GETINFO ip-to-country": b"250-ip-to-country/192.0.2.1=d\xc3\xab\r\n250 OK\r\n",
}
NO_REPLY = "a line that is not a reply"
ENDLESS_LINE = "a line that is too long"
ENDLESS_REPLY = "a reply that is too long"
TOO_FAST = "events faster"
"""Of long ones, few are too fast, also for a busy machine to take."""
EITHER = "is not believed: it sent"
"""Too much or too fast: what is noticed first depends on the machine."""

TRICKS = {
    # --- replies ---
    "another protocol": Trick("does not speak", {"PROTOCOLINFO": b"\xe9\xff\xfe\r\n"}),
    "endless PROTOCOLINFO": Trick(
        ENDLESS_REPLY,
        {"PROTOCOLINFO": b""},
        _reply(b"250-PROTOCOLINFO 1\r\n", b"250-AUTH METHODS=NULL\r\n" * 10_000),
        "PROTOCOLINFO",
    ),
    "551 to everything": Trick("refuses to say", {"GETINFO": b"551 No\r\n"}),
    "551 behind the beginning": Trick("refused a command", {"GETCONF": b"551 No\r\n"}),
    "451 to events": Trick("refused a command", {"SETEVENTS": b"451 No\r\n"}),
    "bytes of no encoding": Trick(NO_REPLY, unasked=lambda: iter((b"\xff\xfe\xe9\r\n",))),
    "a reply with bytes of no encoding": Trick("", {"GETCONF": b"250 \xff\xfe=\xe9\x85\r\n"}),
    "endless words": Trick("", {"GETINFO signal/names": _data("signal/names", WORDS)}),
    "NUL": Trick("do not belong", unasked=lambda: iter((b"650 CIRC \0\r\n",))),
    "LF alone": Trick("do not belong", unasked=lambda: iter((b"650 CIRC 1\n650 X\r\n",))),
    "CR without LF": Trick(
        ENDLESS_LINE, unasked=_reply(b"650 CIRC ", b"1 LAUNCHED\r" * 1000), after=LAST
    ),
    "an endless line": Trick(ENDLESS_LINE, unasked=_reply(b"650 ", b"x" * 100_000), after=LAST),
    "an endless reply": Trick(
        ENDLESS_REPLY,
        {"GETINFO status/bootstrap-phase": b""},
        _reply(b"250+circuit-status=\r\n", b"1 LAUNCHED\r\n" * 10_000),
    ),
    "endless lines of one byte": Trick(
        ENDLESS_REPLY,
        {"GETINFO status/bootstrap-phase": b""},
        _reply(b"250+circuit-status=\r\n", b"1\r\n" * 40_000),
    ),
    "endless relays": Trick(
        "more relays than",
        {"GETINFO ns/all": b""},
        _reply(
            b"250+ns/all=\r\n",
            b"r a qqqqqqqqqqqqqqqqqqqqqqqqqqo D 2026-11-22 15:00:00 192.0.2.1 9 0\r\ns Exit\r\n"
            * 5000,
        ),
        "GETINFO ns/all",
    ),
    "a reply to no command": Trick("a reply to no command", unasked=lambda: iter((b"250 OK\r\n",))),
    "an event amid a reply": Trick(
        "an event mixed with a reply",
        {"GETCONF": b"250-SocksPort=auto\r\n650 CIRC 1 LAUNCHED\r\n250 OK\r\n"},
    ),
    "a reply amid an event": Trick(
        "an event mixed with a reply",
        {"GETCONF": b"650-CIRC 1 LAUNCHED\r\n250 OK\r\n"},
    ),
    "an event amid data": Trick("", {"GETINFO ns/all": _data("ns/all", "650 CIRC 1 BUILT\r\n")}),
    "a code of no kind": Trick(NO_REPLY, {"GETCONF": b"999 SocksPort\r\n"}),
    "answers to other questions": Trick(
        "", {"GETINFO ns/all": b"250-a=b\r\n250-\r\n250-=\r\n250 OK\r\n"}
    ),
    # --- events ---
    "endless streams": Trick(
        "more open streams", unasked=_events("STREAM {} NEW 0 a.example:80 PURPOSE=USER")
    ),
    "endless circuits": Trick("more open circuits", unasked=_events("CIRC {} LAUNCHED")),
    "endless long names": Trick(
        "more circuits and streams",
        unasked=_events(f'STREAM {{}} NEW 0 a.example:80 SOCKS_USERNAME="{LOGIN}"', at_once=50),
    ),
    "streams with long sources": Trick(
        EITHER,
        unasked=_events(f"STREAM {{0}} NEW 0 a.example:80 SOURCE_ADDR={LONG}{{0}}:1", at_once=50),
    ),
    "events without end": Trick(
        TOO_FAST,
        unasked=_events(
            f"STREAM {{0}} NEW 0 a.example:80 X={LONG}\r\n"
            "650 STREAM {0} CLOSED 0 a.example:80 REASON=DONE",
            at_once=50,
        ),
    ),
    "status without end": Trick(
        "status events", unasked=_events("STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=1 SUMMARY={}")
    ),
    "log without end": Trick(TOO_FAST, unasked=_events(f"WARN We are {{}}{LONG}", at_once=50)),
    "a burst of the log": Trick("", unasked=lambda: islice(_events("NOTICE {}")(), 10)),
    "a path without end": Trick(
        ENDLESS_LINE, unasked=_event("CIRC 1 BUILT " + ",".join([PATH] * 100_000))
    ),
    "a long path": Trick(
        "event that is too long", unasked=_event("CIRC 1 BUILT " + ",".join([PATH] * 1000))
    ),
    "a longer path than Tor builds": Trick(
        "", unasked=_event("CIRC 1 BUILT " + ",".join([PATH] * 100))
    ),
    "a long id": Trick("", unasked=_event("CIRC " + "9" * 7000 + " BUILT")),
    "long numbers": Trick(
        "", unasked=_event("STREAM 1 NEW 0 a:80 SOURCE_ADDR=127.0.0.1:" + "9" * 7000)
    ),
    "events without fields": Trick(
        "", unasked=lambda: iter((b"650 CIRC\r\n650 STREAM 1\r\n650 \r\n650 CIRC 1 BUILT\r\n",))
    ),
    "a status of one word": Trick("", unasked=_event("STATUS_CLIENT NOTICE " + "a" * 250_000)),
    "an absurd progress": Trick(
        "", unasked=_event('STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=-1e9 SUMMARY="\\n\\033[2J"')
    ),
    "headers in an address": Trick("", _LOOKED_UP, _event(f"CIRC 7 BUILT {PATH} PURPOSE=GENERAL")),
}


@implementer(IPullProducer)
class _Flood:
    """Sends what there is to send as fast as it is taken."""

    def __init__(self, transport: Any, pieces: Iterator[bytes]) -> None:
        self._transport = transport
        self._pieces = pieces

    def resumeProducing(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self._transport.unregisterProducer()
        else:
            self._transport.write(piece)

    def stopProducing(self) -> None:
        """The connection is gone."""


class _Port(LineOnlyReceiver):
    transport: Any
    MAX_LENGTH = 65536

    def __init__(self, world: HostileControl, trick: Trick) -> None:
        self._world = world
        self._trick = trick

    def lineReceived(self, line: bytes) -> None:
        command = line.decode("ascii")
        self._world.heard.append(command)
        for begin, reply in self._trick.replies.items():
            if command.startswith(begin):
                self.transport.write(reply)
                break
        else:
            self.transport.write(self._usual(command))
        if command.startswith(self._trick.after):
            self.transport.registerProducer(_Flood(self.transport, self._trick.unasked()), False)

    def _usual(self, command: str) -> bytes:
        verb, *words = command.split()
        if verb == "PROTOCOLINFO":
            return offering("NULL")["PROTOCOLINFO"]
        if verb == "GETCONF":
            return f"250 {words[0]}\r\n".encode()
        if verb != "GETINFO":
            return b"250 OK\r\n"
        if words in (["ns/all"], ["md/all"]):
            return _data(words[0])
        socks = f'"127.0.0.1:{self._world.socks}"' if self._world.socks else ""
        values = {**_VALUES, "net/listeners/socks": socks}
        return b"".join(f"250-{key}={values.get(key, '')}\r\n".encode() for key in words) + (
            b"250 OK\r\n"
        )


class _Greeted(Protocol):
    def dataReceived(self, data: bytes) -> None:
        cast(Any, self.transport).write(METHOD_ACCEPTED)


def greeting_socks() -> Factory:
    """A SOCKS port that lives: it answers greetings, and nothing else."""
    factory: Factory = Factory()
    factory.protocol = _Greeted
    factory.noisy = False
    return factory


class HostileControl(Factory):
    """A port each of whose connections gets the next trick, and the last one again and again.

    :param tricks: these.
    :param socks: the port that it names for SOCKS; 0: none.
    """

    noisy = False

    def __init__(self, *tricks: Trick, socks: int = 0) -> None:
        self._tricks = tricks
        self.socks = socks
        self.connections = 0
        self.heard: list[str] = []
        """Every command that came."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        trick = self._tricks[min(self.connections, len(self._tricks) - 1)]
        self.connections += 1
        return _Port(self, trick)
