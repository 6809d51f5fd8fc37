"""The PROXY protocol, by which a balancer says at the beginning of a connection whose it is:
versions 1 and 2 (HAProxy's proxy-protocol.txt, sections 2.1 and 2.2).

Twisted has a wrapper for it. But what that does not understand it closes without a word, or with a
traceback that holds the peer's bytes; a header that comes in pieces is lost on it; and it stays in
between, so that a client that has no more to say in a tunnel has left.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tortxd.errors import BadRequest, RequestTimeout, TortxdError

if TYPE_CHECKING:
    from tortxd.gateway.front.connection import Front

HEADER_TIME = 10.0
"""Seconds that a header may take: as long as a request's head."""
MOST = 1000
"""Connections that may be without a header at once."""
_LONGEST_V1 = 107
_LONGEST_V2 = 4096
"""Bytes; without what may be added to it, a header has 232 at most."""
_V1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) ([0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ ([0-9]{1,5}) "
    rb"[0-9]{1,5})\r\n"
)
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_NOT_ONE = (
    "This endpoint is for a balancer, which begins with a header of the PROXY protocol: what came "
    "is none."
)


class Fronts(Interface):
    """Makes who serves a connection."""

    def buildProtocol(self, addr: IAddress | None) -> Front | None:
        """One, or None where there are too many."""


@frozen
class Header:
    """What a balancer has said."""

    size: int
    """Bytes."""
    source: IAddress | None
    """Who has connected to it. None: itself, as when it asks after the gateway's health."""


def read_header(data: bytes) -> Header | None:
    """The header at the beginning of a connection; None: more bytes are needed.

    :raises BadRequest: it is none.
    """
    if data.startswith(_V2) or _V2.startswith(data):
        return _read_v2(data)
    end = data.find(b"\n", 0, _LONGEST_V1) + 1
    if not end and len(data) < _LONGEST_V1 and data[:6] == b"PROXY "[: len(data)]:
        return None
    match = _V1.fullmatch(data[:end])
    if match is None:
        raise BadRequest(_NOT_ONE)
    version, host, port = match.groups()
    return Header(end, None if version is None else _address(version, host, int(port)))


def _address(version: bytes, host: bytes, port: int) -> IAddress:
    try:
        ip = (IPv4 if version == b"4" else IPv6)(host.decode("ascii"))
    except ValueError:
        raise BadRequest(_NOT_ONE) from None
    if port > 65535:
        raise BadRequest(_NOT_ONE)
    return _of_ip(ip, port)


def _of_ip(ip: IPv4 | IPv6, port: int) -> IAddress:
    """A mapped address is that which it maps: its owner has one name, and one set of circuits."""
    mapped = None if isinstance(ip, IPv4) else ip.ipv4_mapped
    if mapped is None and isinstance(ip, IPv6):
        return IPv6Address("TCP", str(ip), port)
    return IPv4Address("TCP", str(mapped or ip), port)


def _read_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family = data[12], data[13] >> 4
    length = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or length > _LONGEST_V2:
        raise BadRequest(_NOT_ONE)
    size = 16 + length
    if len(data) < size:
        return None
    if command == _LOCAL or family == 0:
        return Header(size, None)
    said = data[16:size]
    if family == 1 and length >= 12:
        return Header(size, _of_ip(IPv4(said[:4]), int.from_bytes(said[8:10], "big")))
    if family == 2 and length >= 36:
        return Header(size, _of_ip(IPv6(said[:16]), int.from_bytes(said[32:34], "big")))
    if family == 3 and length >= 216:
        return Header(size, UNIXAddress(None))  # all of them are one
    raise BadRequest(_NOT_ONE)


class Introductions(Factory):
    """Has another factory serve those whom a balancer introduces.

    :param fronts: whose protocols serve; each gets a connection once it is known whose it is.
    :param most: how many may be waited for at once; further ones are closed.
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, fronts: Fronts, most: int = MOST) -> None:
        self.reactor = reactor
        self.fronts = fronts
        self.waiting = 0
        self._most = most

    def buildProtocol(self, addr: IAddress | None) -> Introduction | None:
        return Introduction(self) if self.waiting < self._most else None

    def logPrefix(self) -> str:
        """What the log calls it."""
        return "Gateway"


class Introduction(Protocol):
    """A connection until a balancer has said whose it is."""

    transport: Any

    def __init__(self, factory: Introductions) -> None:
        self._factory = factory
        self._read = b""
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._factory.waiting += 1
        later = self._factory.reactor.callLater
        self._deadline = later(HEADER_TIME, lambda: self._refuse(RequestTimeout()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over()

    def dataReceived(self, data: bytes) -> None:
        self._read += data
        try:
            header = read_header(self._read)
        except BadRequest as error:
            self._refuse(error)
            return
        if header is None:
            return
        if header.source is not None:
            # Whoever asks from now on whose connection this is, is told what the balancer says.
            self.transport.getPeer = lambda: header.source
        front, rest = self._hand_over(), self._read[header.size :]
        if front is not None and rest:
            front.dataReceived(rest)

    def _refuse(self, error: TortxdError) -> None:
        front = self._hand_over()
        if front is not None:
            front.refuse(error)

    def _hand_over(self) -> Front | None:
        """Have the connection served by the other factory's protocol from now on, which gets it as
        it is: nothing of this one stays in between."""
        self._over()
        front = self._factory.fronts.buildProtocol(self.transport.getPeer())
        if front is None:
            self.transport.abortConnection()
            return None
        self.transport.protocol = front
        front.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        return front

    def _over(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is None:
            return
        self._factory.waiting -= 1
        if deadline.active():
            deadline.cancel()
