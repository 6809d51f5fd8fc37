"""Requests of tests to the gateway, and a connection in memory."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from tests.gateway.conftest import ORIGIN, Gateway
from tests.web_client import Reply
from tortxd.gateway.front.listener import FrontFactory


async def forward(
    gateway: Gateway, path: str, *headers: str, method: str = "GET", body: bytes = b""
) -> Reply:
    """Ask the proxy for a path of the origin, or for a whole URL."""
    url = path if "://" in path else ORIGIN + path
    lines = [f"{method} {url} HTTP/1.1", "Host: origin.test.example", *headers, "", ""]
    wire = await gateway.connect()
    wire.send("\r\n".join(lines).encode() + body)
    return await wire.reply(method.encode())


def post(gateway: Gateway, target: str, *headers: str) -> bytes:
    lines = [f"POST {gateway.path(target)} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def in_memory(gateway: Gateway) -> tuple[FrontFactory, Clock, StringTransportWithDisconnection]:
    """A connection whose time the test makes pass."""
    clock = Clock()
    gateway.core.timeouts.clock = clock
    gateway.core.timeouts.stop()
    front = gateway.factory.buildProtocol(None)
    transport = StringTransportWithDisconnection()
    assert front is not None
    transport.protocol = front
    front.makeConnection(transport)  # type: ignore[no-untyped-call]
    return gateway.factory, clock, transport
