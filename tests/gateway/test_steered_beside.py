"""``TorHttpClient`` beside a daemon: where it is steered, it asks the gateway for connections."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from tests.gateway.conftest import EXIT, ORIGIN, Gateway, policy
from tests.socks_server import Served
from tortxd import Config, TorHttpClient, TorInfo
from tortxd.addresses import SocksAddress
from tortxd.client.gateway_carrier import GatewayCarrier, GatewayKey
from tortxd.errors import (
    BadRequest,
    ConnectRefused,
    ExitUnavailable,
    OriginReset,
    TargetForbidden,
    TlsFailed,
    TorDown,
    TorNotReady,
    TorTimeout,
    Unauthorized,
)
from tortxd.policy.access import AccessPolicy
from tortxd.policy.steering import Choice, Steering, Sticky, steering_for
from tortxd.relay.placement import Steered
from tortxd.tor.isolation import IsolationKeys, isolation_of
from tortxd.tor.link import Relay
from tortxd.tor.status import Bootstrapping
from tortxd.tor.tls import ClientTls

DE, FR, SE = "D" * 40, "F" * 40, "5" * 40
REFUSED = 5
"""A SOCKS reply (RFC 1928, section 6)."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def exits(gateway: Gateway) -> None:
    gateway.link.exits = {DE: "de", FR: "fr", SE: "se"}


def client_of(gateway: Gateway, **changes: Any) -> TorHttpClient:
    address = gateway.link.socks_address
    assert address is not None
    config = Config(f"127.0.0.1:{address.port}", f"127.0.0.1:{gateway.ports['front']}", timeout=5.0)
    tls = ClientTls()
    tls.context.load_verify_locations(str(gateway.origin.ca_file))
    return TorHttpClient(evolve(config, **changes), gateway.reactor, tls=tls)


def by(gateway: Gateway) -> list[str]:
    """The exits that streams were led to, in their order."""
    return [lead.exit for lead in gateway.link.leads]


def usernames(gateway: Gateway) -> set[bytes]:
    return {served.username for served in gateway.socks.served}


async def asked(gateway: Gateway, number: int) -> Served:
    """The destination of the stream with this number, once it has a request."""
    served = await gateway.socks.asked(number)
    while b"\r\n\r\n" not in served.received:
        await deferLater(gateway.reactor, 0)
    return served


# --- the way --------------------------------------------------------------------------------------


@ensureDeferred
async def test_the_gateway_is_asked_and_says_which_way_it_went(gateway: Gateway) -> None:
    alice = client_of(gateway).isolated("alice", exit_country="fr")
    response = await alice.get(ORIGIN + "/echo", headers={"X-Mine": "1"})
    relay = Relay(EXIT.fingerprint, None, EXIT.address, EXIT.country)
    assert response.tor == TorInfo("7", relay)
    assert by(gateway) == [FR]
    sent = dict((await response.json())["headers"])
    assert (sent["Host"], sent["X-Mine"]) == ("origin.test.example", "1")
    assert not any(name.lower().startswith(("tor", "proxy")) for name in sent)
    assert gateway.core.journal.counts[("connect", "ok")] == 0  # it is kept open


@ensureDeferred
async def test_tls_is_the_clients_own(gateway: Gateway) -> None:
    gateway.socks.origin = gateway.origin.https_port
    client = client_of(gateway).isolated("alice", exit=SE)
    response = await client.get("https://origin.test.example/bytes/100000")
    assert len(await response.content()) == 100_000
    assert (response.tor.circuit, by(gateway)) == ("7", [SE])
    (served,) = gateway.socks.served
    assert served.received.startswith(b"\x16") and not served.early
    with pytest.raises(TlsFailed, match="another name"):
        await client.get("https://other.test.example/")


@ensureDeferred
async def test_connections_are_kept(gateway: Gateway) -> None:
    client = client_of(gateway)
    for _ in range(3):
        alice = client.isolated("alice", exit_country="fr", retry=1)
        response = await alice.get(ORIGIN + "/echo")
        await response.content()
        assert response.tor.attempts == 1
    assert len(gateway.socks.served) == 1


@ensureDeferred
async def test_what_is_told_to_the_gateway_keeps_connections_apart(gateway: Gateway) -> None:
    client = client_of(gateway)
    for isolated in (
        client.isolated("alice", exit_country="fr"),
        client.isolated("bob", exit_country="fr"),
        client.isolated("alice", exit_country=("de", "fr")),
        client.isolated("alice", exit=FR),
        client.isolated("alice", exit_country="fr", sticky=5),
    ):
        await (await isolated.get(ORIGIN + "/echo")).content()
    assert by(gateway) == [FR, FR, DE, FR, FR]
    assert len(gateway.socks.served) == 5
    names = [served.username for served in gateway.socks.served]
    assert names[0] != names[1]
    assert names[0] == names[3] == names[4]  # alice's, by one exit


