"""Pages for browsers, as whole responses that an :class:`~tortxd.testing.Origin` gives."""

from __future__ import annotations

from tortxd.testing import Origin
from tortxd.testing.origin_http import Canned


def canned(
    body: str, content_type: str | None = "text/html; charset=utf-8", *headers: str
) -> Canned:
    """A response with this body; its type is left out if there is none."""
    data = body.encode()
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(data)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return Canned("\r\n".join((*lines, "Connection: close", "", "")).encode() + data, "close")


def put(origin: Origin, target: str, page: Canned) -> None:
    """Let ``origin`` answer with it."""
    origin.canned[target.encode()] = page
