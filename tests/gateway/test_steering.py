"""What operators do to circuits, streams and isolation keys, and what they see of the options."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import CIRCUIT, OPERATOR, Gateway
from tortxd.policy.access import Caller
from tortxd.tor.link import Stream

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"


@pytest.mark.parametrize(("path", "id"), [("/circuits", "7"), ("/streams", "1")])
@ensureDeferred
async def test_closing(either: Gateway, path: str, id: str) -> None:
    reply = await either.ask(f"{path}/{id}/close", TOKEN, method="POST")
    assert (reply.status, reply.json) == (200, {"closed": id})
    assert either.link.closed == [id]


@pytest.mark.parametrize("path", ["/circuits/8/close", "/streams/8/close", "/circuits/a%20b/close"])
@ensureDeferred
async def test_what_is_not_there_cannot_be_closed(either: Gateway, path: str) -> None:
    reply = await either.ask(path, TOKEN, method="POST")
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert not either.link.closed


@ensureDeferred
async def test_rule_04_closing_is_for_operators_and_post_only(either: Gateway) -> None:
    """Rule 4."""
    assert (await either.ask("/circuits/7/close", method="POST")).status == 401
    assert (await either.ask("/circuits/7/close", TOKEN)).status == 405
    page = "Origin: http://localhost:8000"
    assert (await either.ask("/circuits/7/close", TOKEN, page, method="POST")).status == 403
    assert not either.link.closed


async def renewed(gateway: Gateway, *headers: str) -> tuple[int, object]:
    body = json.dumps({"circuit": "7"}).encode()
    reply = await gateway.ask("/identity/new", *headers, method="POST", body=body)
    return reply.status, reply.json.get("renewed") or reply.json["code"]


@ensureDeferred
async def test_the_key_of_a_circuit_is_renewed(either: Gateway) -> None:
    for number in range(2):
        await either.fetch("/", "Tor-Stream-Isolation: alice")
        assert either.socks.served[number].username
        if number == 0:
            username = either.socks.served[0].username.decode()
            either.link.only_circuit = evolve(CIRCUIT, username=username)
            assert await renewed(either, TOKEN) == (200, "key")
    first, second = (served.username.decode() for served in either.socks.served)
    assert first != second
    assert either.core.keys.tag(first) == either.core.keys.tag(second)
    assert either.link.renewed == 0  # Tor is told of nothing: nobody else notices


@pytest.mark.parametrize("username", [None, "of another program"])
@ensureDeferred
async def test_a_circuit_that_is_for_no_key_of_ours(either: Gateway, username: str | None) -> None:
    either.link.only_circuit = evolve(CIRCUIT, username=username)
    assert await renewed(either, TOKEN) == (404, "not_found")
    either.link.only_circuit = None
    assert await renewed(either, TOKEN) == (404, "not_found")


@ensureDeferred
async def test_the_key_of_a_circuit_is_for_operators_to_renew(either: Gateway) -> None:
    username = either.core.keys.credentials(
        either.core.admission.isolation(Caller(), b"alice", b"peer")
    ).username
    either.link.only_circuit = evolve(CIRCUIT, username=username.decode())
    assert await renewed(either) == (401, "unauthorized")


@pytest.mark.parametrize("body", [{"circuit": 7}, {"circuit": "7", "isolation": "a"}, {"x": "7"}])
@ensureDeferred
async def test_a_body_names_one_thing(either: Gateway, body: object) -> None:
    text = json.dumps(body).encode()
    reply = await either.ask("/identity/new", TOKEN, method="POST", body=text)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")


# --- what is shown --------------------------------------------------------------------------------


@ensureDeferred
async def test_circuits_and_streams_as_operators_see_them(either: Gateway) -> None:
    either.link.only_circuit = evolve(
        CIRCUIT, flags=("A", "B"), build_time=0.12345, conflux="AB", leg=2, uses_guard=True
    )
    (circuit,) = (await either.ask("/circuits", TOKEN)).json["circuits"]
    assert circuit["flags"] == ["A", "B"]
    assert circuit["buildTime"] == 0.123
    assert circuit["conflux"] == {"set": "AB", "leg": 2}
    assert (circuit["guard"], circuit["isolation"]) == (True, None)


@ensureDeferred
async def test_clients_see_less_of_their_circuit(either: Gateway) -> None:
    reply = await either.ask("/verify-tor")
    circuit = reply.json["evidence"]["controlPort"]["circuit"]
    assert circuit.keys() == {"id", "state", "purpose", "path", "streams"}


@ensureDeferred
async def test_how_the_request_of_a_stream_came(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(f"GET {gateway.path('/hang')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await gateway.origin.when_requested(1)
    peer = gateway.socks.served[0].transport.getPeer()
    username = gateway.socks.served[0].username.decode()
    ours = Stream("1", "NEW", None, "a:1", (peer.host, peer.port), 0.0, "USER", username)
    way_of = gateway.core.way_of
    assert way_of(ours) == "proxy"
    assert way_of(evolve(ours, source=("127.0.0.1", 1))) == "library"
    assert way_of(evolve(ours, source=None)) is None
    assert way_of(evolve(ours, username="x")) == "socks"
    assert way_of(evolve(ours, source=None, username=None, purpose="DIR_FETCH")) is None
    wire.transport.abortConnection()
    await gateway.socks.served[0].lost
    # Of its end, Tor tells a moment later.
    assert way_of(ours) == "proxy"
    assert way_of(evolve(ours, username=None)) == "socks"


@ensureDeferred
async def test_so_many_closed_connections_are_remembered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.relay.upstream.CLOSED", 2)
    gateway.socks.code = 4
    for number in range(3):
        path = gateway.path(f"http://{number}.example/")
        assert (await gateway.ask(path)).status == 502
    peers = [served.transport.getPeer() for served in gateway.socks.served]
    ways = [gateway.core.pool.way_of((peer.host, peer.port)) for peer in peers]
    assert ways == [None, "proxy", "proxy"]
