"""A request for the control plane, read whole and framed anew before twisted.web gets it."""

from __future__ import annotations

import re
from urllib.parse import quote

from tortxd.errors import TooLarge
from tortxd.policy.request import read_by_gateway
from tortxd.wire.http1 import BodyReader, RequestHead, head_bytes

MAX_BODY = 64 * 1024
"""Bytes of a request body on the control plane."""
MAX_HEAD = 8 * 1024
"""Bytes of a request head as the control plane gets it; twisted.web takes 16 KiB."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]+")

LONG_BODY = "The request body is larger than this route takes."


def check_length(head: RequestHead) -> None:
    """See that the body is not longer than the control plane takes, as far as its head says.

    :raises TooLarge: it is.
    """
    if head.length is not None and head.length > MAX_BODY:
        raise TooLarge(LONG_BODY)


class Handover:
    """Collects one request."""

    def __init__(self, head: RequestHead, body: BodyReader) -> None:
        self._head = head
        self._reader = body
        self._body = b""

    def feed(self, data: bytes) -> bytes | None:
        """Take ``data``; give the whole request, as bytes to serve, once it is all there.

        :raises BadRequest: its body is malformed.
        :raises TooLarge: it has more than the control plane takes.
        """
        if data:
            self._body += self._reader.feed(data)
        if len(self._body) > MAX_BODY:
            raise TooLarge(LONG_BODY)
        return self._request() if self._reader.done else None

    def _request(self) -> bytes:
        head = self._head
        headers = read_by_gateway(head.headers)
        headers.append((b"Content-Length", b"%d" % len(self._body)))
        headers.append((b"Connection", b"close"))
        target = _NOT_ASCII.sub(_escape, head.target)
        request = head_bytes(b"%b %b HTTP/1.%d" % (head.method, target, head.minor), headers)
        if len(request) > MAX_HEAD:
            status = 414 if len(target) > MAX_HEAD // 2 else 431
            raise TooLarge("The request is too long.", status=status)
        return request + self._body


def _escape(match: re.Match[bytes]) -> bytes:
    """What a URI cannot hold, as a browser sends it."""
    return quote(match[0]).encode("ascii")
