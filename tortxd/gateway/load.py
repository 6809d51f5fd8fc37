"""How much is being served, and for whom: what is over a limit is refused, and no client takes all
the places that there are.

A client is whoever connects from one address, or from one network where that is of IPv6 (/64, of
which anyone has all the addresses); all who come by unix sockets are one. The token does not tell
clients apart here: all present the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from attrs import define
from twisted.internet.interfaces import IAddress

from tortxd.errors import Overloaded
from tortxd.gateway.limits import Limits

ALL_CONNECTIONS = "The gateway serves as many connections as it can; try again shortly."
OWN_CONNECTIONS = (
    "As many connections as one client may have are open from this address; close some, or try "
    "again shortly."
)
ALL_REQUESTS = "The gateway carries as many requests as it can; try again shortly."
OWN_REQUESTS = (
    "As many requests as one client may have under way are so from this address; try again shortly."
)


@define(eq=False)
class Client:
    """Whoever connects from one place: what of the gateway it has."""

    name: bytes
    connections: int = 0
    """Those that are served."""
    requests: int = 0
    """Those that are being carried."""


class Load:
    """Counts connections and requests.

    :param limits: asked each time.
    :param full: called whenever one is refused since there is no place for anybody.
    """

    def __init__(
        self, limits: Callable[[], Limits], full: Callable[[], object] = lambda: None
    ) -> None:
        self._limits = limits
        self._full = full
        self.refused: Callable[[str], object] = lambda _: None
        """Called with a sentence for the log whenever one is over a limit."""
        self._clients: dict[bytes, Client] = {}
        self.connections = 0
        self.requests = 0

    def client(self, name: bytes) -> Client:
        """The client of this name; forgotten as soon as it has nothing, see :meth:`forget`."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = Client(name)
        return client

    def __len__(self) -> int:
        return len(self._clients)

    # --- connections -----------------------------------------------------------------------------

    def connects(self, client: Client) -> None:
        """It has one more connection, which is served."""
        client.connections += 1
        self.connections += 1

    def disconnects(self, client: Client) -> None:
        """It has one less."""
        client.connections -= 1
        self.connections -= 1

    def may_connect(self, client: Client) -> bool:
        """Whether it may have another connection."""
        limits = self._limits()
        return limits.may_have_one_more(limits.clients, self.connections, client.connections)

    def no_connection(self, client: Client) -> Overloaded:
        """Why it may not."""
        if self.connections >= self._limits().clients:
            self._full()
            self.refused("Connections are refused (503 overloaded): as many are open as may be.")
            return Overloaded(ALL_CONNECTIONS)
        self.refused("Connections are refused (503 overloaded) to a client that has its share.")
        return Overloaded(OWN_CONNECTIONS)

    def no_descriptor(self) -> Overloaded:
        """Why nobody may: no file descriptor is left."""
        self._full()
        self.refused("Connections are refused (503 overloaded): no file descriptor is left.")
        return Overloaded(ALL_CONNECTIONS)

    def forget(self, client: Client) -> None:
        """It has gone, perhaps with its last connection."""
        if not client.connections and not client.requests:
            self._clients.pop(client.name, None)

    # --- requests --------------------------------------------------------------------------------

    def begin(self, client: Client) -> None:
        """One of its requests is to be carried, until :meth:`end`.

        :raises Overloaded: it is one too many.
        """
        limits = self._limits()
        if not limits.may_have_one_more(limits.requests, self.requests, client.requests):
            raise self._no_request(limits)
        self.requests += 1
        client.requests += 1

    def end(self, client: Client) -> None:
        """One that was carried is over."""
        self.requests -= 1
        client.requests -= 1

    def _no_request(self, limits: Limits) -> Overloaded:
        if self.requests >= limits.requests:
            self._full()
            self.refused("Requests are refused (503 overloaded): as many are under way as may be.")
            return Overloaded(ALL_REQUESTS)
        self.refused("Requests are refused (503 overloaded) to a client that has its share.")
        return Overloaded(OWN_REQUESTS)


def client_name(address: IAddress) -> bytes:
    """What a client is known by: its address, its network of IPv6, or ``unix``."""
    host = getattr(address, "host", None)
    if host is None:
        return b"unix"
    if ":" not in host:
        return bytes(host, "ascii")
    ip = ipaddress.IPv6Address(host.partition("%")[0])
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped).encode()
    return ip.packed[:8]
