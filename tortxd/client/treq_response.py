"""treq's response, whose body is read without errors but ours."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any

from treq.response import _Response
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from tortxd.client.tor_info import TorInfo
from tortxd.errors import BadResponse, OriginReset, TortxdError
from tortxd.wire.limited import LimitedBody

_CHARSET = re.compile(rb";[ \t]*charset[ \t]*=[ \t]*[\"']?([\w!#$%&+^`~.:-]{1,40})", re.IGNORECASE)
_NOT_ON_THE_WEB = frozenset(
    (
        "idna",
        "mbcs",
        "oem",
        "punycode",
        "raw-unicode-escape",
        "undefined",
        "unicode-escape",
        "utf-7",
    )
)
"""Python's own encodings; browsers know none of them, and some take long to decode."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; in JSON they say more than the type does (Encoding, "decode")."""


class Response(_Response):
    """A response of treq. What the destination is to blame for is BadResponse."""

    tor = TorInfo()
    """The way that it came."""

    def collect(self, collector: Callable[[bytes], None]) -> Deferred[None]:
        """Call ``collector`` with each piece of the body; fires at its end. What it raises ends the
        exchange, and is what the Deferred fails with."""
        reader = _Collecting(collector)
        if self.original.length == 0:
            reader.finished.callback(None)
        else:
            self.original.deliverBody(reader)
        return reader.finished

    def content(self) -> Deferred[bytes]:
        """The whole body."""
        pieces: list[bytes] = []
        return self.collect(pieces.append).addCallback(lambda _: b"".join(pieces))

    def text(self, encoding: str = "ISO-8859-1") -> Deferred[str]:
        """The body as text, in the encoding that its type names; in ``encoding`` where it names
        none that is known."""
        return self.content().addCallback(lambda body: self._decode(body, encoding))

    def json(self, **kwargs: Any) -> Deferred[Any]:
        """The body as JSON; ``kwargs`` are those of ``json.loads``."""
        return self.content().addCallback(lambda body: self._parse(body, kwargs))

    def short_json(self) -> Deferred[Any]:
        """The same, but BadResponse where the body has more than 64 KiB."""
        body = LimitedBody(lambda: BadResponse("The service that was asked said too much."))
        return self.collect(body.add).addCallback(lambda _: self._parse(body.value, {}))

    def history(self) -> list[Response]:
        """The responses whose redirects led here, in their order. What they had said when the
        redirect was followed can be read."""
        found: list[Response] = []
        previous: Any = self.original.previousResponse
        while previous is not None:
            found.append(previous)
            previous = previous.original.previousResponse
        return found[::-1]

    def _decode(self, body: bytes, encoding: str) -> str:
        try:
            return body.decode(self._charset() or encoding)
        except UnicodeError:
            pass
        raise BadResponse("The destination's text is not in the encoding that it should be in.")

    def _parse(self, body: bytes, kwargs: dict[str, Any]) -> Any:
        encoding = self._charset() or "utf-8"
        for mark, marked in _MARKS:
            if body.startswith(mark):
                body, encoding = body[len(mark) :], marked
        try:
            return json.loads(body.decode(encoding), **kwargs)
        except (ValueError, RecursionError):
            pass
        raise BadResponse("The destination's answer is not JSON.")

    def _charset(self) -> str | None:
        """The encoding that the response's type names, if it is one of the web's."""
        kind = self.original.headers.getRawHeaders(b"content-type", [b""])[-1]
        named = _CHARSET.search(kind)
        if named is None:
            essence = kind.partition(b";")[0].strip().lower()
            return "utf-8" if essence == b"application/json" else None
        try:
            found = codecs.lookup(named[1].decode("latin-1"))
        except LookupError:
            return None
        is_text: bool = getattr(found, "_is_text_encoding", True)
        return found.name if is_text and found.name not in _NOT_ON_THE_WEB else None


class _Collecting(Protocol):
    """Calls a function with each piece of a body."""

    transport: Any = None

    def __init__(self, collector: Callable[[bytes], None]) -> None:
        self._collector = collector
        self.finished: Deferred[None] = Deferred(lambda _: self._leave())

    def dataReceived(self, data: bytes) -> None:
        if self.finished.called:
            return
        try:
            self._collector(data)
        except Exception:
            reason = Failure()
            self._leave()
            self.finished.errback(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if reason.check(ResponseDone):
            self.finished.callback(None)
        elif reason.check(TortxdError):
            self.finished.errback(reason)
        else:
            self.finished.errback(OriginReset())

    def _leave(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