@ensureDeferred
async def test_equal_keys_of_the_gateways_other_clients_are_equal(gateway: Gateway) -> None:
    """As the contract has it, and unlike those of two clients at a SOCKS port."""
    for client in (client_of(gateway), client_of(gateway)):
        await (await client.isolated("alice", exit_country="fr").get(ORIGIN + "/echo")).content()
    await gateway.fetch("/echo", "Tor-Stream-Isolation: alice", "Tortxd-Exit-Country: fr")
    assert len(usernames(gateway)) == 1


@ensureDeferred
async def test_who_is_not_steered_asks_tor_itself(gateway: Gateway) -> None:
    client = client_of(gateway, http_gateway_addr="127.0.0.1:1")
    for isolated in (client, client.isolated("alice"), client.isolated("alice", retry=0)):
        assert (await isolated.get(ORIGIN + "/echo")).tor == TorInfo()
    assert not gateway.link.leads
    assert gateway.socks.served[0].early


@ensureDeferred
async def test_to_try_again_takes_no_gateway(gateway: Gateway) -> None:
    gateway.socks.held = True
    client = client_of(gateway, http_gateway_addr="127.0.0.1:1").isolated("alice", retry=1)
    asking = client.get(ORIGIN + "/echo")
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer(0)
    assert (await asking).tor == TorInfo(attempts=2)
    assert len(usernames(gateway)) == 2


@ensureDeferred
async def test_who_is_isolated_of_a_steered_client_is_nobody_but_himself(gateway: Gateway) -> None:
    alice = client_of(gateway).isolated("alice", exit_country="fr")
    for client in (alice, alice.isolated("bob"), alice.isolated("carol", exit_country="se")):
        await (await client.get(ORIGIN + "/echo")).content()
    assert by(gateway) == [FR, SE]
    names = [served.username for served in gateway.socks.served]
    assert len(set(names)) == 3
    known = [gateway.core.keys.isolation(name.decode()) for name in names]
    assert [None if one is None else one.name for one in known] == [b"alice", None, b"carol"]


@ensureDeferred
async def test_after_redirects_it_is_the_way_of_the_last(gateway: Gateway) -> None:
    client = client_of(gateway).isolated("alice", exit_country="fr")
    response = await client.get(ORIGIN + "/redirect?to=http://other.test.example/echo")
    assert response.tor.circuit == "7"
    gateway.link.only_circuit = None
    response = await client.get(ORIGIN + "/redirect?to=http://third.test.example/echo")
    assert response.tor.circuit is None
    assert [one.tor.circuit for one in response.history()] == ["7"]


# --- sticky ---------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_key_that_has_another_exit_now_says_so_once(gateway: Gateway) -> None:
    client = client_of(gateway).isolated("alice", sticky=600)
    assert not (await client.get(ORIGIN + "/echo")).tor.exit_changed
    (before,) = by(gateway)
    del gateway.link.exits[before]
    for host, changed in (("a", True), ("b", False)):
        response = await client.get(f"http://{host}.test.example/echo")
        assert response.tor.exit_changed is changed
        await response.content()
    response = await client.get("http://a.test.example/echo")
    assert not response.tor.exit_changed  # on a connection that was there
    assert len(by(gateway)) == 3


@ensureDeferred
async def test_a_strict_key_has_no_other(gateway: Gateway) -> None:
    client = client_of(gateway).isolated("alice", exit_country="fr", sticky=600, strict=True)
    await (await client.get(ORIGIN + "/echo")).content()
    del gateway.link.exits[FR]
    gateway.link.exits["0" * 40] = "fr"
    with pytest.raises(ExitUnavailable, match="strict"):
        await client.get("http://other.test.example/echo")


def key_of(carrier: GatewayCarrier, steering: Steering, **options: Any) -> GatewayKey:
    steered = Steered(isolation_of(b"alice", "a.example"), steering)
    options = {"tried": frozenset(), "fresh": False, **options}
    places: list[Any] = []
    carrier.placements.place(steered, "a.example", 80, **options).addCallback(places.append)
    assert isinstance(places[0].credentials, GatewayKey)
    return places[0].credentials


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def carrier(clock: Clock) -> GatewayCarrier:
    return GatewayCarrier(cast(Any, clock), SocksAddress(), ClientTls(), IsolationKeys())


def told(key: GatewayKey) -> dict[bytes, bytes]:
    return dict(key.fields)


