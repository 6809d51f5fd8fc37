"""The library steers: over a Tor of its own, and beside a daemon by way of its gateway."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import succeed
from twisted.internet.protocol import Factory, Protocol

from tests.gateway.conftest import CIRCUIT, EXIT, OPERATOR, Gateway, Policy
from tortxd.client import TorHttpClient
from tortxd.client.agent import TorAgent
from tortxd.client.endpoint import SteeredEndpoint
from tortxd.client.tor_info import TorInfo
from tortxd.client.treq_client import TreqClient
from tortxd.config import Config
from tortxd.errors import BadRequest, ConnectRefused, ExitUnavailable, TorDown, Unauthorized
from tortxd.policy.access import AccessPolicy
from tortxd.policy.steering import Steering, steering_for
from tortxd.relay.placement import Steered
from tortxd.tor.isolation import Isolation
from tortxd.tor.link import Relay

DE, FR = "D" * 40, "F" * 40
REFUSED = 5
URL = "http://origin.test.example/echo"


@pytest.fixture(autouse=True)
def exits(gateway: Gateway) -> None:
    gateway.link.exits = {DE: "de", FR: "fr"}


def treq(gateway: Gateway, **steering: Any) -> TreqClient:
    """treq over an agent of an app that embeds the gateway."""
    core = gateway.core
    return TreqClient(TorAgent(core, core.keys, caller=b"app", steering=steering_for(**steering)))


def beside(gateway: Gateway, **more: Any) -> TorHttpClient:
    """A client of a daemon on the same machine."""
    socks = f"127.0.0.1:{gateway.link.socks_address.port}"  # type: ignore[union-attr]
    config = Config(socks, f"127.0.0.1:{gateway.port}", timeout=5, **more)
    return TorHttpClient(config, gateway.reactor)


# --- in an app ----------------------------------------------------------------------------------


@ensureDeferred
async def test_responses_tell_the_way(gateway: Gateway) -> None:
    response = await treq(gateway, exit_country="fr").get(URL)
    assert response.code == 200
    exit = Relay(EXIT.fingerprint, None, EXIT.address, EXIT.country)
    assert response.tor == TorInfo(CIRCUIT.id, exit, 1, False)
    assert [lead.exit for lead in gateway.link.leads] == [FR]
    gateway.link.only_circuit = None
    response = await treq(gateway).get(URL)
    assert response.tor == TorInfo()


@ensureDeferred
async def test_redirects_tell_the_way_of_the_last(gateway: Gateway) -> None:
    response = await treq(gateway).get("http://origin.test.example/redirect?to=/echo")
    assert response.tor.circuit == CIRCUIT.id


@ensureDeferred
async def test_tries_and_changes_are_told(gateway: Gateway) -> None:
    client = treq(gateway, sticky=60, retry=2)
    assert not (await client.get(URL)).tor.exit_changed
    del gateway.link.exits[DE]
    response = await client.get(URL)
    assert (response.tor.exit_changed, response.tor.attempts) == (True, 1)
    # Another agent of the same app has the same keys.
    await treq(gateway).get(URL)
    assert [lead.exit for lead in gateway.link.leads] == [DE, FR]


@ensureDeferred
async def test_no_other_exit_is_taken(gateway: Gateway) -> None:
    with pytest.raises(ExitUnavailable):
        await treq(gateway, exit_country=("us", "zz")).get(URL)
    assert not gateway.socks.served


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"exit_country": "deu"}, "exit_country takes"),
        ({"exit_country": ()}, "exit_country takes"),
        ({"exit": "x"}, "exit takes"),
        ({"sticky": 0}, "sticky takes"),
        ({"sticky": 90_000}, "sticky takes"),
        ({"strict": True}, "strict goes with sticky"),
        ({"retry": 4}, "retry takes"),
        ({"retry": -1}, "retry takes"),
    ],
)
def test_malformed_values_are_refused_by_their_names(values: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=f"^{named}"):
        steering_for(**values)


# --- streams ------------------------------------------------------------------------------------


def endpoint(gateway: Gateway, **steering: Any) -> SteeredEndpoint:
    steered = Steered(Isolation("key", b"k"), steering_for(**steering))
    return SteeredEndpoint(
        gateway.reactor,
        gateway.core,
        lambda _: succeed(gateway.link.socks_address),  # type: ignore[arg-type]
        steered,
        "a.example",
        80,
        timeout=5,
    )


def factory() -> Any:
    made = Factory.forProtocol(Protocol)
    made.noisy = False
    return made


@ensureDeferred
async def test_a_stream_leaves_where_it_was_told_to(gateway: Gateway) -> None:
    protocol: Any = await endpoint(gateway, exit_country="fr").connect(factory())
    (lead,) = gateway.link.leads
    assert (lead.exit, lead.host, lead.released) == (FR, "a.example", True)
    assert gateway.socks.served[0].target == (lead.name, 80)
    protocol.transport.abortConnection()


@ensureDeferred
async def test_a_stream_is_tried_again_before_it_is_open(gateway: Gateway) -> None:
    gateway.socks.held = True
    connecting = endpoint(gateway, exit_country="de, fr", retry=1).connect(factory())
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer(0)
    protocol: Any = await connecting
    assert [lead.exit for lead in gateway.link.leads] == [DE, FR]
    assert all(lead.released for lead in gateway.link.leads)
    protocol.transport.abortConnection()
    gateway.socks.held, gateway.socks.code = False, REFUSED
    with pytest.raises(ConnectRefused):
        await endpoint(gateway, retry=2).connect(factory())
    assert len({served.username for served in gateway.socks.served}) == 5


@ensureDeferred
async def test_a_streams_exit_that_cannot_be_reached(gateway: Gateway) -> None:
    gateway.socks.held = True
    connecting = endpoint(gateway, exit_country="de").connect(factory())
    served = await gateway.socks.asked(1)
    del gateway.link.exits[DE]
    gateway.link.leads[0].unreachable()
    with pytest.raises(ExitUnavailable):
        await connecting
    await served.lost
    assert gateway.link.leads[0].released


@ensureDeferred
async def test_a_stream_that_nobody_waits_for(gateway: Gateway) -> None:
    gateway.socks.held = True
    connecting = endpoint(gateway, exit_country="de").connect(factory())
    served = await gateway.socks.asked(1)
    connecting.addErrback(lambda _: None)
    connecting.cancel()
    await served.lost
    assert gateway.link.leads[0].released


# --- beside a daemon ----------------------------------------------------------------------------


def trusting(client: TorHttpClient, gateway: Gateway) -> TorHttpClient:
    """The same client, with the origin's authority."""
    client._tls.context.load_verify_locations(str(gateway.origin.ca_file))
    return client


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_a_client_asks_its_gateway_where_an_exit_is_chosen(
    gateway: Gateway, scheme: str
) -> None:
    if scheme == "https":
        gateway.socks.origin = gateway.origin.https_port
    client = trusting(beside(gateway).isolated("k\r\n", exit_country="fr", sticky=60), gateway)
    for _ in range(2):
        response = await client.get(f"{scheme}://origin.test.example/echo")
        assert response.code == 200
        assert response.tor.circuit == CIRCUIT.id
        assert response.tor.exit is not None and response.tor.exit.country == "de"  # says the fake
        assert response.tor.attempts == 1
        headers = dict((await response.json())["headers"])
        assert not any(name.lower().startswith(("tor", "proxy-")) for name in headers)
    assert [lead.exit for lead in gateway.link.leads] == [FR]
    isolation = gateway.core.keys.isolation(gateway.link.leads[0].username.decode())
    assert isolation is not None and isolation.name == b"k\r\n"


