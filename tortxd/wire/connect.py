"""The client's side of HTTP CONNECT (RFC 9110, section 9.3.6), as a gateway of tortxd answers it.

1. Everything that the gateway is to know is sent at once, and nothing behind it before its answer:
   where that is a refusal, what follows would be read as a further request.
2. Whatever a 2xx says of a body, what follows its head is the destination's.
3. Every other answer is an error. The gateway's own say which one, as JSON; what comes from
   something else is not repeated.
4. Answers are bounded: 64 KiB of head, 64 KiB of body.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import frozen

from tortxd.errors import BadResponse, TorDown, TortxdError, Unauthorized, kinds, printable
from tortxd.wire.http1 import (
    MAX_HEAD,
    BodyReader,
    Headers,
    ResponseHead,
    ResponseReader,
    head_bytes,
)
from tortxd.wire.limited import LimitedBody

_NO_ANSWER = "The gateway ended the connection without an answer."
_NOT_HTTP = "What listens at the gateway's address does not speak HTTP."
_TOO_MUCH = "What listens at the gateway's address says more than a gateway does."
_NOT_OURS = "What listens at the gateway's address is no gateway of tortxd."
_WANTS_LOGIN = "The gateway wants its token, which `token` of the configuration gives it."
_LONGEST_SENTENCE = 1000
_NUMBER = re.compile(rb"[0-9]{1,9}")
_REASON = re.compile(rb"(?:end|c-tor)/([A-Z0-9_]{1,40})")


@frozen
class Opened:
    """The gateway's word that the stream is open."""

    leftover: bytes
    """What the destination had sent already."""


class ConnectHandshake:
    """Asks for a stream to ``host`` (an ASCII name or an IP literal without brackets) and ``port``,
    and reads the answer.

    :param fields: what the gateway is told beside.
    """

    unreachable = "The gateway cannot be reached: `http_gateway_addr` says where it is."

    def __init__(self, host: str, port: int, fields: Headers) -> None:
        name = f"[{host}]" if ":" in host else host
        authority = f"{name}:{port}".encode("ascii")
        line = b"CONNECT %b HTTP/1.1" % authority
        self.request = head_bytes(line, [(b"Host", authority), *fields])
        """What is to be sent."""
        self.headers: Headers = []
        """What the answer says, once its head has come."""
        self._reader = ResponseReader(b"CONNECT")
        self._refusal: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._collected = LimitedBody(lambda: TorDown(_TOO_MUCH))

    def receive(self, data: bytes) -> Opened | None:
        """Take bytes from the gateway; None as long as more are needed.

        :raises TortxdError: the gateway refuses, or it is none. Nothing may be fed after that, nor
            after the answer.
        """
        try:
            if self._body is None:
                head = self._head(data)
                if head is None:
                    return None
                if 200 <= head.status < 300:
                    return Opened(self._reader.take_rest())
                self._refusal, self._body = head, self._reader.body(head)
                data = self._reader.take_rest()
            self._collected.add(self._body.feed(data))
        except BadResponse:
            raise TorDown(_NOT_HTTP) from None
        if self._body.done:
            raise self._error(self._refusal)
        return None

    def lost(self) -> TortxdError:
        """What it means that the connection has ended before that."""
        return self._error(self._refusal)

    def _head(self, data: bytes) -> ResponseHead | None:
        head = self._reader.feed(data)
        if self._reader.size > MAX_HEAD:
            raise TorDown(_TOO_MUCH)
        if head is not None:
            self.headers = head.headers
        return head

    def _error(self, refusal: ResponseHead | None) -> TortxdError:
        if refusal is None:
            return TorDown(_NO_ANSWER)
        named = {name.lower(): value for name, value in self.headers}
        code = named.get(b"tortxd-error")
        if code is None:
            return TorDown(_NOT_OURS)
        kind = kinds().get(code.decode("latin-1"), TortxdError)
        body = self._json()
        sentence, retryable = body.pop("error", None), body.pop("retryable", None)
        body.pop("code", None)
        if kind is Unauthorized:
            sentence = _WANTS_LOGIN
        error = kind(
            printable(sentence[:_LONGEST_SENTENCE]) if isinstance(sentence, str) else None,
            status=refusal.status,
            retryable=retryable if isinstance(retryable, bool) else None,
            retry_after=_number(named.get(b"retry-after")),
            details=body,
        )
        reason = _REASON.fullmatch(named.get(b"tor-request-failed", b""))
        if reason is not None:
            error.tor_reason = reason[1].decode("ascii")
        return error

    def _json(self) -> dict[str, Any]:
        try:
            value = json.loads(self._collected.value)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and _NUMBER.fullmatch(value) else None
