"""How a response is framed for a client: what was the destination's is never copied."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from tortxd.gateway.answers import Answer
from tortxd.relay.interfaces import Start
from tortxd.wire.http1 import Headers, RequestHead, head_bytes

_CLOSE = (b"Connection", b"close")


class Framing(NamedTuple):
    """Where the body of a response ends (RFC 9112, section 6.3)."""

    chunked: bool
    delimited: bool
    """Whether the client can tell the end from a truncation."""
    keep: bool
    """Whether the connection goes on."""

    @classmethod
    def of(cls, start: Start, head: RequestHead, *, keep: bool) -> Framing:
        """The framing of the response that begins with ``start``, for the client of ``head``."""
        if start.content_length is not None or start.delimited:
            return cls(chunked=False, delimited=True, keep=keep)
        if head.minor == 1:
            return cls(chunked=True, delimited=True, keep=keep)
        return cls(chunked=False, delimited=False, keep=False)

    def headers(self, start: Start, head: RequestHead) -> Headers:
        """The fields that say so."""
        headers: Headers = []
        if start.content_length is not None:
            headers.append((b"Content-Length", b"%d" % start.content_length))
        elif self.chunked:
            headers.append((b"Transfer-Encoding", b"chunked"))
        if not self.keep:
            headers.append(_CLOSE)
        elif head.minor == 0:
            headers.append((b"Connection", b"keep-alive"))
        return headers


def answer_bytes(answer: Answer, *, bodiless: bool, keep: bool) -> bytes:
    """An answer of the gateway's own; ``bodiless`` to a HEAD."""
    headers = list(answer.headers)
    if answer.status != 204:
        headers.append((b"Content-Length", b"%d" % len(answer.body)))
    if not keep:
        headers.append(_CLOSE)
    line = b"HTTP/1.1 %d %b" % (answer.status, HTTPStatus(answer.status).phrase.encode())
    return head_bytes(line, headers) + (b"" if bodiless else answer.body)
