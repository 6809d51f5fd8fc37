"""Onion services for the tests, and the control connections that make them."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint

from tests.daemon.process import installed, soon
from tortxd.testing import Client

if TYPE_CHECKING:
    from tortxd.tor.control import Control


class Unheard:
    """Who does not care when its control connection is lost."""

    def control_lost(self, reason: str) -> None:
        """Nothing follows from it."""


async def control_of(socket: Path) -> Control:
    """A further control connection to a Tor."""
    # Importing it installs the reactor, which pytest-twisted wants to do.
    from tortxd.tor.control import Control

    endpoint = UNIXClientEndpoint(installed(), str(socket))
    return await Control.connect(installed(), endpoint, Unheard(), name="it")


async def publish(client: Client, port: int) -> str:
    """Make this Tor serve a port as an onion service; its name, once it can be found."""
    control = await control_of(client.control_socket)
    uploaded: Deferred[None] = Deferred()
    under_way = Counter[str]()

    def heard(line: str) -> None:
        """Clients ask one of several directories: all that are sent it must have it."""
        action, _, _, directory = line.split()[:4]
        if action == "UPLOAD":
            under_way[directory] += 1
        elif action == "UPLOADED":
            under_way[directory] -= 1
            if not any(under_way.values()) and not uploaded.called:
                uploaded.callback(None)

    await control.subscribe([("HS_DESC", heard)])
    # Detached: it outlives this connection.
    reply = await control.tell(f"ADD_ONION NEW:ED25519-V3 Flags=DiscardPK,Detach Port=80,{port}")
    name = next(
        line.partition("ServiceID=")[2] for line in reply.splitlines() if "ServiceID=" in line
    )
    await soon(uploaded)
    control.close()
    return f"{name}.onion"


def unknown_onion() -> str:
    """A well-formed name of an onion service that does not exist (rend-spec-v3, section 6)."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    checksum = hashlib.sha3_256(b".onion checksum" + key + b"\3").digest()[:2]
    return base64.b32encode(key + checksum + b"\3").decode().lower() + ".onion"
