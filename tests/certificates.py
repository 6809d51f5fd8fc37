"""Certificates for the tests of TLS, made on the spot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"
"""An onion service, which may have any certificate."""
NEEDED = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
"""A server that serves nobody without a certificate."""
SENTENCE = "The destination asks for a client certificate, which the gateway does not have."
"""What becomes of asking such a server."""
VERSIONS = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """The TLS settings of a server."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class Authority:
    """Issues certificates; whoever has its file as ``SSL_CERT_FILE`` trusts them."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Authority {id(self)}")]
        )
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, SHA256())
        )
        self.file = directory / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def server(
        self,
        name: str,
        *,
        expired: bool = False,
        wants: int = SSL.VERIFY_NONE,
        version: int | None = None,
    ) -> Server:
        """The TLS settings of a server called ``name``, or that has this address.

        :param wants: how it asks for a certificate of the client (OpenSSL's verify mode).
        :param version: the one version of TLS that it speaks.
        """
        key, builder = self._leaf(name, expired)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(builder.sign(self._key, SHA256()))
        context.use_privatekey(key)
        context.set_verify(wants, lambda *_: True)
        if version is not None:
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        context.set_alpn_select_callback(lambda _, offered: offered[0])
        return Server(context)

    def _leaf(
        self, name: str, expired: bool
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.CertificateBuilder]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Server")])
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        builder = self._builder(subject, key.public_key(), expired=expired)
        return key, builder.add_extension(x509.SubjectAlternativeName([alternative]), False)

    def _builder(
        self, subject: x509.Name, key: Any, *, expired: bool = False
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=-1 if expired else 1))
        )
