"""How a gateway is asked for a URL, as bytes: the conversation that the load client has with it."""

from __future__ import annotations

from enum import Enum
from urllib.parse import quote, urlsplit

from attrs import frozen


class Way(Enum):
    """A way to have something fetched."""

    URL = "by /proxy?url="
    """The URL is a parameter; what fetches it does TLS, too."""
    PROXY = "as an HTTP proxy"
    """An ordinary HTTP proxy is asked for the whole URL."""
    CONNECT = "by CONNECT"
    """A tunnel through an HTTP proxy."""
    SOCKS = "by SOCKS"
    """A connection through a SOCKS5 proxy."""


@frozen
class Asked:
    """What is asked for."""

    url: str
    upload: int = 0
    """Bytes of a body to be sent; 0: it is a GET."""
    keys: int = 0
    """How many isolation keys take turns, one for each request; 0: none is said."""
    closes: bool = False
    """Whether each request is the last on its connection."""


_KEY = "########"
"""For which the load client puts the number of a key."""


def conversation(way: Way, asked: Asked) -> list[str]:
    """The lines of a conversation, as ``native/load.c`` reads them."""
    parts = urlsplit(asked.url)
    host, port = parts.hostname or "", parts.port or 80
    if way is Way.URL:
        return [_request(f"/proxy?url={quote(asked.url, safe='')}", "localhost", asked)]
    if way is Way.PROXY:
        return [_request(asked.url, parts.netloc, asked)]
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    request = _request(path, parts.netloc, asked)
    if way is Way.CONNECT:
        head = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        return [f"{head.encode().hex()} head", request]
    return [*_socks(host, port), request]


def message(way: Way, asked: Asked) -> bytes:
    """The request of a way that needs nothing before it."""
    (line,) = conversation(way, asked)
    return bytes.fromhex(line.split()[0])


def _request(target: str, host: str, asked: Asked) -> str:
    upload = asked.upload
    method = "POST" if upload else "GET"
    length = f"Content-Length: {upload}\r\n" if upload else ""
    key = f"Tor-Stream-Isolation: {_KEY}\r\n" if asked.keys else ""
    close = "Connection: close\r\n" if asked.closes else ""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"{key}{close}{length}\r\n"
    )
    return f"{head.encode().hex()} {f'{upload} ' if upload else ''}again"


def _socks(host: str, port: int) -> list[str]:
    address = bytes((len(host),)) + host.encode() + port.to_bytes(2, "big")
    messages = (
        (b"\x05\x01\x02", 2),
        (b"\x01\x05bench\x05bench", 2),
        (b"\x05\x01\x00\x03" + address, 10),
    )
    return [f"{message.hex()} {answer}" for message, answer in messages]
