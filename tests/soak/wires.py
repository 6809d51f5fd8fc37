"""A client's connection for the soak, which counts what came and may read slowly."""

from __future__ import annotations

import struct

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tests.daemon.process import installed
from tests.web_client import Wire


class Lost(Exception):
    """The connection ended before what was awaited came."""


@define(eq=False)
class SoakWire(Wire):
    """A :class:`Wire` whose bytes can be waited for by their number."""

    _counted: list[tuple[int, Deferred[None]]] = field(factory=list)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._count()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        counted, self._counted = self._counted, []
        for _, came in counted:
            came.errback(Lost())

    def when_size(self, size: int) -> Deferred[None]:
        """Fire when so many bytes have come in all; fail with Lost when they do not."""
        came: Deferred[None] = Deferred()
        if self.closed is not None and len(self.raw) < size:
            came.errback(Lost())
            return came
        self._counted.append((size, came))
        self._count()
        return came

    def _count(self) -> None:
        for counted in list(self._counted):
            if len(self.raw) >= counted[0]:
                self._counted.remove(counted)
                counted[1].callback(None)

    async def until(self, data: bytes, start: int = 0) -> None:
        """Wait until these bytes have come, from ``start`` on. Raises Lost."""
        while self.raw.find(data, start) < 0:
            await self.when_size(len(self.raw) + 1)

    def skip(self, size: int) -> None:
        """Have the reader of responses begin behind so many of the bytes that wait for it."""
        self._unread = self._unread[size:]


async def dial(host: str, port: int) -> SoakWire:
    """Connect to a loopback address. Raises ConnectError."""
    endpoint = TCP4ClientEndpoint(installed(), host, port)
    return await connectProtocol(endpoint, SoakWire())  # type: ignore[no-any-return]


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A client's WebSocket frame, whose mask is all zeros (RFC 6455, section 5.2)."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes((0x80 | opcode,)) + length + bytes(4) + payload


def messages(data: bytes) -> list[bytes]:
    """The messages of the whole frames of a server that these bytes begin with, without pings."""
    found = []
    while len(data) >= 2:
        opcode, size, start = data[0] & 0x0F, data[1] & 0x7F, 2
        if size == 126 and len(data) >= 4:
            size, start = int.from_bytes(data[2:4], "big"), 4
        if (size > 126 and start == 2) or len(data) < start + size:
            break
        if opcode in (1, 2):
            found.append(data[start : start + size])
        data = data[start + size :]
    return found
