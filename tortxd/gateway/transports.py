"""Transports of clients."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer, ITCPTransport
from zope.interface import Attribute


class ClientTransport(ITCPTransport, IConsumer, IPushProducer):
    """Twisted's own TCP transport (unix sockets and TLS have most of it)."""

    protocol: IProtocol = Attribute("Who gets the bytes.")


def socket_of(transport: Any) -> Any:
    """The transport that has the socket: TLS lies over TCP."""
    return getattr(transport, "transport", transport)
