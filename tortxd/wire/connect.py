"""The client's side of CONNECT with the gateway (RFC 9110, section 9.3.6), as bytes."""

from __future__ import annotations

import json

from attrs import frozen

from tortxd.errors import BadResponse, TorDown, TortxdError, kinds
from tortxd.wire.http1 import BodyReader, Headers, ResponseHead, ResponseReader, head_bytes
from tortxd.wire.limited import LimitedBody

_NOT_A_GATEWAY = "What listens at the gateway's address does not answer as tortxd does."


def connect_request(host: str, port: int, headers: Headers) -> bytes:
    """What asks for a tunnel.

    :param host: an ASCII name, or an IP literal without brackets.
    """
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    line = b"CONNECT %b HTTP/1.1" % authority.encode("ascii")
    return head_bytes(line, [(b"Host", authority.encode("ascii")), *headers])


@frozen
class Opened:
    """The tunnel is open."""

    headers: Headers
    """What the gateway says of it."""
    leftover: bytes
    """What the destination had sent already."""


class ConnectHandshake:
    """Reads what the gateway answers to :func:`connect_request`."""

    def __init__(self) -> None:
        self._reader = ResponseReader(b"CONNECT")
        self._refusal: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._text = LimitedBody(lambda: TorDown(_NOT_A_GATEWAY))
        self.headers: Headers = []
        """Those of the answer, once it is there."""

    def receive(self, data: bytes) -> Opened | None:
        """Take bytes; None as long as more are needed.

        :raises TortxdError: it is refused: the error that the gateway says, or TorDown where it is
            no gateway that answers.
        """
        if self._body is None:
            try:
                head = self._reader.feed(data)
            except BadResponse:
                raise TorDown(_NOT_A_GATEWAY) from None
            if head is None:
                return None
            self.headers, data = head.headers, self._reader.rest
            if head.status == 200:
                return Opened(head.headers, data)
            self._refusal, self._body = head, self._reader.body(head)
        try:
            self._text.add(self._body.feed(data))
        except BadResponse:
            raise TorDown(_NOT_A_GATEWAY) from None
        if self._body.done:
            raise _error(self._refusal, self._text.value)
        return None


def _error(head: ResponseHead | None, body: bytes) -> TortxdError:
    """The error that a gateway's answer is."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    code = told.get("code") if isinstance(told, dict) else None
    kind = kinds().get(code) if isinstance(code, str) else None
    if kind is None or head is None:
        return TorDown(_NOT_A_GATEWAY)
    sentence = told.get("error")
    error = kind(
        sentence if isinstance(sentence, str) else None,
        retryable=told.get("retryable") is True,
    )
    attempts = dict(head.headers).get(b"Tortxd-Attempts", b"")
    error.attempts = int(attempts) if attempts.isdigit() else None
    return error
