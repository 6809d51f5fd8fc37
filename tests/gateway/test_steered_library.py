"""The library on a Tor of its own, where it steers: agents, treq and endpoints."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from treq import content
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent

from tests.gateway.conftest import EXIT, ORIGIN, Gateway
from tests.gateway.tunnels import far_end_has
from tortxd import TorInfo
from tortxd.client.agent import TorAgent
from tortxd.client.treq_client import TreqClient
from tortxd.errors import (
    ConnectRefused,
    ExitUnavailable,
    OnionAuthRequired,
    Overloaded,
    ResolveFailed,
    TlsFailed,
    TorDown,
    TorTimeout,
)
from tortxd.policy.steering import steering_for
from tortxd.rates import Rate
from tortxd.relay.endpoint import StreamEndpoint
from tortxd.testing import Canned
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.isolation import isolation_of
from tortxd.tor.link import Relay
from tortxd.tor.status import Stopped

DE, FR, SE = "D" * 40, "F" * 40, "5" * 40
REFUSED, GENERAL = 5, 1
"""SOCKS replies (RFC 1928, section 6)."""


@pytest.fixture(autouse=True)
def exits(gateway: Gateway) -> None:
    gateway.link.exits = {DE: "de", FR: "fr", SE: "se"}


def agent_of(gateway: Gateway, key: bytes | None = None, **steering: Any) -> TorAgent:
    return TorAgent(
        gateway.core,
        gateway.core.keys,
        key=key,
        caller=b"app",
        steering=steering_for(**steering),
        timeout=5.0,
    )


def by(gateway: Gateway) -> list[str]:
    """The exits that requests were led to, in their order."""
    return [lead.exit for lead in gateway.link.leads]


async def ask(agent: TorAgent, path: str = "/echo", method: bytes = b"GET") -> TorInfo:
    response = await agent.request(method, (ORIGIN + path).encode())
    await content(response)
    return response.tor


# --- which way a response came --------------------------------------------------------------------


@ensureDeferred
async def test_a_response_says_which_way_it_came(gateway: Gateway) -> None:
    way = await ask(agent_of(gateway))
    relay = Relay(EXIT.fingerprint, None, EXIT.address, EXIT.country)
    assert way == TorInfo("7", relay, attempts=1, exit_changed=False)
    assert not gateway.link.leads


@ensureDeferred
async def test_what_is_not_known_is_none(gateway: Gateway) -> None:
    gateway.link.only_circuit = None
    assert await ask(agent_of(gateway)) == TorInfo()


@ensureDeferred
async def test_destinations_cannot_say_it(gateway: Gateway) -> None:
    gateway.link.only_circuit = None
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTortxd-Exit: A\r\nTortxd-Attempts: 9\r\n\r\n"
    gateway.origin.canned[b"/forged"] = Canned(wire, "close")
    response = await agent_of(gateway).request(b"GET", (ORIGIN + "/forged").encode())
    assert response.tor == TorInfo()
    assert response.headers.getRawHeaders("Tortxd-Exit") == ["A"]  # it is what it has sent


@ensureDeferred
async def test_treqs_responses_say_it_after_redirects_that_of_the_last(gateway: Gateway) -> None:
    client = TreqClient(agent_of(gateway, exit_country="fr"))
    response = await client.get(ORIGIN + "/redirect?to=/echo")
    await response.content()
    assert (response.tor.circuit, response.tor.exit is not None) == ("7", True)
    gateway.link.only_circuit = None
    later = await client.get("http://other.test.example/redirect?to=/echo")
    assert later.tor.circuit is None
    assert [one.tor.circuit for one in response.history()] == ["7"]


@pytest.mark.parametrize("path", ["/echo", "/gzip"])
@ensureDeferred
async def test_treqs_own_client_wraps_it(gateway: Gateway, path: str) -> None:
    response: Any = await HTTPClient(agent_of(gateway)).get(ORIGIN + path)
    while not hasattr(response, "tor"):
        response = response.original
    assert response.tor.circuit == "7"


# --- agents ---------------------------------------------------------------------------------------


@ensureDeferred
async def test_an_agent_that_chooses_where_its_requests_leave(gateway: Gateway) -> None:
    agent = agent_of(gateway, exit_country=("fr", "us"))
    for _ in range(2):
        assert (await ask(agent)).attempts == 1
    assert by(gateway) == [FR]  # one connection, for both
    with pytest.raises(ExitUnavailable):
        await ask(agent_of(gateway, exit_country="us"))
    assert len(gateway.socks.served) == 1


@ensureDeferred
async def test_agents_of_one_key_that_choose_otherwise_share_nothing(gateway: Gateway) -> None:
    for steering in ({}, {"exit": SE}, {"exit_country": "de"}):
        await ask(agent_of(gateway, b"alice", **steering))
    assert by(gateway) == [SE, DE]
    assert len({served.username for served in gateway.socks.served}) == 3


@ensureDeferred
async def test_a_sticky_key_keeps_its_exit_for_agents_that_do_not_say_so(gateway: Gateway) -> None:
    await ask(agent_of(gateway, b"alice", exit_country="se", sticky=600))
    plain = agent_of(gateway, b"alice")
    await ask(plain)
    await ask(agent_of(gateway, b"bob"))
    assert by(gateway) == [SE]
    assert [served.target[0] for served in gateway.socks.served if served.target] == [
        gateway.link.leads[0].name,
        "origin.test.example",
    ]
    del gateway.link.exits[SE]
    gateway.link.exits["5F" * 20] = "se"
    assert (await ask(plain)).exit_changed
    with pytest.raises(ExitUnavailable, match="strict"):
        strict = agent_of(gateway, b"alice", exit_country="se", sticky=600, strict=True)
        gateway.link.exits.clear()
        await ask(strict)


@ensureDeferred
async def test_an_agent_tries_again(gateway: Gateway) -> None:
    gateway.socks.code = REFUSED
    with pytest.raises(ConnectRefused) as caught:
        await ask(agent_of(gateway, exit_country=("de", "fr", "se"), retry=2))
    assert caught.value.attempts == 3
    assert sorted(by(gateway)) == sorted((DE, FR, SE))
    with pytest.raises(ConnectRefused) as caught:
        await ask(agent_of(gateway, b"a", retry=2), method=b"DELETE")
    assert caught.value.attempts == 1


# --- endpoints ------------------------------------------------------------------------------------


class Talking(Protocol):
    """Keeps what it hears."""

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(type(reason.value).__name__)


class Started(Factory):
    """Counts how often it was started and stopped."""

    noisy = False

    def __init__(self, make: Any = Talking) -> None:
        self.make = make
        self.events: list[str] = []

    def startFactory(self) -> None:
        self.events.append("started")

    def stopFactory(self) -> None:
        self.events.append("stopped")

    def buildProtocol(self, addr: Any) -> Any:
        self.events.append(f"{addr.hostname.decode()}:{addr.port}")
        return self.make()


def endpoint_of(
    gateway: Gateway,
    port: int = 80,
    *,
    host: str = "origin.test.example",
    key: bytes | None = b"alice",
    tls: bool = False,
    timeout: float = 5.0,
    **steering: Any,
) -> StreamEndpoint:
    return StreamEndpoint(
        gateway.core,
        gateway.core.keys,
        isolation_of(key, host, b"app"),
        host,
        port,
        tls=tls,
        steering=steering_for(**steering),
        timeout=timeout,
    )


def turn(gateway: Gateway) -> Deferred[None]:
    """Let what is under way in the reactor come to its end."""
    return deferLater(gateway.reactor, 0)


async def connected(endpoint: StreamEndpoint, factory: Factory | None = None) -> Talking:
    protocol = await endpoint.connect(factory or Started())
    assert isinstance(protocol, Talking)
    return protocol


@pytest.mark.parametrize("steering", [{}, {"exit_country": "fr"}])
@ensureDeferred
async def test_a_stream_is_the_programs_own(gateway: Gateway, steering: dict[str, Any]) -> None:
    gateway.socks.origin, gateway.socks.behind = None, b"220 ready\r\n"
    factory = Started()
    protocol = await connected(endpoint_of(gateway, 25, **steering), factory)
    await turn(gateway)
    assert protocol.heard == b"220 ready\r\n"
    (served,) = gateway.socks.served
    assert not served.early
    assert not gateway.core.under_way
    protocol.transport.write(b"HELO")
    await far_end_has(gateway, served, b"HELO")
    served.transport.loseConnection()
    assert await protocol.lost == "ConnectionDone"
    await turn(gateway)
    assert factory.events == ["started", "origin.test.example:25", "stopped"]


@ensureDeferred
async def test_a_stream_leaves_where_it_is_told_to(gateway: Gateway) -> None:
    protocol = await connected(endpoint_of(gateway, exit=(FR, "A" * 40)))
    (lead,) = gateway.link.leads
    assert (lead.exit, lead.host, lead.released) == (FR, "origin.test.example", True)
    assert gateway.socks.served[0].target == (lead.name, 80)
    assert gateway.socks.served[0].username == lead.username
    protocol.transport.abortConnection()
    with pytest.raises(ExitUnavailable):
        await endpoint_of(gateway, exit_country="us").connect(Started())


@ensureDeferred
async def test_a_secure_stream_by_a_chosen_exit(secure: Gateway) -> None:
    endpoint = endpoint_of(secure, 443, tls=True, exit_country="se")
    protocol = await connected(endpoint)
    assert by(secure) == [SE]
    protocol.transport.write(b"GET /bytes/3 HTTP/1.0\r\nHost: origin.test.example\r\n\r\n")
    await protocol.lost
    assert protocol.heard.startswith(b"HTTP/1.")


@ensureDeferred
async def test_the_certificate_must_be_for_the_host_and_not_for_the_lead(secure: Gateway) -> None:
    with pytest.raises(TlsFailed, match="another name"):
        endpoint = endpoint_of(secure, 443, host="other.test.example", tls=True, exit=SE)
        await endpoint.connect(Started())


@ensureDeferred
async def test_streams_of_a_sticky_key_keep_its_exit(gateway: Gateway) -> None:
    for steering in ({"exit_country": "se", "sticky": 600}, {}, {"sticky": 600}):
        (await connected(endpoint_of(gateway, **steering))).transport.abortConnection()
    assert by(gateway) == [SE] * 3


@ensureDeferred
async def test_a_stream_is_tried_again_until_it_is_open(gateway: Gateway) -> None:
    gateway.socks.held = True
    factory = Started()
    connecting = endpoint_of(gateway, retry=1).connect(factory)
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer(0)
    protocol: Any = await connecting
    first, second = gateway.socks.served
    assert first.username != second.username
    assert factory.events == ["started", "origin.test.example:80"]
    protocol.transport.abortConnection()
    await protocol.lost
    await turn(gateway)
    assert factory.events[2:] == ["stopped"]


@ensureDeferred
async def test_why_no_try_succeeded(gateway: Gateway) -> None:
    gateway.socks.code, gateway.link.reason = GENERAL, "RESOLVEFAILED"
    factory = Started()
    with pytest.raises(ResolveFailed) as caught:
        await endpoint_of(gateway, exit_country=("de", "fr"), retry=3).connect(factory)
    assert caught.value.attempts == 4
    assert set(by(gateway)) == {DE, FR}
    assert all(lead.released for lead in gateway.link.leads)
    assert factory.events == ["started", "stopped"]
    gateway.socks.code = 0xF4
    with pytest.raises(OnionAuthRequired) as denied:
        await endpoint_of(gateway, host="a" * 56 + ".onion", retry=3).connect(Started())
    assert denied.value.attempts == 1


@ensureDeferred
async def test_an_exit_that_cannot_be_reached_makes_room_for_another(gateway: Gateway) -> None:
    gateway.socks.held = True
    connecting = endpoint_of(gateway, exit_country=("de", "fr")).connect(Started())
    await gateway.socks.asked(1)
    del gateway.link.exits[DE]
    gateway.link.leads[0].unreachable()
    (await gateway.socks.asked(2)).answer()
    protocol: Any = await connecting
    assert by(gateway) == [DE, FR]
    protocol.transport.abortConnection()


@pytest.mark.parametrize("phase", ["led", "asked"])
@ensureDeferred
async def test_who_gives_up_leaves_nothing(gateway: Gateway, phase: str) -> None:
    gateway.socks.held = True
    if phase == "led":
        gateway.link.leading = Deferred()
    factory = Started()
    connecting = endpoint_of(gateway, exit=DE).connect(factory)
    if phase == "asked":
        await gateway.socks.asked()
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    assert factory.events == ["started", "stopped"]
    assert not gateway.core.under_way
    for served in gateway.socks.served:
        await served.lost
    assert all(lead.released for lead in gateway.link.leads) == (phase == "asked")


@ensureDeferred
async def test_streams_have_the_budget_of_requests(gateway: Gateway) -> None:
    gateway.link.budget = CircuitBudget(gateway.reactor, None, Rate(0.01, 1))
    (await connected(endpoint_of(gateway, key=b"a"))).transport.abortConnection()
    with pytest.raises(Overloaded):
        await endpoint_of(gateway, key=b"b").connect(Started())


@ensureDeferred
async def test_streams_are_counted(gateway: Gateway) -> None:
    (await connected(endpoint_of(gateway))).transport.abortConnection()
    gateway.socks.code = REFUSED
    with pytest.raises(ConnectRefused):
        await endpoint_of(gateway).connect(Started())
    counts = gateway.core.journal.counts
    assert counts == {("library", "ok"): 1, ("library", "connect_refused"): 1}
    (interval,) = gateway.core.journal.intervals
    assert (interval.requests, interval.failed) == (2, 1)


@ensureDeferred
async def test_a_new_identity_is_theirs_too(gateway: Gateway) -> None:
    endpoint = endpoint_of(gateway)
    for _ in range(2):
        (await connected(endpoint)).transport.abortConnection()
        gateway.core.renew(endpoint.isolation)
    assert len({served.username for served in gateway.socks.served}) == 2


@ensureDeferred
async def test_who_connects_again_at_once_does_not_keep_a_stop_from_ending(
    gateway: Gateway,
) -> None:
    gateway.socks.held = True
    endpoint = endpoint_of(gateway)
    connecting = endpoint.connect(Started()).addErrback(lambda _: endpoint.connect(Started()))
    gateway.link.status = Stopped()
    gateway.link.socks_address = None
    gateway.core.end_under_way()
    with pytest.raises(TorDown):
        await connecting


@ensureDeferred
async def test_a_stream_that_does_not_come_in_time(gateway: Gateway) -> None:
    gateway.socks.held = True
    with pytest.raises(TorTimeout):
        await endpoint_of(gateway, timeout=0.05).connect(Started())
    await gateway.socks.served[0].lost


class Refusing(Protocol):
    """Cannot be connected."""

    def connectionMade(self) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("make", "kind"), [(lambda: None, NoProtocol), (Refusing, ZeroDivisionError)]
)
@ensureDeferred
async def test_a_program_that_fails_hears_of_it(gateway: Gateway, make: Any, kind: Any) -> None:
    factory = Started(make)
    with pytest.raises(kind):
        await endpoint_of(gateway).connect(factory)
    await gateway.socks.served[0].lost
    assert factory.events[-1] == "stopped"


@ensureDeferred
async def test_a_protocol_that_cancels_its_own_connecting(gateway: Gateway) -> None:
    class Changing(Talking):
        def connectionMade(self) -> None:
            connecting.cancel()

    protocol = Changing()
    factory = Started(lambda: protocol)
    gateway.socks.held = True
    connecting = endpoint_of(gateway).connect(factory)
    (await gateway.socks.asked()).answer()
    with pytest.raises(CancelledError):
        await connecting
    await protocol.lost
    await turn(gateway)
    assert factory.events.count("stopped") == 1


def test_nothing_of_the_destination_shows(gateway: Gateway) -> None:
    shown = repr(endpoint_of(gateway, host="canary.example", key=b"canary"))
    assert "canary" not in shown


def test_an_agent_is_one_of_twisteds(gateway: Gateway) -> None:
    assert IAgent.providedBy(agent_of(gateway))