@ensureDeferred
async def test_the_gateways_errors_are_the_clients(gateway: Gateway) -> None:
    client = beside(gateway)
    with pytest.raises(ExitUnavailable):
        await client.isolated("k", exit_country="us").get(URL)
    gateway.socks.code = REFUSED
    with pytest.raises(ConnectRefused) as caught:
        await client.isolated("k", exit_country="fr", retry=1).get(URL)
    assert caught.value.attempts is not None


@ensureDeferred
async def test_tries_that_the_gateway_made_are_told(gateway: Gateway) -> None:
    gateway.socks.held = True
    asking = beside(gateway).isolated("k", exit_country=["de", "fr"], retry=1).get(URL)
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer(0)
    assert (await asking).tor.attempts == 2
    gateway.socks.held = False


@ensureDeferred
async def test_a_gateway_that_wants_a_token_gets_it(gateway: Gateway, make_policy: Policy) -> None:
    access = AccessPolicy(token=b"clients", operator_token=OPERATOR)
    gateway.core.policy = make_policy(access=access)
    with pytest.raises(Unauthorized):
        await beside(gateway).isolated("k", exit_country="fr").get(URL)
    client = beside(gateway, token="clients")
    assert (await client.isolated("k", exit_country="fr").get(URL)).code == 200
    assert "clients" not in repr(client.config)


@ensureDeferred
async def test_a_gateway_that_is_not_there_is_said(gateway: Gateway, unused: int) -> None:
    client = TorHttpClient(Config(http_gateway_addr=f"127.0.0.1:{unused}"), gateway.reactor)
    with pytest.raises(TorDown, match="gateway"):
        await client.isolated("k", exit_country="fr").get(URL)


@pytest.fixture
def unused(gateway: Gateway) -> int:
    """A port where nothing listens."""
    port = gateway.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    number: int = port.getHost().port
    port.stopListening()
    return number


@ensureDeferred
async def test_without_a_choice_it_goes_to_tor_itself(gateway: Gateway) -> None:
    gateway.socks.held = True
    asking = beside(gateway).isolated("k", retry=1).get(URL)
    (await gateway.socks.asked(1)).answer(REFUSED)
    (await gateway.socks.asked(2)).answer(0)
    response = await asking
    assert response.tor == TorInfo(attempts=2)
    assert not gateway.link.leads
    gateway.socks.held = False


@pytest.mark.parametrize(
    "make", [lambda: Steering(), lambda: steering_for(), lambda: steering_for(retry=0)]
)
def test_what_asks_for_nothing_is_no_steering(make: Callable[[], Steering]) -> None:
    assert make() == Steering()
