"""What lies behind the gateways: a SOCKS server that is every destination itself, near or far, or
a Tor network with that server behind its exits."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from cryptography.hazmat.primitives import serialization

from bench.build import native
from bench.processes import free_port, running
from tortxd.testing.certificates import issue

ORIGIN = "origin.test.example"
"""The destination's name."""

ROUND_TRIP = 300
"""Milliseconds to a far destination and back, as it is through the public Tor network."""


@frozen
class Behind:
    """What a gateway is started for."""

    socks_host: str
    socks_port: int
    http_port: int
    """Of the destination."""
    https_port: int
    ca_file: Path
    """Whose certificates are to be trusted."""
    control: str | None = None
    """The control port of the Tor, as an endpoint of Twisted's; None: there is none."""
    tunnel: tuple[str, int] | None = None
    """The HTTPTunnelPort of the Tor."""
    torrc: Path | None = None
    """What makes another Tor a client of the same network."""
    network: int = 0
    """The process of that network, which has started its relays; 0: there is none."""

    def url(self, size: int, *, tls: bool = False, host: str = ORIGIN, last: bool = False) -> str:
        """The URL of a response with a body of this size.

        :param last: the destination answers nothing else on that connection.
        """
        path = f"/{size}?last" if last else f"/{size}"
        if tls:
            return f"https://{host}:{self.https_port}{path}"
        return f"http://{host}:{self.http_port}{path}"


@frozen
class Setting:
    """One of the surroundings in which gateways are compared."""

    key: str
    title: str
    open: Callable[[], AbstractContextManager[Behind]]
    is_tor: bool = False


@contextmanager
def _socks_server(delay: int) -> Iterator[Behind]:
    with tempfile.TemporaryDirectory(prefix="tortxd-bench-") as name:
        ca_file, certificate, key = (Path(name, file) for file in ("ca.pem", "crt.pem", "key.pem"))
        _write_certificate(ca_file, certificate, key)
        command = (native("socks"), certificate, key, str(delay))
        with running("the SOCKS server", command, talks=True) as server:
            ports = server.read_json()
            yield Behind("127.0.0.1", ports["socks"], ports["http"], ports["https"], ca_file)


@contextmanager
def _tor_network() -> Iterator[Behind]:
    tunnel_port = free_port()
    command = (sys.executable, "-m", "bench.gateways.network", ORIGIN, str(tunnel_port))
    with _socks_server(0) as behind, running("the Tor network", command, talks=True) as network:
        said = network.read_json()
        yield evolve(
            behind,
            socks_host=said["socks"][0],
            socks_port=said["socks"][1],
            control=said["control"],
            tunnel=("127.0.0.1", tunnel_port),
            torrc=Path(said["torrc"]),
            network=network.pid,
        )


def _write_certificate(ca_file: Path, certificate: Path, key: Path) -> None:
    issued = issue((ORIGIN,), ca_file).context
    # Typed as pyOpenSSL's; they are cryptography's, see there.
    made: Any = issued
    certificate.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        made.privateKey.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


NEAR = Setting("near", "a plain SOCKS server", lambda: _socks_server(0))
FAR = Setting("far", f"a round trip of {ROUND_TRIP} ms", lambda: _socks_server(ROUND_TRIP))
TOR = Setting("tor", "a private Tor network", _tor_network, is_tor=True)
