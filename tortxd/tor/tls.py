"""TLS with destinations: one OpenSSL context for all connections, and what went wrong in words.

Twisted's ``optionsForClientTLS`` makes a context for each host, and each loads the trust roots:
8 ms of CPU, where a connection of a shared context costs 0.05 ms. So there is one context here.
Sessions are not resumed: tickets would let a destination link what isolation keeps apart.

An onion service is authenticated by its address, which is its key, so any certificate will do
there, as in Tor Browser: self-signed, expired, for another name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from ipaddress import ip_address
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tortxd.errors import OriginReset, TlsFailed, TortxdError
from tortxd.policy.hosts import is_onion_service

_CODES = SSL.X509VerificationCodes
_UNTRUSTED = "The destination's certificate was not issued by an authority that is trusted here."
_SENTENCES: dict[int, str] = {
    _CODES.ERR_CERT_HAS_EXPIRED: "The destination's certificate has expired.",
    _CODES.ERR_CERT_NOT_YET_VALID: "The destination's certificate is not valid yet.",
    _CODES.ERR_CERT_REVOKED: "The destination's certificate was revoked.",
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "The destination's certificate is self-signed.",
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: _UNTRUSTED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: _UNTRUSTED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: _UNTRUSTED,
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: _UNTRUSTED,
}
_INVALID = "The destination's certificate is not valid."
_WRONG_NAME = "The destination's certificate was issued for another name."
_CLIENT_CERTIFICATE = (
    "The destination asks for a client certificate, which the gateway does not have."
)
_PLAIN_HTTP = (
    "The destination speaks plain http on this port, not TLS: http:// might be meant instead of "
    "https://."
)
_ON_CERTIFICATE = re.compile("alert (?:certificate required|bad certificate)")
_ON_HANDSHAKE = re.compile("alert handshake failure")
_FIRST = 5
"""Bytes at the beginning of what a destination sends that tell what it speaks: a record's header
(RFC 8446, section 5.1), or none."""
_RECORD = 5 + 2**14 + 256
"""Bytes of a record at most (RFC 8446, section 5.2)."""
_HTTP = re.compile(rb"HTTP/|<[!A-Za-z]")
"""How a web server begins that was greeted in a way that it does not understand."""


class ClientTls:
    """The TLS settings of a daemon or a client.

    Trust roots are OpenSSL's default ones, so ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` work; they are
    loaded when the first connection needs them.

    :param verify: False takes any certificate.
    :param alpn: the protocols offered (RFC 7301).
    """

    def __init__(self, *, verify: bool = True, alpn: tuple[bytes, ...] = (b"http/1.1",)) -> None:
        self.verify = verify
        self._alpn = alpn

    @cached_property
    def context(self) -> SSL.Context:
        """The context that all connections share."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        if self._alpn:
            context.set_alpn_protos(list(self._alpn))
        if self.verify:
            context.set_default_verify_paths()
        return context

    def connection_to(self, host: str) -> HostTls:
        """For one connection to ``host``: an ASCII name, or an IP literal without brackets."""
        return HostTls(self, host)


@implementer(IOpenSSLClientConnectionCreator)
class HostTls:
    """One TLS connection to a host whose certificate must be valid for it (RFC 9525)."""

    def __init__(self, tls: ClientTls, host: str) -> None:
        self._tls = tls
        self._host = host.rstrip(".").lower()
        self._problem: str | None = None

    def clientConnectionForTLS(
        self,
        tlsProtocol: TLSMemoryBIOProtocol,
    ) -> SSL.Connection:
        """Make the OpenSSL connection, as ``TLSMemoryBIOFactory`` asks for it."""
        connection = SSL.Connection(self._tls.context, None)
        identity: DNS_ID | IPAddress_ID
        try:
            ip_address(self._host)
        except ValueError:
            identity = DNS_ID(self._host)
            # No IP literals here (RFC 6066, section 3).
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        else:
            identity = IPAddress_ID(self._host)
        if self._tls.verify and not is_onion_service(self._host):
            connection.set_verify(SSL.VERIFY_PEER, self._verifier(identity))
        else:
            connection.set_verify(SSL.VERIFY_NONE)
        return connection

    def _verifier(
        self, identity: DNS_ID | IPAddress_ID
    ) -> Callable[[SSL.Connection, X509, int, int, int], bool]:
        def verify(_: SSL.Connection, certificate: X509, code: int, depth: int, ok: int) -> bool:
            """Add the leaf's name to OpenSSL's verdict on each certificate of the chain.

            False makes OpenSSL end the handshake with an alert.
            """
            if not ok:
                self._problem = _SENTENCES.get(code, _INVALID)
                return False
            if depth == 0:
                try:
                    verify_service_identity(extract_patterns(certificate), [identity], [])
                except VerificationError:
                    self._problem = _WRONG_NAME
                    return False
                except Exception:
                    # What is raised here goes to stderr and nowhere else.
                    self._problem = _INVALID
                    return False
            return True

        return verify

    def error(self, reason: Failure, connection: SSL.Connection, first: bytes) -> TortxdError:
        """What the loss of ``connection`` during the handshake, for ``reason``, means.

        :param first: the first bytes that came.
        """
        if self._problem is not None:
            return TlsFailed(self._problem)
        if _wants_certificate(reason, connection):
            return TlsFailed(_CLIENT_CERTIFICATE)
        if _HTTP.match(first):
            return TlsFailed(_PLAIN_HTTP)
        if isinstance(reason.value, SSL.Error):
            return TlsFailed("The destination does not speak TLS in a way that both sides accept.")
        return OriginReset("The destination closed the connection during the TLS handshake.")


