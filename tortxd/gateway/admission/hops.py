"""How far TRACE and OPTIONS go: Max-Forwards (RFC 9110, section 7.6.2)."""

from __future__ import annotations

import re

from tortxd.errors import BadRequest
from tortxd.gateway.answers import OWN_HEADERS, Answer
from tortxd.wire.http1 import Headers, RequestHead, head_bytes

_FIELD = b"max-forwards"
_COUNTED = frozenset((b"TRACE", b"OPTIONS"))
_NUMBER = re.compile(rb"[0-9]{1,9}")
_SECRET = frozenset((b"authorization", b"cookie"))
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"
"""What is commonly asked for; any method passes."""


def hops_left(head: RequestHead) -> int | None:
    """How many recipients may still pass the request on; None where that is not limited.

    :raises BadRequest: Max-Forwards is no number.
    """
    value = head.fields.get(_FIELD)
    if value is None or head.method not in _COUNTED:
        return None
    if not _NUMBER.fullmatch(value):
        raise BadRequest("Max-Forwards takes a number.")
    return int(value)


def counted_down(headers: Headers, hops: int) -> Headers:
    """The headers with which the request goes on."""
    return [
        (name, b"%d" % (hops - 1) if name.lower() == _FIELD else value) for name, value in headers
    ]


def last_answer(head: RequestHead, outgoing: Headers) -> Answer:
    """What the gateway answers to a request that goes no further.

    :param outgoing: the headers that would have gone on. A TRACE shows them (section 9.3.8),
        without those that are nobody else's to see.
    """
    if head.method == b"OPTIONS":
        return Answer(200, [(b"Allow", METHODS), *OWN_HEADERS])
    shown = [(name, value) for name, value in outgoing if name.lower() not in _SECRET]
    line = b"TRACE %b HTTP/1.%d" % (head.target, head.minor)
    return Answer(200, [(b"Content-Type", b"message/http"), *OWN_HEADERS], head_bytes(line, shown))
