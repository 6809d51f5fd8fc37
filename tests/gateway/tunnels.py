"""CONNECT, as tests of the gateway send it."""

from __future__ import annotations

from base64 import b64encode

from twisted.internet.task import deferLater

from tests.gateway.conftest import Gateway
from tests.socks_server import Served
from tests.web_client import Reply, Wire, connect_to

TOKEN = b"a-token"


def basic(user: str, password: str) -> str:
    """A Proxy-Authorization field."""
    return "Proxy-Authorization: Basic " + b64encode(f"{user}:{password}".encode()).decode()


async def refused(gateway: Gateway, authority: str, *headers: str) -> Reply:
    """The answer to a CONNECT that fails."""
    wire = await gateway.connect()
    wire.send(connect_to(authority, *headers))
    return await wire.reply()


def head_of(wire: Wire) -> list[str]:
    """The lines of the response's head."""
    return bytes(wire.raw).partition(b"\r\n\r\n")[0].decode().split("\r\n")


async def far_end_has(gateway: Gateway, served: Served, data: bytes) -> None:
    """Wait until the destination has got this much."""
    while len(served.received) < len(data):
        assert not served.lost.called, "the tunnel ended before"
        await deferLater(gateway.reactor, 0.001)
    assert served.received == data
