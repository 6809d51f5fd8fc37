"""The addresses that a configuration names, read as text, without a look-up."""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

from tortxd.errors import SetupError, in_quotes
from tortxd.grammar import bracketed

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOSTNAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
LONGEST_SOCKET_PATH = 107
"""Bytes that the path of a unix socket may have (unix(7))."""


@frozen
class SocksAddress:
    """Where Tor's SOCKS port listens: a TCP ``host`` and ``port``, or a unix socket's ``path``."""

    host: str = "127.0.0.1"
    port: int = 9050
    path: str | None = None

    @classmethod
    def parse(cls, text: str, *, name: str = "`socks`") -> SocksAddress:
        """Read ``PORT``, ``HOST:PORT`` or ``unix:PATH``. A SetupError calls it ``name``."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/") or _CONTROL.search(path) or '"' in path:
                raise SetupError(
                    f"{name}: unix: takes an absolute path without quotes, not {in_quotes(path)}."
                )
            return cls(path=path)
        found = _host_and_port(text if ":" in text else f"127.0.0.1:{text}")
        if found is None:
            raise SetupError(
                f"{name} takes a port (9050), a host and port (127.0.0.1:9050) or unix:PATH, not "
                f"{in_quotes(text)}."
            )
        return cls(*found)

    def __str__(self) -> str:
        return self.path or f"{bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """The address as curl and others take it; ``socks5h`` leaves names to Tor."""
        return f"socks5h://localhost{self}" if self.path else f"socks5h://{self}"

    @property
    def has_address(self) -> bool:
        """Whether it can be listened at without a look-up."""
        return self.path is not None or self.host == "localhost" or is_address(self.host)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.path is not None or is_loopback(self.host)


def host_and_port(text: str, name: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, IPv6 in brackets. A SetupError calls it ``name``."""
    found = _host_and_port(text)
    if found is None:
        raise SetupError(
            f"{name} takes a host and a port from 1 to 65535, for example 127.0.0.1:3080, not "
            f"{in_quotes(text)}."
        )
    return found


def _host_and_port(text: str) -> tuple[str, int] | None:
    host, _, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    known = is_ipv6(host) if bracketed else bool(_HOSTNAME.fullmatch(host))
    port = int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) else 0
    return (host, port) if known and 1 <= port <= 65535 else None


def is_address(host: str) -> bool:
    """Whether this is an IP address, without a zone."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def is_ipv6(host: str) -> bool:
    """Whether this is an IPv6 address, without a zone."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host


def is_loopback(host: str) -> bool:
    """Whether this address, or ``localhost``, is this machine's alone; other names are not known to
    be."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
