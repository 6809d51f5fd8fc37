"""Requests that are steered: where they leave Tor, how long, and how often they are tried."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.gateway.conftest import ORIGIN, Gateway, Way
from tests.gateway.tunnels import basic, head_of
from tests.web_client import connect_to
from tortxd.errors import TorNotReady
from tortxd.rates import Rate
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.link import Circuit, Relay

DE, FR, SE = "D" * 40, "F" * 40, "5" * 40
EXITS = {DE: "de", FR: "fr", SE: "se"}
REFUSED, TIMED_OUT, NO_NAME, GENERAL = 5, 6, 4, 1
"""SOCKS replies (RFC 1928, section 6)."""


@pytest.fixture(autouse=True)
def exits(gateway: Gateway) -> None:
    gateway.link.exits = dict(EXITS)


def by(gateway: Gateway) -> list[str]:
    """The exits that requests were led to, in their order."""
    return [lead.exit for lead in gateway.link.leads]


def asked_for(gateway: Gateway) -> list[str]:
    return [served.target[0] for served in gateway.socks.served if served.target]


# --- exits --------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_request_leaves_where_it_was_told_to(way: Way) -> None:
    gateway = way.gateway
    reply = await way.ask("GET", "/echo", "Tortxd-Exit-Country: fr")
    assert reply.status == 200
    (lead,) = gateway.link.leads
    assert (lead.exit, lead.host, lead.released) == (FR, "origin.test.example", True)
    assert asked_for(gateway) == [lead.name]
    assert gateway.socks.served[0].username == lead.username
    # What it was told with stays here, and what the destination is asked for is its own name.
    sent = dict(reply.json["headers"])
    assert not any(name.lower().startswith("tortxd") for name in sent)
    assert sent["Host"] == "origin.test.example"


@ensureDeferred
async def test_one_of_several_countries_or_relays(either: Gateway) -> None:
    assert (await either.fetch("/echo", "Tortxd-Exit-Country: us, se")).status == 200
    assert (await either.fetch("/echo", f"Tortxd-Exit: {'A' * 40}, ${FR.lower()}")).status == 200
    assert by(either) == [SE, FR]


@ensureDeferred
async def test_who_cannot_set_headers_says_it_in_the_query(either: Gateway) -> None:
    path = either.path("/echo") + f"&isolation=k&exit={SE}&sticky=5&retry=1"
    assert (await either.ask(path)).status == 200
    assert by(either) == [SE]
    reply = await either.ask(either.path("/redirect?to=/echo") + "&exit-country=de,%20fr&sticky=5")
    assert reply["Location"].endswith("&exit-country=de%2C%20fr&sticky=5")


@pytest.mark.parametrize("country", ["us", "zz"])
@ensureDeferred
async def test_no_other_exit_is_taken_instead(way: Way, country: str) -> None:
    reply = await way.ask("GET", "/echo", f"Tortxd-Exit-Country: {country}")
    assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")
    assert reply["Tortxd-Attempts"] == "0"
    assert not way.gateway.socks.served


@ensureDeferred
async def test_country_and_relay_must_both_be_right(either: Gateway) -> None:
    reply = await either.fetch("/echo", "Tortxd-Exit-Country: de", f"Tortxd-Exit: {FR}")
    assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")


@ensureDeferred
async def test_a_key_that_chooses_again_has_its_circuit_and_its_connection(
    either: Gateway,
) -> None:
    key = "Tor-Stream-Isolation: k"
    for _ in range(2):
        assert (await either.fetch("/echo", key, "Tortxd-Exit-Country: fr, de")).status == 200
    assert len(either.socks.served) == len(either.link.leads) == 1
    # Another choice, or none, is another circuit; the key is one all the same.
    assert (await either.fetch("/echo", key, "Tortxd-Exit-Country: se")).status == 200
    assert (await either.fetch("/echo", key)).status == 200
    assert len({served.username for served in either.socks.served}) == 3
    tags = {either.core.keys.tag(one.username.decode()) for one in either.socks.served}
    assert len(tags) == 1


@ensureDeferred
async def test_a_new_identity_of_the_key_closes_what_leaves_elsewhere(either: Gateway) -> None:
    key = "Tor-Stream-Isolation: k"
    assert (await either.fetch("/echo", key, "Tortxd-Exit-Country: fr")).status == 200
    reply = await either.ask(
        "/identity/new", "Content-Type: application/json", method="POST", body=b'{"isolation": "k"}'
    )
    assert reply.status == 200
    await either.origin.when_closed(1)


@ensureDeferred
async def test_a_tunnel_leaves_where_its_user_says(gateway: Gateway) -> None:
    wire = await gateway.connect()
    login = basic("tortxd+k;exit-country=se;sticky=600", "")
    wire.send(connect_to("a.example:80", login))
    await wire.when_came(b"\r\n\r\n")
    assert by(gateway) == [SE]
    assert "Tortxd-Attempts: 1" in head_of(wire)
    assert gateway.core.keys.isolation(gateway.link.leads[0].username.decode()) is not None


@ensureDeferred
async def test_a_websocket_leaves_where_it_is_told_to(gateway: Gateway) -> None:
    wire = await gateway.connect()
    path = gateway.path("ws://origin.test.example/").replace("http%3A%2F%2Forigin.test.example", "")
    target = path.replace("/proxy?url=", "/proxy?exit-country=fr&url=")
    wire.send(
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await wire.reply()
    assert by(gateway) == [FR]


@ensureDeferred
async def test_the_answer_to_ip_is_steered_too(either: Gateway) -> None:
    reply = await either.ask("/ip", "Tortxd-Exit-Country: fr", KEY, "Tortxd-Sticky: 60")
    assert (reply.status, reply["Tortxd-Attempts"]) == (200, "1")
    assert by(either) == [FR]
    del either.link.exits[FR]
    either.link.exits["E" * 40] = "fr"
    reply = await either.ask("/ip", "Tortxd-Exit-Country: fr", KEY)
    assert (reply.status, reply["Tortxd-Exit-Changed"]) == (200, "1")
    reply = await either.ask("/ip", "Tortxd-Exit-Country: us")
    assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")


@ensureDeferred
async def test_what_verifies_tor_cannot_be_steered_and_says_so(either: Gateway) -> None:
    reply = await either.ask("/verify-tor", "Tortxd-Exit-Country: fr")
    assert (reply.status, reply.json["code"]) == (400, "bad_request")


@ensureDeferred
async def test_without_a_control_port_no_exit_can_be_chosen(either: Gateway) -> None:
    either.link.leading = Deferred()
    either.link.leading.errback(TorNotReady("There is no control connection to Tor now."))
    reply = await either.fetch("/echo", "Tortxd-Exit-Country: fr")
    assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")


@ensureDeferred
async def test_a_client_that_leaves_while_it_is_led_leaves_nothing(gateway: Gateway) -> None:
    gateway.link.leading = Deferred()
    wire = await gateway.connect()
    wire.send(
        f"GET {gateway.path('/echo')} HTTP/1.1\r\nHost: localhost\r\n"
        "Tortxd-Exit-Country: fr\r\n\r\n".encode()
    )
    while not gateway.link.leads:
        await gateway.ask("/health")
    wire.transport.abortConnection()
    while gateway.core.under_way:
        await gateway.ask("/health")
    assert gateway.link.leading.called
    assert not gateway.socks.served


@ensureDeferred
async def test_an_exit_that_cannot_be_reached_makes_room_for_another(way: Way) -> None:
    gateway = way.gateway
    gateway.socks.held = True
    wire = await way.send(
        "POST",
        ORIGIN + "/upload" if way.absolute else "http%3A%2F%2Forigin.test.example%2Fupload",
        "Tortxd-Exit-Country: de, fr",
        "Content-Length: 2",
        body=b"ab",
    )
    first = await gateway.socks.asked(1)
    del gateway.link.exits[DE]
    gateway.socks.held = False
    gateway.link.leads[0].unreachable()
    reply = await wire.reply(b"POST")
    assert reply.status == 200
    assert reply.json["length"] == 2
    assert reply["Tortxd-Attempts"] == "2"
    assert "Tortxd-Exit-Changed" not in reply
    assert by(gateway) == [DE, FR]
    assert all(lead.released for lead in gateway.link.leads)
    await first.lost
    assert first.received == b""


@ensureDeferred
async def test_where_no_other_will_do_that_is_said(gateway: Gateway) -> None:
    gateway.socks.held = True
    wire = await gateway.connect()
    wire.send(
        f"GET {gateway.path('/echo')} HTTP/1.1\r\nHost: localhost\r\n"
        f"Tortxd-Exit: {DE}\r\n\r\n".encode()
    )
    await gateway.socks.asked(1)
    del gateway.link.exits[DE]
    gateway.link.leads[0].unreachable()
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")
    assert reply["Tortxd-Attempts"] == "1"


@pytest.mark.parametrize("code", [0xF6, GENERAL])
@ensureDeferred
async def test_a_name_that_tor_has_forgotten_is_told_once_more(either: Gateway, code: int) -> None:
    """Another daemon at the same Tor may have taken it for left behind."""
    either.link.reason = "TORPROTOCOL"
    failing(either, code)
    reply = await either.fetch("/echo", "Tortxd-Exit-Country: fr")
    assert reply.status == 200
    assert by(either) == [FR, FR]
    assert [lead.anew for lead in either.link.leads] == [False, True]
    either.socks.held, either.socks.served[:], either.socks.waiting[:] = True, [], []
    either.core.pool.clear()
    failing(either, code, code)
    reply = await either.fetch("/echo", "Tortxd-Exit-Country: fr")
    assert reply.status in (400, 502)
    assert all(lead.released for lead in either.link.leads)


@ensureDeferred
async def test_time_for_tries_begins_when_tor_listens(either: Gateway) -> None:
    address, either.link.socks_address = either.link.socks_address, None
    asking = Deferred.fromCoroutine(either.fetch("/echo", "Tortxd-Retry: 3", "Tortxd-Timeout: 2"))
    while not either.link.waiting:
        await deferLater(either.reactor, 0)
    await deferLater(either.reactor, 0.6)  # longer than a fourth
    either.link.socks_address = address
    assert address is not None
    either.link.waiting[0].callback(address)
    reply = await asking
    assert (reply.status, reply["Tortxd-Attempts"]) == (200, "1")


# --- sticky -------------------------------------------------------------------------------------


KEY = "Tor-Stream-Isolation: k"


@ensureDeferred
async def test_a_sticky_key_has_another_exit_when_its_own_has_gone(either: Gateway) -> None:
    sticky = "Tortxd-Sticky: 600"
    assert "Tortxd-Exit-Changed" not in await either.fetch("/echo", KEY, sticky)
    # Requests of the key that say nothing use it as well.
    assert "Tortxd-Exit-Changed" not in await either.fetch("/echo", KEY)
    assert by(either) == [DE]
    del either.link.exits[DE]
    reply = await either.fetch("/echo", KEY, sticky)
    assert (reply.status, reply["Tortxd-Exit-Changed"]) == (200, "1")
    assert "Tortxd-Exit-Changed" not in await either.fetch("/echo", KEY, sticky)
    assert by(either) == [DE, FR]


@ensureDeferred
async def test_a_strict_one_has_not(either: Gateway) -> None:
    strict = "Tortxd-Sticky: 600, strict"
    assert (await either.fetch("/echo", KEY, strict)).status == 200
    del either.link.exits[DE]
    reply = await either.fetch("/echo", KEY, strict)
    assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")
    assert "strict" in reply.json["error"]
    # A new identity of the key forgets it.
    await either.ask(
        "/identity/new", "Content-Type: application/json", method="POST", body=b'{"isolation": "k"}'
    )
    reply = await either.fetch("/echo", KEY, strict)
    assert reply.status == 200
    assert "Tortxd-Exit-Changed" not in reply


@ensureDeferred
async def test_other_keys_are_not_concerned(either: Gateway) -> None:
    assert (await either.fetch("/echo", KEY, "Tortxd-Sticky: 600")).status == 200
    assert (await either.fetch("/echo", "Tor-Stream-Isolation: l")).status == 200
    assert by(either) == [DE]


# --- tries --------------------------------------------------------------------------------------


def failing(gateway: Gateway, *codes: int) -> None:
    """Have the first streams fail so, and the others open."""

    def answer(number: int) -> None:
        def answered(served: Any) -> None:
            served.answer(codes[number - 1])
            if number == len(codes):
                gateway.socks.held = False

        gateway.socks.asked(number).addCallback(answered)

    gateway.socks.held = True
    for number in range(1, len(codes) + 1):
        answer(number)


@ensureDeferred
async def test_every_response_says_how_many_tries_it_took(way: Way) -> None:
    for _ in range(2):  # the second by a connection that is there
        assert (await way.ask("GET", "/echo"))["Tortxd-Attempts"] == "1"
    way.gateway.socks.code = REFUSED
    reply = await way.ask("GET", "/echo", "Tor-Stream-Isolation: other")
    assert (reply.status, reply["Tortxd-Attempts"]) == (502, "1")


@pytest.mark.parametrize("codes", [[REFUSED], [NO_NAME, TIMED_OUT], [GENERAL, REFUSED, REFUSED]])
@ensureDeferred
async def test_a_retry_has_a_fresh_circuit_and_another_exit(way: Way, codes: list[int]) -> None:
    gateway = way.gateway
    gateway.link.only_circuit = Circuit("7", "BUILT", (Relay("A" * 40), Relay(DE)), "GENERAL", 0.0)
    failing(gateway, *codes)
    reply = await way.ask("GET", "/echo", "Tortxd-Retry: 3")
    assert reply.status == 200
    assert reply["Tortxd-Attempts"] == str(len(codes) + 1)
    assert len({served.username for served in gateway.socks.served}) == len(codes) + 1
    # As long as there is one that was not tried.
    assert by(gateway)[:2] == [FR, SE][: len(codes)]


@ensureDeferred
async def test_no_more_tries_than_were_allowed(either: Gateway) -> None:
    either.socks.code = REFUSED
    reply = await either.fetch("/echo", "Tortxd-Retry: 2")
    assert (reply.status, reply.json["code"]) == (502, "connect_refused")
    assert reply["Tortxd-Attempts"] == "3"
    assert len(either.socks.served) == 3


@ensureDeferred
async def test_where_a_try_cannot_be_made_the_one_before_says_why(either: Gateway) -> None:
    either.link.budget = CircuitBudget(either.reactor, None, Rate(0.01, 1))
    either.socks.code = REFUSED
    reply = await either.fetch("/echo", "Tortxd-Retry: 2")
    assert (reply.status, reply.json["code"]) == (502, "connect_refused")
    assert reply["Tortxd-Attempts"] == "1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@ensureDeferred
async def test_what_must_not_arrive_twice_is_tried_once(way: Way, method: str) -> None:
    """Rule 28."""
    way.gateway.socks.code = REFUSED
    reply = await way.ask(method, "/echo", "Tortxd-Retry: 3", "Content-Length: 1", body=b"a")
    assert (reply.status, reply["Tortxd-Attempts"]) == (502, "1")


@ensureDeferred
async def test_statuses_of_the_destination_are_no_failures(way: Way) -> None:
    reply = await way.ask("GET", "/status/503", "Tortxd-Retry: 3")
    assert (reply.status, reply["Tortxd-Attempts"]) == (503, "1")


@ensureDeferred
async def test_a_malformed_response_is_asked_for_again(way: Way) -> None:
    gateway = way.gateway
    reply = await way.ask("GET", "/raw?rubbish%0d%0a%0d%0a", "Tortxd-Retry: 2")
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    assert reply["Tortxd-Attempts"] == "3"
    assert len(gateway.origin.requests) == 3


@ensureDeferred
async def test_a_response_that_has_begun_is_not_tried_again(way: Way) -> None:
    wire = await way.send(
        "GET",
        ORIGIN + "/bytes/100?cut=10"
        if way.absolute
        else "http%3A%2F%2Forigin.test.example%2Fbytes%2F100%3Fcut%3D10",
        "Tortxd-Retry: 3",
    )
    await wire.lost
    assert b"Tortxd-Attempts: 1" in bytes(wire.raw)
    assert len(way.gateway.origin.requests) == 1


@ensureDeferred
async def test_all_tries_have_one_timeout_and_each_its_share(either: Gateway) -> None:
    either.socks.held = True
    began = either.reactor.seconds()
    reply = await either.fetch("/echo", "Tortxd-Retry: 3", "Tortxd-Timeout: 0.8")
    assert (reply.status, reply.json["code"]) == (504, "tor_timeout")
    assert reply["Tortxd-Attempts"] == "4"
    assert either.reactor.seconds() - began < 1.3


@ensureDeferred
async def test_a_tunnel_is_tried_again_before_it_is_open(gateway: Gateway) -> None:
    failing(gateway, REFUSED, GENERAL)
    wire = await gateway.connect()
    wire.send(connect_to("a.example:80", basic("tortxd+k;retry=2", "")))
    await wire.when_came(b"\r\n\r\n")
    assert head_of(wire)[0].split()[1] == "200"
    assert "Tortxd-Attempts: 3" in head_of(wire)


@ensureDeferred
async def test_a_sticky_key_moves_only_where_its_exit_is_to_blame(gateway: Gateway) -> None:
    sticky = (KEY, "Tortxd-Sticky: 600", "Tortxd-Retry: 1")
    failing(gateway, TIMED_OUT)
    reply = await gateway.fetch("/echo", *sticky)
    assert (reply.status, reply["Tortxd-Attempts"]) == (200, "2")
    assert "Tortxd-Exit-Changed" not in reply
    assert by(gateway) == [DE, DE]
    gateway.core.pool.clear()
    gateway.socks.held, gateway.socks.served[:], gateway.socks.waiting[:] = True, [], []
    failing(gateway, REFUSED)
    reply = await gateway.fetch("/echo", *sticky)
    assert (reply.status, reply["Tortxd-Exit-Changed"]) == (200, "1")
    assert by(gateway)[2:] == [DE, FR]
