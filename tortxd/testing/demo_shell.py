"""What makes another terminal's commands, those of the README above all, meet the demonstration."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen

from tortxd.testing.demo_daemon import DaemonProcess
from tortxd.testing.model import WARNING
from tortxd.testing.origin import Origin

_CURLRC = ".curlrc"
_HEAD = f"""\
# For a terminal of its own, as long as the demonstration runs:  . {{file}}
# Then the commands of tortxd's README meet the demonstration as they stand. {WARNING}
"""


@frozen
class Shell:
    """Where the demonstration's parts are, as a shell is told."""

    daemon: DaemonProcess
    origin: Origin
    socks_port: int
    sites: tuple[str, ...]
    """The names for which the origin stands in."""

    @classmethod
    def of(
        cls, daemon: DaemonProcess, origin: Origin, socks_url: str, sites: Iterable[str]
    ) -> Shell:
        """From the SOCKS URL that ``/health`` tells."""
        return cls(daemon, origin, urlsplit(socks_url).port or 0, tuple(sites))

    def variables(self, directory: Path) -> dict[str, str]:
        """The environment of such a terminal."""
        return {
            # tortxd's own: a program attaches to the Tor that is there.
            "TORTXD_DATA_DIR": str(self.daemon.data_dir),
            "TORTXD_CONTROL": f"unix:{self.daemon.control_socket()}",
            "TORTXD_CHECK_URL": f"{self.origin.https}/api/ip",
            "TORTXD_IP_URL": f"{self.origin.https}/ip",
            "GATEWAY_PORT": str(self.daemon.port),
            "TOR_SOCKS_PORT": str(self.socks_port),
            # The only authority that signs for the sites here.
            "SSL_CERT_FILE": str(self.origin.ca_file),
            "CURL_CA_BUNDLE": str(self.origin.ca_file),
            "CURL_HOME": str(directory),
        }

    def curl_lines(self) -> list[str]:
        """curl's configuration: an unprivileged server cannot have the ports 80 and 443."""
        ports = ((80, self.origin.http_port), (443, self.origin.https_port))
        return [
            f'connect-to = "{site}:{asked}:{site}:{port}"'
            for site in self.sites
            for asked, port in ports
        ]

    def write(self, directory: Path) -> Path:
        """Write both into ``directory``; return the file for the shell."""
        (directory / _CURLRC).write_text("\n".join(self.curl_lines()) + "\n")
        file = directory / "env"
        exports = [
            f"export {name}={shlex.quote(value)}"
            for name, value in self.variables(directory).items()
        ]
        file.write_text(_HEAD.format(file=shlex.quote(str(file))) + "\n".join(exports) + "\n")
        return file
