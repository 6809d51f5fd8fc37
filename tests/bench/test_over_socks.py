"""The gateway that is measured is one that serves: it is made of more than types can tell."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred

from bench.gateways.over_socks import make
from tests.socks_server import SocksServer
from tests.web_client import ask
from tortxd.gateway.limits import Limits


@pytest.mark.parametrize("path", ["/openapi.json", "/proxy?url=http%3A%2F%2Fa.example%2F"])
@ensureDeferred
async def test_the_gateway_over_socks_answers(path: str) -> None:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    socks = SocksServer(reactor, code=5)
    socks_port: Any = reactor.listenTCP(0, socks, interface="127.0.0.1")
    factory = make(reactor, 1, socks_port.getHost().port, Limits())
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    reply = await ask(reactor, port.getHost().port, path)
    expected = (200, None) if "proxy" not in path else (502, "connect_refused")
    assert (reply.status, reply.json.get("code")) == expected
    factory.gateway.stop()
    for one in (port, socks_port):
        await maybeDeferred(one.stopListening)
    for front in factory.connections:
        front.transport.abortConnection()
