"""The body of a request of the library: from an ``IBodyProducer`` to an exchange, and once more
where a redirect asks for it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from tortxd.errors import BadRequest
from tortxd.relay.exchange import Exchange
from tortxd.relay.interfaces import UploadProducer

log = Logger()


@implementer(UploadProducer, IConsumer)
class Upload:
    """Feeds what ``producer`` writes to an exchange, no faster than it is taken, and not before the
    destination is reached.

    :param give_up: called when the body cannot be sent: with the producer's own error, or with
        BadRequest when it is not as long as it said.
    """

    def __init__(
        self,
        clock: IReactorTime,
        producer: IBodyProducer,
        give_up: Callable[[Failure], object],
    ) -> None:
        self.exchange: Exchange | None = None
        self.paused = True
        self._clock = clock
        self._producer = producer
        self._give_up = give_up
        self._left: int | None = None if producer.length == UNKNOWN_LENGTH else int(producer.length)
        self._awaited = False
        self._producing = False
        self._held_up = False
        """Whether the producer was told to pause."""
        self._over = False

    # --- what the exchange says -------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self.paused = True
        if self._producing and not self._held_up:
            self._held_up = True
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        if not self._producing and not self._awaited and not self._over:
            # Not now: the exchange is in the middle of getting ready for what comes.
            self._awaited = True
            self._clock.callLater(0, self._begin)
        elif self._held_up and self._producing:
            self._held_up = False
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; the exchange decides what that means."""

    def stop(self) -> None:
        """No more of it is wanted. Harmless when it has all been sent."""
        if self._over:
            return
        self._over = True
        if self._producing:
            self._producing = False
            try:
                self._producer.stopProducing()
            except Exception:  # not the relay's affair
                log.failure("The body of a request could not be stopped.")

    # --- what the producer says -------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """A body producer is known already."""

    def unregisterProducer(self) -> None:
        """Its end is told by its Deferred."""

    def write(self, data: bytes) -> None:
        """More of the body."""
        if self._over or self.exchange is None or not data:
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._refuse("The body of the request is longer than it said.")
                return
        self.exchange.upload(bytes(data))

    def _begin(self) -> None:
        if self._over:
            return
        self._producing = True
        producing: Deferred[Any] = maybeDeferred(self._producer.startProducing, self)
        producing.addCallbacks(lambda _: self._done(), self._failed)
        if self.paused and self._producing:
            self._held_up = True
            self._producer.pauseProducing()

    def _done(self) -> None:
        self._producing = False
        if self._over or self.exchange is None:
            return
        if self._left:
            self._refuse("The body of the request is shorter than it said.")
            return
        self._over = True
        self.exchange.upload_done()

    def _failed(self, reason: Failure) -> None:
        self._producing = False
        if not self._over:
            self._over = True
            self._give_up(reason)

    def _refuse(self, sentence: str) -> None:
        self._give_up(Failure(BadRequest(sentence)))


class _Kept:
    """A file that stays open when it has been read."""

    def __init__(self, file: Any) -> None:
        self.read = file.read
        if _is_seekable(file):
            self.seek, self.tell = file.seek, file.tell

    def close(self) -> None:
        """Nothing: it may be read once more."""


def _is_seekable(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    return hasattr(file, "seek") if seekable is None else bool(seekable())


@implementer(IBodyProducer)
class FileBody:
    """A file from where it stands to its end, as often as that is asked for.

    :meth:`close` closes it, once it is not needed any more.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.replayable = _is_seekable(file)
        self._start = file.tell() if self.replayable else 0
        self._begun = False
        self._reading = 0
        self._closing = False
        self._producer = self._fresh()
        self.length: Any = self._producer.length

    def _fresh(self) -> Any:
        return FileBodyProducer(_Kept(self._file))

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See :class:`twisted.web.iweb.IBodyProducer`."""
        if self._begun:
            self._file.seek(self._start)
            self._producer = self._fresh()
        self._begun = True
        self._reading += 1
        producing: Deferred[None] = self._producer.startProducing(consumer)
        return producing.addBoth(self._read)

    def _read(self, result: Any) -> Any:
        self._reading -= 1
        self._close_if_done()
        return result

    def pauseProducing(self) -> None:
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self._producer.stopProducing()
        self._reading = 0
        self._close_if_done()

    def close(self) -> None:
        """It will not be asked for again: close the file when it is not being read."""
        self._closing = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._closing and self._begun and self._reading <= 0:
            self._file.close()
