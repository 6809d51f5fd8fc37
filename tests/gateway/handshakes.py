"""The opening of WebSockets, as tests of the gateway send and answer it."""

from __future__ import annotations

from urllib.parse import quote

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=b\r\n"
    b"Tortxd-Error: forged\r\n\r\n"
)


def handshake(url: str, *headers: str, target: str | None = None) -> bytes:
    """A WebSocket's handshake for a URL, through ``/proxy``."""
    lines = [
        f"GET {target or '/proxy?url=' + quote(url, safe='')} HTTP/1.1",
        "Host: localhost",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        KEY,
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()
