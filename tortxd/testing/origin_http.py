"""Just enough HTTP/1.1 (RFC 9112) for an origin whose every byte a test can say and see."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, cast

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IConsumer, IPullProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tortxd.testing.sockets import Address

# A prime, so that no piece of a body equals the one that a lost or doubled buffer would put there.
_PERIOD = 65_521
_PATTERN = random.Random(0).randbytes(_PERIOD) * 2
_PIECE = 65_536
_KEPT_BODY = 65_536

Framing = Literal["length", "chunked", "close"]
Ending = Literal["keep", "close", "abort", "hang"]


def pattern(size: int, offset: int = 0) -> bytes:
    """The ``size`` bytes from ``offset`` on of the endless body that ``/bytes/N`` sends."""
    start = offset % _PERIOD
    if start + size <= len(_PATTERN):
        return _PATTERN[start : start + size]
    whole = _PATTERN[:_PERIOD] * ((start + size) // _PERIOD + 1)
    return whole[start : start + size]


@frozen
class Request:
    """The head of a request as it came, byte for byte."""

    connection: int
    """The number of the connection, from 1."""
    tls: bool
    peer: Address
    head: bytes
    """From the method to the empty line."""

    @property
    def method(self) -> bytes:
        """The first word of the request line."""
        return self.head.split(b" ", 1)[0]

    @property
    def target(self) -> bytes:
        """The second word of the request line."""
        return self.head.split(b" ", 2)[1]

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Names, as they were written, and values, in their order."""
        lines = self.head.split(b"\r\n")[1:-2]
        pairs = (line.partition(b":") for line in lines)
        return tuple((name, value.strip()) for name, _, value in pairs)

    def header(self, name: bytes) -> bytes | None:
        """The first value under a name, in whatever case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class Body:
    """A request's body: counted, hashed, and its first 64 KiB kept."""

    def __init__(self) -> None:
        self.length = 0
        self.start = b""
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """In hexadecimal digits."""
        return self._hash.hexdigest()

    def add(self, data: bytes) -> None:
        """Take a piece."""
        self.length += len(data)
        self._hash.update(data)
        self.start += data[: _KEPT_BODY - len(self.start)]


