"""What the gateway says in its own name, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IConsumer

from tortxd.errors import TortxdError
from tortxd.policy.query import asks_for_pretty
from tortxd.wire.http1 import Headers, RequestHead

OWN_HEADERS: Headers = [
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
]
"""On everything that the gateway says itself: it is data, for nobody to keep, run or embed."""

_HTML = frozenset({b"text/html", b"application/xhtml+xml"})
_NOT_WANTED = re.compile(rb"\bq\s*=\s*0(?:\.0*)?\s*(?:;|$)")


@frozen
class Answer:
    """A complete response of the gateway's own."""

    status: int
    headers: Headers
    body: bytes = b""
    value: object = field(default=None, eq=False)
    """What the body says, where it is JSON."""

    def with_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
        """The same answer with these headers as well."""
        return evolve(self, headers=[*self.headers, *headers])

    def as_page(self, html: bytes, headers: Headers) -> Answer:
        """The same answer with ``html`` as its body, and the ``headers`` of a page in place of
        those of the same names."""
        names = {name for name, _ in headers}
        kept = [(name, value) for name, value in self.headers if name not in names]
        return evolve(self, headers=[*headers, *kept], body=html, value=None)

    def readable_to(self, head: RequestHead) -> Answer:
        """The same answer as it suits whoever has sent ``head`` to one of the gateway's own routes:
        JSON is indented for people, who ask by ``?pretty``, or with an ``Accept`` that names no
        JSON, as terminals and browsers do; programs name it, or say nothing."""
        if self.value is None or not _is_for_people(head):
            return self
        return evolve(self, body=json.dumps(self.value, indent=2).encode() + b"\n")


class NotTaken(Exception):
    """A client takes nothing of what it has asked for."""


@frozen
class StreamedAnswer:
    """A response of the gateway's own whose body comes bit by bit."""

    status: int
    headers: Headers
    feed: Callable[[IConsumer], Awaitable[None]]
    """Gives the body to the client, until it is whole. It is cancelled when the client leaves, and
    is to heed the consumer's backpressure; it raises :class:`NotTaken` where the client is not to
    be waited for."""

    def with_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> StreamedAnswer:
        """The same answer with these headers as well."""
        return evolve(self, headers=[*self.headers, *headers])


def takes_html(head: RequestHead) -> bool:
    """Whether a browser asks for something to show: its ``Accept`` names HTML."""
    return any(
        essence.strip() in _HTML and not _NOT_WANTED.search(parameters)
        for essence, _, parameters in (
            one.partition(b";") for one in (_accepted(head) or b"").split(b",")
        )
    )


def _accepted(head: RequestHead) -> bytes | None:
    """What ``Accept`` says (RFC 9110, section 12.5.1), in lower case; None where it is absent."""
    values = [value for name, value in head.headers if name.lower() == b"accept"]
    return b",".join(values).lower() if values else None


def _is_for_people(head: RequestHead) -> bool:
    takes = _accepted(head)
    asked = asks_for_pretty(head.target.partition(b"?")[2])
    return asked or (takes is not None and b"json" not in takes)


def json_answer(status: int, value: object, headers: Headers | None = None) -> Answer:
    """``value`` as JSON."""
    body = json.dumps(value).encode() + b"\n"
    return Answer(
        status,
        [(b"Content-Type", b"application/json; charset=utf-8"), *OWN_HEADERS, *(headers or [])],
        body,
        value,
    )


def error_answer(error: TortxdError, headers: Headers | None = None) -> Answer:
    """``error`` as the contract has it: JSON, ``Tortxd-Error``, ``Proxy-Status`` (RFC 9209)."""
    code = error.code.encode()
    named = [
        (b"Tortxd-Error", code),
        (b"Proxy-Status", b"tortxd; error=" + error.proxy_error.encode()),
    ]
    if error.attempts is not None:
        named.append((b"Tortxd-Attempts", b"%d" % error.attempts))
    if error.retry_after is not None:
        named.append((b"Retry-After", b"%d" % error.retry_after))
    if error.status == 401:
        named.append((b"WWW-Authenticate", b'Bearer realm="tortxd"'))
    if error.status == 407:
        named.append((b"Proxy-Authenticate", b'Basic realm="tortxd"'))
    return json_answer(error.status, error.as_json(), named + (headers or []))