def test_a_kept_connection_does_not_cost_the_key_its_time(
    clock: Clock, carrier: GatewayCarrier
) -> None:
    """The gateway hears of no further request on it, so the exit is kept as much longer as such
    requests may come, and then another connection is made."""
    sticky = steering_for(sticky=600)
    first = key_of(carrier, sticky)
    assert told(first)[b"Tortxd-Sticky"] == b"660"
    clock.advance(59)
    assert key_of(carrier, sticky) == first
    clock.advance(1)
    assert key_of(carrier, sticky) != first
    for seconds, kept in ((1, b"2"), (10, b"11"), (86_400, b"86400"), (10_000, b"10600")):
        assert told(key_of(carrier, steering_for(sticky=seconds)))[b"Tortxd-Sticky"] == kept
    plain = key_of(carrier, steering_for(exit_country="de"))
    clock.advance(10_000)
    assert key_of(carrier, steering_for(exit_country="de", retry=2)) == plain


def test_a_further_try_has_a_key_of_its_own(carrier: GatewayCarrier) -> None:
    def further(*tried: str, **steering: Any) -> dict[bytes, bytes]:
        found = told(key_of(carrier, steering_for(**steering), tried=frozenset(tried), fresh=True))
        del found[b"Proxy-Authorization"]
        return found

    keys = {key_of(carrier, steering_for(exit=DE), fresh=True).username for _ in "ab"}
    assert len(keys) == 2 and b"alice" not in keys
    assert further(DE, exit_country="de") == {b"Tortxd-Exit-Country": b"de"}
    # By another relay, where one is left.
    assert further(DE, exit=(DE, FR)) == {b"Tortxd-Exit": FR.encode()}
    assert further(DE, exit=DE) == {b"Tortxd-Exit": DE.encode()}
    # A sticky key keeps its own.
    assert further(DE, exit_country="de", sticky=9) == {b"Tortxd-Exit": DE.encode()}
    assert key_of(carrier, steering_for(sticky=9), fresh=True).username == b"alice"


def test_nothing_of_the_key_shows() -> None:
    key = GatewayKey.of(b"canary", Steering(Choice(frozenset(("de",))), Sticky(5)))
    assert "canary" not in repr(key)


# --- tries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@ensureDeferred
async def test_the_gateway_tries_to_connect_as_often_as_is_allowed(
    gateway: Gateway, method: str
) -> None:
    gateway.socks.code = REFUSED
    client = client_of(gateway).isolated("alice", exit_country=("de", "fr", "se"), retry=2)
    with pytest.raises(ConnectRefused) as caught:
        await client.request(method, ORIGIN)
    assert caught.value.attempts == 3
    assert set(by(gateway)) == {DE, FR, SE}
    assert len(gateway.socks.served) == len(usernames(gateway)) == 3


@ensureDeferred
async def test_a_response_says_how_many_tries_it_took(gateway: Gateway) -> None:
    gateway.socks.held = True
    client = client_of(gateway).isolated("alice", exit_country=("de", "fr"), retry=3)
    asking = client.get(ORIGIN + "/echo")
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer()
    assert (await asking).tor.attempts == 2


@ensureDeferred
async def test_what_fails_at_the_destination_is_tried_again(gateway: Gateway) -> None:
    gateway.socks.origin, gateway.link.only_circuit = None, None
    gateway.socks.held = True
    asking = client_of(gateway).isolated("alice", exit_country=("de", "fr"), retry=3).get(ORIGIN)
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer(0)
    (await asked(gateway, 2)).transport.abortConnection()
    (await gateway.socks.asked(3)).answer(0)
    (await asked(gateway, 3)).transport.write(b"nonsense")
    (await gateway.socks.asked(4)).answer(0)
    (await asked(gateway, 4)).transport.write(OK)
    response = await asking
    assert (await response.content(), response.tor.attempts) == (b"ok", 4)
    assert len(usernames(gateway)) == 4


@ensureDeferred
async def test_all_tries_are_counted_whoever_makes_them(gateway: Gateway) -> None:
    gateway.socks.origin = None
    asking = client_of(gateway).isolated("alice", exit=DE, retry=1).get(ORIGIN)
    for number in (1, 2):
        (await asked(gateway, number)).transport.abortConnection()
    with pytest.raises(OriginReset) as caught:
        await asking
    assert caught.value.attempts == 2
    assert len(gateway.socks.served) == 2


@ensureDeferred
async def test_what_must_not_arrive_twice_does_not(gateway: Gateway) -> None:
    """Rule 28."""
    gateway.socks.origin = None
    asking = client_of(gateway).isolated("alice", exit=DE, retry=3).post(ORIGIN, b"a")
    (await asked(gateway, 1)).transport.abortConnection()
    with pytest.raises(OriginReset):
        await asking
    assert len(gateway.socks.served) == 1


@ensureDeferred
async def test_without_a_retry_there_is_none(gateway: Gateway) -> None:
    gateway.socks.code = REFUSED
    with pytest.raises(ConnectRefused) as caught:
        await client_of(gateway).isolated("alice", exit_country="de").get(ORIGIN)
    assert (caught.value.attempts, len(gateway.socks.served)) == (1, 1)


