"""Which Tor is supervised."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from tortxd.tor.link import SocksAddress

PASSWORD_FIELD = "`control_password_file`"  # noqa: S105
"""What a sentence calls the file that holds the password of a control port."""


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
    """For HashedControlPassword; None: cookie. It counts where its file cannot be read any more."""
    socks: SocksAddress | None = None
    """The SOCKS address to use; None: the one that Tor names."""
    password_file: Path | None = None
    """Holds the password; read anew for each connection, since Tor may have another one by then."""
