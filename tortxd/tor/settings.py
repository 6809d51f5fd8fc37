"""Which Tor is supervised."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from tortxd.tor.link import SocksAddress


@frozen
class LaunchSettings:
    """A Tor of our own."""

    data_dir: Path
    """Private, locked while it runs; guards persist in it."""
    tor: str | None = None
    """The executable, a path or a name; None: found on PATH."""
    socks: SocksAddress | None = None
    """The SOCKS port that was asked for; None: 9050, or a free one."""
    torrc_lines: tuple[str, ...] = ()
    """The user's further configuration."""
    torrc_name: str = "The torrc file"
    """How a sentence calls the file that has these lines."""


@frozen
class AttachSettings:
    """A Tor that others run."""

    control: str
    """A Twisted client endpoint: ``tcp:127.0.0.1:9051``, ``unix:/run/tor/control``."""
    password: str | None = None
    """For HashedControlPassword; None: cookie."""
    socks: SocksAddress | None = None
    """The SOCKS address to use; None: the one that Tor names."""
