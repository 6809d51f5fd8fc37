"""What the relay needs of those around it, and what it gives them: the seams of this room.

A :class:`Carrier` takes requests to their destinations, a :class:`ResponseSink` takes what they
answer. Neither knows the other.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import Attribute, implementer

from tortxd.errors import TortxdError
from tortxd.relay.failures import Failures
from tortxd.relay.journal import Journal
from tortxd.relay.placement import Placements
from tortxd.relay.timeouts import Timeouts
from tortxd.relay.upstream import Pool, Upstream
from tortxd.tor.link import SocksAddress, TorLink
from tortxd.wire.http1 import Headers


class Start(NamedTuple):
    """The start of a response, as the client is to have it."""

    status: int
    reason: bytes
    headers: Headers
    content_length: int | None
    """The Content-Length to send; None if there is none."""
    delimited: bool
    """Whether the client knows where the body ends without further framing."""
    switches: bool = False
    """Whether what follows, both ways, is no longer HTTP (101, and 200 to CONNECT)."""


class Interim(NamedTuple):
    """A response ahead of the final one (RFC 9110, section 15.2), as the client is to have it."""

    status: int
    """102 to 199."""
    reason: bytes
    headers: Headers


class UploadProducer(IPushProducer):
    """What a client sends."""

    paused: bool = Attribute("Whether it is not taken for now.")


@implementer(UploadProducer)
class NoUpload:
    """There is nothing to pause: the client sends no body."""

    paused = False

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class Wire(Protocol):
    """A client's connection where bytes pass as they are."""

    @property
    def transport(self) -> object:
        """Its transport."""

    def passed(self) -> None:
        """Some have gone to the client."""


class ResponseSink(Protocol):
    """Takes the response: the client, however it speaks."""

    @property
    def wire(self) -> Wire | None:
        """The client's connection, if the body goes there as it is; for the response that was
        started."""

    @property
    def upload_producer(self) -> UploadProducer:
        """Pauses and resumes what the client sends."""

    def proceed(self) -> None:
        """Ask for the body that the client holds back (100 Continue)."""

    def interim(self, interim: Interim) -> None:
        """Pass on what comes ahead of the response, to a client that may have it."""

    def respond(self, start: Start, data: bytes) -> None:
        """Start the response, with the first bytes of its body."""

    def write(self, data: bytes) -> None:
        """Go on with the body."""

    def finish(self) -> None:
        """The response is whole."""

    def truncate(self, error: TortxdError) -> None:
        """The response broke off: make that plain to the client."""

    def fail(self, error: TortxdError) -> None:
        """No response has been started, and none will come."""

    def draw_from(self, producer: IPushProducer | None) -> None:
        """Pause ``producer`` while the client takes no more; None ends that."""


class Nobody:
    """A :class:`ResponseSink` that takes nothing: the client has all that it will get."""

    wire = None
    upload_producer: UploadProducer = NoUpload()

    def proceed(self) -> None:
        pass

    def interim(self, interim: Interim) -> None:
        pass

    def respond(self, start: Start, data: bytes) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def finish(self) -> None:
        pass

    def truncate(self, error: TortxdError) -> None:
        pass

    def fail(self, error: TortxdError) -> None:
        pass

    def draw_from(self, producer: IPushProducer | None) -> None:
        pass


NOBODY = Nobody()


class Stoppable(Protocol):
    """Something under way."""

    def stop(self) -> None:
        """End it: there will be no Tor any more."""


class Carrier(Protocol):
    """What carries requests: a Tor, and the connections through it."""

    @property
    def link(self) -> TorLink:
        """The Tor."""

    @property
    def journal(self) -> Journal:
        """Who counts what becomes of requests."""

    pool: Pool
    timeouts: Timeouts
    failures: Failures
    placements: Placements
    under_way: set[Stoppable]
    """What is not over."""

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """Connect ``upstream`` through Tor; with ``early``, it may write before the SOCKS reply.
        Cancellable. Fails with one of our errors."""

    def annotate(self, upstream: Upstream) -> Headers:
        """The headers that say which circuit carries ``upstream``, as far as it is known."""
