"""The client's side of a SOCKS5 handshake with Tor, as bytes.

RFC 1928 with username and password (RFC 1929), which Tor takes as isolation keys (Tor's
socks-extensions), and with the reply codes of Tor's proposal 304 (``ExtendedErrors``).

1. Only authentication is offered. A server that wants none would not isolate: that is an error.
2. Everything that the client has to say is known from the start and is sent in one go; Tor takes
   it, and what follows it, without having answered.
3. When Tor reads several messages at once, a later answer replaces the earlier ones (measured on
   0.4.9.11). So the answer to the greeting may be missing, and a refusal may come without the
   answer to the authentication. Both are taken; success is only taken after the authentication
   was accepted.
4. What arrives behind the reply is handed out with it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import frozen

from tortxd.errors import (
    BadUrl,
    ConnectFailed,
    ConnectRefused,
    ExitPolicyRejected,
    InternalError,
    OnionAuthRequired,
    OnionUnreachable,
    ResolveFailed,
    TorDown,
    TorTimeout,
    TortxdError,
)

GREETING = b"\x05\x01\x02"
"""SOCKS5, one method offered: username and password."""
METHOD_ACCEPTED = b"\x05\x02"

_NO_METHOD = frozenset((0x00, 0xFF))

_REFUSALS: dict[int, tuple[type[TortxdError], str | None]] = {
    0x01: (ConnectFailed, None),
    0x02: (ExitPolicyRejected, None),
    0x03: (ResolveFailed, None),
    0x04: (ResolveFailed, None),
    0x05: (ConnectRefused, None),
    0x06: (TorTimeout, None),
    0x07: (InternalError, "Tor does not know the SOCKS command."),
    0x08: (InternalError, "Tor does not know the SOCKS address type."),
    0xF0: (OnionUnreachable, "The onion service's descriptor was not found."),
    0xF1: (OnionUnreachable, "The onion service's descriptor is not valid."),
    0xF2: (OnionUnreachable, "The onion service's introduction failed."),
    0xF3: (OnionUnreachable, "The rendezvous with the onion service failed."),
    0xF4: (OnionAuthRequired, None),
    0xF5: (OnionAuthRequired, "The onion service refuses the client authorization that Tor holds."),
    0xF6: (BadUrl, "The onion address is not valid."),
    0xF7: (OnionUnreachable, "The onion service's introduction timed out."),
}


def refusal(code: int) -> TortxdError:
    """The error that a SOCKS reply ``code`` other than 0 stands for."""
    kind, sentence = _REFUSALS.get(code, (ConnectFailed, None))
    return kind(sentence)


@frozen
class Reply:
    """Tor's word that the stream is open."""

    bound: tuple[str, int]
    """BND.ADDR and BND.PORT; Tor leaves them at zero."""
    leftover: bytes
    """What the destination had sent already."""


def request(host: str, port: int, username: bytes, password: bytes) -> bytes:
    """Greeting, authentication and CONNECT to ``host`` (an ASCII name or an IP literal without
    brackets) and ``port``, to be written in one go.

    :param username: 1 to 255 bytes, like ``password``.
    :raises BadUrl: when SOCKS cannot carry the host or the port.
    """
    if not (0 < len(username) < 256 and 0 < len(password) < 256):
        raise ValueError("SOCKS credentials have 1 to 255 bytes each")
    if not 0 < port < 65536:
        raise BadUrl("The target's port is not between 1 and 65535.")
    return b"".join(
        (
            GREETING,
            b"\x01",
            bytes((len(username),)),
            username,
            bytes((len(password),)),
            password,
            b"\x05\x01\x00",
            _address(host),
            port.to_bytes(2, "big"),
        )
    )


def _address(host: str) -> bytes:
    try:
        literal = ip_address(host)
    except ValueError:
        pass
    else:
        if isinstance(literal, IPv4Address):
            return b"\x01" + literal.packed
        if literal.scope_id is None:
            return b"\x04" + literal.packed
    if not (host.isascii() and host.isprintable() and 0 < len(host) < 256) or " " in host:
        raise BadUrl("The target's host is not a name that Tor can be asked for.")
    return b"\x03" + bytes((len(host),)) + host.encode("ascii")


class Handshake:
    """Reads what Tor answers to :func:`request`."""

    def __init__(self) -> None:
        self._buffer = b""
        self._authenticated = False

    def receive(self, data: bytes) -> Reply | None:
        """Take bytes from Tor; None as long as more are needed.

        :raises TortxdError: when Tor refuses (the kind says why), or when it is not Tor that
            answers (:class:`~tortxd.errors.TorDown`). Nothing may be fed after that, nor after the
            reply.
        """
        self._buffer += data
        if not self._authenticated and not self._authenticate():
            return None
        return self._reply()

    def _authenticate(self) -> bool:
        """Whether the authentication is known to be accepted; it is cut off the buffer then."""
        buffer = self._buffer
        if buffer[:1] == b"\x05":
            if len(buffer) < 2:
                return False
            if buffer[1] in _NO_METHOD:
                raise TorDown("The SOCKS port takes no isolation credentials, so it is not Tor's.")
            if buffer[1] != 2:
                raise refusal(buffer[1])
            if buffer[2:3] == b"\x00":  # not an authentication's version: a reply with code 2
                raise refusal(2)
            buffer = buffer[2:]
        if buffer and buffer[0] != 1:
            raise TorDown("What listens on the SOCKS port does not speak SOCKS5.")
        if len(buffer) < 2:
            return False
        if buffer[1] != 0:
            raise TorDown("The SOCKS port refused the isolation credentials.")
        self._buffer = buffer[2:]
        self._authenticated = True
        return True

    def _reply(self) -> Reply | None:
        buffer = self._buffer
        if buffer and buffer[0] != 5:
            raise TorDown("What listens on the SOCKS port does not speak SOCKS5.")
        if len(buffer) > 1 and buffer[1] != 0:
            raise refusal(buffer[1])
        if len(buffer) < 5:
            return None
        kind = buffer[3]
        size = {1: 4, 3: 1 + buffer[4], 4: 16}.get(kind)
        if size is None:
            raise TorDown("What listens on the SOCKS port does not speak SOCKS5.")
        end = 4 + size
        if len(buffer) < end + 2:
            return None
        raw = buffer[4:end]
        if kind == 1:
            host = str(IPv4Address(raw))
        elif kind == 4:
            host = str(IPv6Address(raw))
        else:
            host = raw[1:].decode("latin-1")
        self._buffer = b""  # much of the destination's may stand in it
        return Reply((host, int.from_bytes(buffer[end : end + 2], "big")), buffer[end + 2 :])
