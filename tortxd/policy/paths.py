"""Paths and queries of targets: as the URL standard writes them, or byte by byte as they came."""

from __future__ import annotations

import re

# WHATWG URL, the path and the special-query percent-encode sets, without control characters: those
# are refused.
_UNSAFE_IN_PATH = re.compile(rb'[ "<>^`{}\x80-\xff]')
_UNSAFE_IN_QUERY = re.compile(rb"[ \"<>'\x80-\xff]")
_UNSENDABLE = re.compile(rb"[ \x80-\xff]")
"""What the request line of HTTP cannot hold: RFC 9110, section 7.7, leaves everything else to the
client, whose browser or curl leaves ``"<>\\^`{|}`` as they are, too, in one place or another."""

_DOT = re.compile(rb"\.|%2e", re.IGNORECASE)
_DOTS = re.compile(rb"(?:\.|%2e){2}", re.IGNORECASE)
_MAYBE_DOTS = re.compile(rb"/(?:\.|%2e)", re.IGNORECASE)


def as_browsers_do(path: bytes, query: bytes) -> bytes:
    """Path and query (with its ``?``) as a browser asks for them.

    Backslashes in the path are slashes, dot segments are taken out, what may not stand in a URL is
    percent-encoded; escapes stay.
    """
    path = without_dots(path.replace(b"\\", b"/"))
    return _UNSAFE_IN_PATH.sub(_escape, path or b"/") + _UNSAFE_IN_QUERY.sub(_escape, query)


def as_they_came(path: bytes, query: bytes) -> bytes:
    """The same as a proxy passes them on: percent-encoded is only what no request can hold."""
    return _UNSENDABLE.sub(_escape, (path or b"/") + query)


def without_dots(path: bytes) -> bytes:
    """An absolute path without its dot segments, ``%2e`` being a dot (WHATWG URL, "path state")."""
    if not _MAYBE_DOTS.search(path):
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if _DOTS.fullmatch(segment):
            del kept[-1:]
        elif not _DOT.fullmatch(segment):
            kept.append(segment)
    if _DOT.fullmatch(segments[-1]) or _DOTS.fullmatch(segments[-1]):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in match[0])
