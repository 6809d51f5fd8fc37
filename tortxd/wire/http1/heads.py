"""What the head of a message says, and how long one may be."""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

Headers = list[tuple[bytes, bytes]]

MAX_HEAD = 64 * 1024
"""Bytes of a request head, its first line included, where no other limit is set; also of a chunked
body's extensions in a row, and of its trailers."""
MAX_FIELDS = 256
"""Fields of a request head."""
MAX_RESPONSE_HEAD = 256 * 1024
"""Bytes of a response head, interim responses before it included; browsers take as much."""
MAX_RESPONSE_FIELDS = 1000


@frozen(eq=False)
class HeaderSection:
    """The header section of requests without a body (RFC 9110, section 6.3).

    Clients send the same one again and again, with other targets. What follows from it alone can be
    kept with it: equal ones that come close to each other are one and the same object.
    """

    headers: Headers
    fields: dict[bytes, bytes]
    hosts: tuple[bytes, ...]
    keep_alive: bool


class RequestHead(NamedTuple):
    """A request's first line and header section."""

    method: bytes
    target: bytes
    """As sent: it may hold raw UTF-8, though a URI may not."""
    minor: int
    """1 for HTTP/1.1, 0 for HTTP/1.0."""
    headers: Headers
    """As sent, in order, values without surrounding blanks."""
    fields: dict[bytes, bytes]
    """By lower-case name; of repeated fields, the last."""
    hosts: tuple[bytes, ...]
    """Every Host field."""
    length: int | None
    """Content-Length, where it was given."""
    chunked: bool
    keep_alive: bool
    section: HeaderSection | None = None
    """All but the first line, where that is kept."""

    @property
    def has_body(self) -> bool:
        """Whether body bytes (perhaps none, if chunked) follow the head."""
        return self.chunked or bool(self.length)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 Continue (RFC 9110, section 10.1.1)."""
        return self.minor == 1 and self.fields.get(b"expect", b"").lower() == b"100-continue"


class ResponseHead(NamedTuple):
    """A response's status line and header section, and how its body is framed."""

    status: int
    """100 to 999."""
    reason: bytes
    headers: Headers
    length: int | None
    """Bytes of the body, 0 where there can be none; None if chunked or ended by the connection."""
    chunked: bool
    declared_length: int | None
    """What Content-Length says; that of HEAD and 304 describes no body that follows."""
    keep_alive: bool

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection ends the body."""
        return self.length is None and not self.chunked


def connection_options(headers: Headers) -> list[bytes]:
    """What ``Connection`` fields list, in lower case (RFC 9110, section 7.6.1)."""
    return [
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    ]


def persists(minor: int, headers: Headers, names: dict[bytes, bytes]) -> bool:
    """Whether the connection may carry another message (RFC 9112, section 9.3).

    :param names: the headers by lower-case name.
    """
    if b"connection" not in names:
        return minor == 1
    options = connection_options(headers)
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)