def _wants_certificate(reason: Failure, connection: SSL.Connection) -> bool:
    """Whether the destination has ended ``connection`` for want of a certificate of ours.

    TLS 1.3 has an alert for it (RFC 8446, section 4.4.2.4). Before, it is ``handshake_failure`` in
    answer to our Finished (RFC 5246, section 7.4.6; the same alert in answer to the ClientHello
    means something else), and some servers complain of a bad certificate when there is none.
    """
    if not isinstance(reason.value, SSL.Error):
        return False
    told = str(reason.value)
    if _ON_CERTIFICATE.search(told):
        return True
    return bool(_ON_HANDSHAKE.search(told)) and connection.get_finished() is not None


@implementer(IHandshakeListener)
class _Handshaking(Protocol):
    """Stands in for the application's protocol until the TLS handshake is done."""

    def __init__(
        self,
        host: HostTls,
        protocol: IProtocol,
        done: Callable[[], None],
        failed: Callable[[TortxdError], None],
    ) -> None:
        self._host = host
        self._then: tuple[IProtocol, Callable[[], None]] | None = protocol, done
        self._failed: Callable[[TortxdError], None] | None = failed

    def handshakeCompleted(self) -> None:
        """The certificate was good: the application takes over."""
        tls: Any = self.transport
        assert self._then is not None
        protocol, done = self._then
        self._let_go()
        tls.wrappedProtocol = protocol
        protocol.makeConnection(tls)
        done()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        tls: Any = self.transport
        failed = self._failed
        assert failed is not None
        self._let_go()
        failed(self._host.error(reason, tls.getHandle(), tls.first))

    def _let_go(self) -> None:
        """Lead to nothing that leads back here, so that all is freed when it is over."""
        self._then = self._failed = self.transport = None


class _Tls(TLSMemoryBIOProtocol):
    """TLS that says in words of ours why it ended, where that has a meaning."""

    first = b""
    """What came first, as far as that tells what the destination speaks."""

    def dataReceived(self, data: bytes) -> None:
        if len(self.first) < _FIRST:
            self.first += data[:_FIRST]
        wrapped = self.wrappedProtocol
        if len(data) <= _RECORD or isinstance(wrapped, _Handshaking):
            super().dataReceived(data)  # type: ignore[no-untyped-call]
            return
        gathered = self.wrappedProtocol = _Gathered()
        try:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        finally:
            self.wrappedProtocol = wrapped
        if gathered.pieces:
            wrapped.dataReceived(b"".join(gathered.pieces))

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]
        if reason is not None and reason.value is not None:
            # Its frames lead back to it and to the connection, which is to be freed at once.
            reason.value.__traceback__ = reason.tb = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        wrapped = self.wrappedProtocol
        if not isinstance(wrapped, _Handshaking):
            self.wrappedProtocol = _Ending(self, wrapped)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Gathered(Protocol):
    """Stands in for the application's protocol while records that came together are opened, so that
    they go on together: each way on costs as much as another."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)


class _Ending(Protocol):
    """Stands before the application's protocol while its connection ends.

    In TLS 1.3 the handshake is over for the client before the server has looked at its certificate.
    """

    def __init__(self, tls: TLSMemoryBIOProtocol, protocol: Any) -> None:
        self._tls = tls
        self._protocol = protocol

    def dataReceived(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if _wants_certificate(reason, self._tls.getHandle()):
            reason = Failure(TlsFailed(_CLIENT_CERTIFICATE))
        self._protocol.connectionLost(reason)


def over_tls(
    clock: IReactorTime,
    host: HostTls,
    protocol: IProtocol,
    done: Callable[[], None],
    failed: Callable[[TortxdError], None],
) -> IProtocol:
    """A protocol that speaks TLS on its transport and connects ``protocol`` once that is secure.

    Its ClientHello is written at once when it is connected.

    :param done: called after ``protocol`` was connected.
    :param failed: called if it never will be: with :class:`~tortxd.errors.TlsFailed`, or with
        :class:`~tortxd.errors.OriginReset` when the connection is lost.
    """
    handshaking = _Handshaking(host, protocol, done, failed)
    factory = TLSMemoryBIOFactory(host, True, _Once(handshaking), clock)
    factory.noisy = False
    factory.protocol = _Tls
    tls = factory.buildProtocol(None)
    assert tls is not None
    return tls


class _Once(Factory):
    """Builds the protocol that there is already."""

    noisy = False

    def __init__(self, built: Protocol) -> None:
        self._built = built

    def buildProtocol(self, addr: object) -> Protocol:
        return self._built
