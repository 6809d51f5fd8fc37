"""The library's agent on a Tor of its own: what it shares with the gateway."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from treq import content
from twisted.internet.task import deferLater

from tests.gateway.conftest import Gateway
from tortxd.client.agent import TorAgent
from tortxd.client.treq_client import TreqClient
from tortxd.errors import OriginReset, TorDown, TorNotReady
from tortxd.testing import Canned
from tortxd.tor.status import Bootstrapping, Stopped

ORIGIN = "http://origin.test.example"


def agent_of(gateway: Gateway, **options: Any) -> TorAgent:
    return TorAgent(gateway.core, gateway.core.keys, timeout=5.0, **options)


async def ask(gateway: Gateway, agent: TorAgent, path: str = "/echo") -> bytes:
    return await content(await agent.request(b"GET", (ORIGIN + path).encode()))


@ensureDeferred
async def test_one_pool(gateway: Gateway) -> None:
    agent = agent_of(gateway)
    for _ in range(2):
        await ask(gateway, agent)
    assert len(gateway.socks.served) == len(gateway.core.pool) == 1
    await ask(gateway, agent_of(gateway, key=b"alice"))
    await ask(gateway, agent_of(gateway, caller=b"another"))
    assert len({served.username for served in gateway.socks.served}) == 3


@ensureDeferred
async def test_rule_10_a_new_identity_uses_no_old_connection(gateway: Gateway) -> None:
    agent = agent_of(gateway)
    await ask(gateway, agent)
    (old,) = gateway.socks.served
    await gateway.core.renew_all()
    await old.lost
    await ask(gateway, agent)
    assert len({served.username for served in gateway.socks.served}) == 2


@ensureDeferred
async def test_a_stop_ends_what_is_under_way_and_what_is_kept(gateway: Gateway) -> None:
    agent = agent_of(gateway)
    await ask(gateway, agent)
    asking = agent.request(b"GET", (ORIGIN + "/hang").encode())
    await gateway.socks.asked(1)
    gateway.core.stop()
    with pytest.raises(TorDown):
        await asking
    for served in gateway.socks.served:
        await served.lost
    assert not gateway.core.under_way


@ensureDeferred
async def test_who_asks_again_at_once_does_not_keep_a_stop_from_ending(gateway: Gateway) -> None:
    agent, failed = agent_of(gateway), []

    def again(reason: Any) -> Any:
        failed.append(reason)
        return agent.request(b"GET", (ORIGIN + "/hang").encode())

    asking = agent.request(b"GET", (ORIGIN + "/hang").encode()).addErrback(again)
    gateway.core.stop()
    assert not failed
    while not failed:
        await deferLater(gateway.reactor, 0.0)
    asking.addErrback(lambda _: None).cancel()
    await asking
    assert not gateway.core.under_way


@pytest.mark.parametrize(
    ("status", "kind"), [(Bootstrapping(5), TorNotReady), (Stopped(), TorDown)]
)
@ensureDeferred
async def test_why_tor_carries_nothing(gateway: Gateway, status: Any, kind: Any) -> None:
    gateway.link.status, gateway.link.socks_address = status, None
    agent = TorAgent(gateway.core, gateway.core.keys, timeout=0.1)
    with pytest.raises(kind):
        await agent.request(b"GET", ORIGIN.encode())


@pytest.mark.parametrize(("reason", "whole"), [("DONE", True), ("DESTROY", False), (None, False)])
@ensureDeferred
async def test_rule_14_the_control_port_says_how_a_body_ended(
    gateway: Gateway, reason: str | None, whole: bool
) -> None:
    gateway.link.reason = reason
    response = await TreqClient(agent_of(gateway)).get(ORIGIN + "/close/5000")
    if whole:
        assert len(await response.content()) == 5000
    else:
        with pytest.raises(OriginReset):
            await response.content()


@ensureDeferred
async def test_headers_are_the_destinations(gateway: Gateway) -> None:
    wire = (
        b"HTTP/1.1 200 Fine\r\nContent-Length: 1\r\nX-A: 1\r\nX-A: 2\r\nConnection: X-B\r\n"
        b"X-B: 3\r\nKeep-Alive: timeout=5\r\n\r\na"
    )
    gateway.origin.canned[b"/odd"] = Canned(wire, "close")
    response: Any = await agent_of(gateway).request(b"GET", (ORIGIN + "/odd").encode())
    assert (response.code, response.phrase, response.length) == (200, b"Fine", 1)
    assert dict(response.headers.getAllRawHeaders()) == {b"X-A": [b"1", b"2"]}
    assert response.version == (b"HTTP", 1, 1)
    assert (response.request.method, response.previousResponse) == (b"GET", None)
    assert await content(response) == b"a"


@ensureDeferred
async def test_treq_reads_bodies_to_their_end(gateway: Gateway) -> None:
    """treq's own client, over the agent alone."""
    from treq.client import HTTPClient

    response = await HTTPClient(agent_of(gateway)).get(ORIGIN + "/chunked/100000")
    assert len(await response.content()) == 100_000