# --- what goes wrong ------------------------------------------------------------------------------


@ensureDeferred
async def test_what_the_gateway_says_is_what_it_fails_with(gateway: Gateway) -> None:
    client = client_of(gateway)
    with pytest.raises(ExitUnavailable) as caught:
        await client.isolated("alice", exit_country="us").get(ORIGIN)
    assert caught.value.attempts == 0  # Tor was asked for nothing
    with pytest.raises(TargetForbidden):
        await client.isolated("alice", exit=DE).get("http://printer.test/")
    gateway.link.status = Bootstrapping(5, "conn", "Connecting")
    gateway.link.socks_address = None
    gateway.core.policy = policy(timeout=0.05)
    with pytest.raises(TorNotReady, match="at 5 %") as unready:
        await client.isolated("alice", exit=DE).get(ORIGIN)
    assert unready.value.details["bootstrap"]["progress"] == 5  # type: ignore[index]


@ensureDeferred
async def test_a_gateway_with_a_token(gateway: Gateway) -> None:
    gateway.core.policy = policy(access=AccessPolicy(token=b"a-token"))
    for token in (None, "wrong"):
        with pytest.raises(Unauthorized, match="`token`"):
            await client_of(gateway, token=token).isolated("a", exit=DE).get(ORIGIN)
    client = client_of(gateway, token="a-token").isolated("a", exit=DE)
    assert (await client.get(ORIGIN + "/echo")).code == 200
    assert b"a-token" not in gateway.socks.served[0].received


@ensureDeferred
async def test_a_gateway_that_is_not_there(gateway: Gateway) -> None:
    port = gateway.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    address = f"127.0.0.1:{port.getHost().port}"
    await port.stopListening()
    client = client_of(gateway, http_gateway_addr=address).isolated("a", exit=DE, retry=3)
    with pytest.raises(TorDown, match="The gateway cannot be reached: `http_gateway_addr`"):
        await client.get(ORIGIN)


class Mute(Protocol):
    """Says nothing."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


@ensureDeferred
async def test_a_gateway_that_does_not_answer(gateway: Gateway) -> None:
    server = Mute()
    factory = Factory.forProtocol(lambda: server)
    port = gateway.reactor.listenTCP(0, factory, interface="127.0.0.1")
    address = f"127.0.0.1:{port.getHost().port}"
    client = client_of(gateway, http_gateway_addr=address, timeout=0.05)
    with pytest.raises(TorTimeout):
        await client.isolated("a", exit_country="de").get(ORIGIN)
    await server.lost
    await port.stopListening()


@ensureDeferred
async def test_the_gateway_answers_before_our_time_is_over(gateway: Gateway) -> None:
    """It knows better what was waited for."""
    client = client_of(gateway, timeout=0.4).isolated("a", exit=DE)
    gateway.link.status, gateway.link.socks_address = Bootstrapping(50), None
    with pytest.raises(TorNotReady):
        await client.get(ORIGIN)


@ensureDeferred
async def test_who_gives_up_leaves_no_stream(gateway: Gateway) -> None:
    gateway.socks.held = True
    asking = client_of(gateway).isolated("a", exit_country="de").get(ORIGIN)
    served = await gateway.socks.asked()
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    await served.lost


@ensureDeferred
async def test_a_key_may_be_any_bytes(gateway: Gateway) -> None:
    keys: tuple[str | bytes, ...] = (
        "al ice;x:y",
        "日本",
        b"\xff\xfe",
        "a" * 256,
        "a\r\nTortxd-Exit: b",
        b"\0",
        " a",
    )
    for key in keys:
        client = client_of(gateway).isolated(key, exit_country="de")
        await (await client.get(ORIGIN + "/echo")).content()
    for key, served in zip(keys, gateway.socks.served, strict=True):
        isolation = gateway.core.keys.isolation(served.username.decode())
        assert isolation is not None
        assert isolation.name == (key.encode() if isinstance(key, str) else key)


@ensureDeferred
async def test_a_body_that_ends_with_the_connection(gateway: Gateway) -> None:
    """The gateway knows how it ended, and says so by how it ends the tunnel."""
    client = client_of(gateway).isolated("a", exit_country="de")
    response = await client.get(ORIGIN + "/close/5000")
    assert len(await response.content()) == 5000
    gateway.link.reason = "DESTROY"
    with pytest.raises(OriginReset):
        await (await client.get(ORIGIN + "/close/5000")).content()


def test_malformed_steering(gateway: Gateway) -> None:
    client = client_of(gateway)
    for words in ({"exit_country": "deu"}, {"sticky": 0}, {"strict": True}, {"retry": 9}):
        with pytest.raises(BadRequest):
            client.isolated("a", **cast(Any, words))
