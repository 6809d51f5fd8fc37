"""Backpressure between a client and a destination."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tortxd.gateway.transports import ClientTransport
from tortxd.relay.interfaces import UploadProducer


class Reader(Protocol):
    """The protocol of a client's connection."""

    transport: ClientTransport

    def upload_paused(self) -> None:
        """The client is read no more for now."""

    def upload_resumed(self) -> None:
        """It is read again."""

    def set_congested(self, congested: bool) -> None:
        """The client takes no more for now, or takes it again."""


@implementer(UploadProducer)
class ClientUpload:
    """Pauses and resumes the reading of a client; a destination cannot end it."""

    def __init__(self, front: Reader) -> None:
        self.paused = False
        self._front = front

    def pauseProducing(self) -> None:
        self.paused = True
        self._front.transport.pauseProducing()
        self._front.upload_paused()

    def resumeProducing(self) -> None:
        self.paused = False
        self._front.upload_resumed()
        self._front.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The upstream connection is gone; the exchange decides what that means."""


@implementer(IPushProducer)
class ClientWriting:
    """Hears from the transport when a client does not take what is written to it."""

    def __init__(self, front: Reader) -> None:
        self._front = front

    def pauseProducing(self) -> None:
        self._front.set_congested(True)

    def resumeProducing(self) -> None:
        self._front.set_congested(False)

    def stopProducing(self) -> None:
        """The client is gone; ``connectionLost`` says so."""
