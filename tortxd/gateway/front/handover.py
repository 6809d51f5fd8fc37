"""A request for the control plane, read whole and framed anew before twisted.web gets it."""

from __future__ import annotations

import re
from urllib.parse import quote

from tortxd.errors import TooLarge
from tortxd.policy.request import read_by_gateway
from tortxd.wire.http1 import BodyReader, RequestHead, head_bytes
from tortxd.wire.limited import LimitedBody

MAX_HEAD = 8 * 1024
"""Bytes of a request head as the control plane gets it; twisted.web takes 16 KiB."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]+")


def too_large() -> TooLarge:
    """The error for a body that is longer than the control plane takes."""
    return TooLarge("The request body is larger than this route takes.")


class Handover:
    """Collects one request."""

    def __init__(self, head: RequestHead, body: BodyReader) -> None:
        self._head = head
        self._reader = body
        self._body = LimitedBody(too_large)

    def check_length(self) -> None:
        """See that the body is not longer than the control plane takes, as far as its head says.

        :raises TooLarge: it is.
        """
        self._body.check(self._head.length)

    def feed(self, data: bytes) -> bytes | None:
        """Take ``data``; give the whole request, as bytes to serve, once it is all there.

        :raises BadRequest: its body is malformed.
        :raises TooLarge: it has more than the control plane takes.
        """
        if data:
            self._body.add(self._reader.feed(data))
        return self._request() if self._reader.done else None

    def _request(self) -> bytes:
        head, body = self._head, self._body.value
        headers = read_by_gateway(head.headers)
        headers.append((b"Content-Length", b"%d" % len(body)))
        headers.append((b"Connection", b"close"))
        target = _NOT_ASCII.sub(_escape, head.target)
        request = head_bytes(b"%b %b HTTP/1.%d" % (head.method, target, head.minor), headers)
        if len(request) > MAX_HEAD:
            status = 414 if len(target) > MAX_HEAD // 2 else 431
            raise TooLarge("The request is too long.", status=status)
        return request + body


def _escape(match: re.Match[bytes]) -> bytes:
    """What a URI cannot hold, as a browser sends it."""
    return quote(match[0]).encode("ascii")