@frozen
class Reply:
    """What is answered.

    ``body`` is followed by ``size`` bytes of :func:`pattern`; a Content-Length, the chunks or the
    end of the connection tell their end. With ``cut``, only the first so many bytes of them are
    sent, and ``ending`` is what then happens.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    size: int = 0
    framing: Framing = "length"
    cut: int | None = None
    ending: Ending = "keep"


@frozen
class Canned:
    """Bytes to send as they are, and what then happens to the connection.

    Closed without a word of it in the bytes, it fails a client's next request, or not, by chance.
    """

    data: bytes
    ending: Ending


class _IWire(ITCPTransport, IConsumer):
    """What a TCP or TLS transport is."""


Answer = Callable[["Connection", Request, Body], Reply | Canned]
_BODILESS = (204, 304)


class Connection(Protocol):
    """One client of the origin."""

    def __init__(
        self,
        number: int,
        tls: bool,
        answer: Answer,
        on_change: Callable[[Request | None], object],
    ) -> None:
        self.number = number
        self.tls = tls
        self.open = False
        self.peer: Address = ("", 0)
        self.local: Address = ("", 0)
        self.received = 0
        """Bytes, after TLS."""
        self.sent = 0
        """Bytes of response bodies that were handed to the transport."""
        self._answer = answer
        self._on_change = on_change
        self._buffer = bytearray()
        self._request: Request | None = None
        self._body = Body()
        self._left: int | None = 0
        """Body bytes still to come; None while a chunk's size line is next."""
        self._trailers = False
        self._busy = False

    @property
    def wire(self) -> _IWire:
        """The transport, with all that TCP and TLS transports have."""
        return cast(_IWire, self.transport)

    def connectionMade(self) -> None:
        self.peer, self.local = _address(self.wire.getPeer()), _address(self.wire.getHost())
        self.open = True
        self._on_change(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        self._on_change(None)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        self._go_on()

    # --- requests ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        while not self._busy and self.open and self._step():
            pass

    def _step(self) -> bool:
        """Take the next piece out of the buffer; False when more bytes are needed."""
        if self._request is None:
            return self._take_head()
        if self._left is None:
            return self._take_chunk_line()
        if self._left:
            return self._take_body()
        self._reply(self._request)
        return True

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        request = Request(self.number, self.tls, self.peer, bytes(self._buffer[:end]))
        del self._buffer[:end]
        self._request, self._body, self._trailers = request, Body(), False
        coding = request.header(b"transfer-encoding")
        self._left = None if coding else int(request.header(b"content-length") or 0)
        self._on_change(request)
        if (request.header(b"expect") or b"").lower() == b"100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _take_chunk_line(self) -> bool:
        line, found, _ = bytes(self._buffer).partition(b"\r\n")
        if not found:
            return False
        del self._buffer[: len(line) + 2]
        if self._trailers:
            self._left = None if line else 0
        elif line:  # the empty line after a chunk is passed over
            size = int(line.split(b";")[0], 16)
            self._left, self._trailers = size or None, size == 0
        return True

    def _take_body(self) -> bool:
        assert self._request is not None
        assert self._left is not None
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        self._body.add(piece)
        self._left -= len(piece)
        if not self._left and self._request.header(b"transfer-encoding"):
            self._left = None
        return bool(piece)

    # --- replies -----------------------------------------------------------------------------

    def _reply(self, request: Request) -> None:
        self._busy = True
        reply = self._answer(self, request, self._body)
        self._request = None
        if isinstance(reply, Canned):
            self._write(reply.data)
            self._end(reply.ending)
            return
        bare = request.method == b"HEAD" or reply.status in _BODILESS
        ending = reply.ending
        if ending == "keep" and (
            (request.header(b"connection") or b"").lower() == b"close"
            or b" HTTP/1.0\r\n" in request.head
            or (reply.framing == "close" and not bare)
        ):
            ending = "close"
        self._write(_head(reply, ending))
        if bare:
            self._end(ending)
            return
        self.wire.registerProducer(_Sender(self, reply, ending), False)

    def _write(self, data: bytes) -> None:
        self.wire.write(data)

    def _end(self, ending: Ending) -> None:
        if ending == "keep":
            self._busy = False
            self._go_on()
        elif ending == "close":
            self.wire.loseConnection()
        elif ending == "abort":
            self.wire.abortConnection()


def _address(end: IAddress) -> Address:
    assert isinstance(end, IPv4Address)
    return end.host, end.port


def _head(reply: Reply, ending: Ending) -> bytes:
    known = {status.value: status.phrase for status in HTTPStatus}
    lines = [f"HTTP/1.1 {reply.status} {known.get(reply.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    if reply.framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif reply.framing == "length" and reply.status not in _BODILESS:
        lines.append(f"Content-Length: {len(reply.body) + reply.size}")
    if ending == "close":
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


@implementer(IPullProducer)
class _Sender:
    """Sends a reply's body a piece at a time, as fast as the transport asks for it."""

    def __init__(self, connection: Connection, reply: Reply, ending: Ending) -> None:
        self._connection = connection
        self._reply = reply
        self._ending = ending
        self._offset = 0
        whole = len(reply.body) + reply.size
        self._end = whole if reply.cut is None else min(reply.cut, whole)

    def resumeProducing(self) -> None:
        connection, reply = self._connection, self._reply
        left = self._end - self._offset
        if left:
            fixed = reply.body[self._offset : self._offset + min(left, _PIECE)]
            piece = fixed or pattern(min(left, _PIECE), self._offset - len(reply.body))
            self._offset += len(piece)
            connection.sent += len(piece)
            if reply.framing == "chunked":
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            connection.wire.write(piece)
            return
        connection.wire.unregisterProducer()
        if reply.framing == "chunked" and reply.cut is None:
            connection.wire.write(b"0\r\n\r\n")
        connection._end(self._ending)

    def stopProducing(self) -> None:
        """Nothing is held that had to be let go of."""
