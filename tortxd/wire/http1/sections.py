"""Header sections that come again: clients send the same one with other targets."""

from __future__ import annotations

import re
from functools import lru_cache

from tortxd.errors import TortxdError
from tortxd.wire.http1.bodies import LengthBody
from tortxd.wire.http1.heads import HeaderSection, RequestHead
from tortxd.wire.http1.requests import RequestReader

NO_BODY = LengthBody(0)
"""The body of any request that has none."""

_END = b"\r\n\r\n"
_SIMPLE_LINE = re.compile(
    rb"(GET|HEAD|OPTIONS|DELETE) "
    rb"((?:http://[a-z0-9.-]+(?::[0-9]{1,5})?)?/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*) HTTP/1\.1\r\n"
)
"""Request lines of which nothing else is to be found out."""
_TELLS_OF_MORE = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
_LONGEST_KEPT = 2048
"""Bytes of a header section that is kept, and of the target before it."""


def known_head(data: bytes) -> RequestHead | None:
    """The head that ``data`` is, if it needs no closer look than at its first line: the section
    behind that has come before. No body follows it, and no other request yet."""
    line = _SIMPLE_LINE.match(data)
    if line is None or line.end() > _LONGEST_KEPT or len(data) - line.end() > _LONGEST_KEPT:
        return None
    # To its end and no further: else it would be a key that never comes again.
    if data.find(_END, line.end() - 2) != len(data) - len(_END):
        return None
    section = _section(data[line.end() :])
    if section is None:
        return None
    method, target = line.groups()
    headers, fields, hosts = section.headers, section.fields, section.hosts
    keep_alive = section.keep_alive
    return RequestHead(method, target, 1, headers, fields, hosts, None, False, keep_alive, section)


@lru_cache(512)
def _section(data: bytes) -> HeaderSection | None:
    """The header section that ``data`` is, read behind a line that could be any; None if it is
    malformed, or says something about the bytes behind it."""
    reader = RequestReader()
    try:
        head = reader.feed(b"GET / HTTP/1.1\r\n" + data)
    except TortxdError:
        return None
    if head is None or not _TELLS_OF_MORE.isdisjoint(head.fields):
        return None
    return HeaderSection(head.headers, head.fields, head.hosts, head.keep_alive)
