"""Steered requests on a real Tor, as the destination, and Tor itself, see them."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol

from tests.daemon.process import Daemon, installed, soon
from tests.daemon.steering import Witness, close_circuits, exits_in, socket_of, witness
from tests.web_client import Reply, connect_to
from tortxd.addresses import SocksAddress
from tortxd.testing import Origin, PrivateNetwork
from tortxd.tor.isolation import Credentials
from tortxd.tor.socks import TorEndpoint

COUNTRIES = ("de", "fr", "nl", "se")


def user(name: str) -> str:
    return "Proxy-Authorization: Basic " + b64encode(f"{name}:x".encode()).decode()


async def by_way(daemon: Daemon, way: str, url: str, country: str) -> Reply:
    """Ask for ``url`` by an exit of this country."""
    header = f"Tortxd-Exit-Country: {country}"
    key = f"Tor-Stream-Isolation: {way}"
    if way == "/proxy":
        return await daemon.fetch(url, header, key)
    if way == "parameter":
        return await daemon.ask(
            f"/proxy?exit-country={country}&isolation=p&url=" + quote(url, safe="")
        )
    if way == "absolute-form":
        return await daemon.say(f"GET {url} HTTP/1.1\r\nHost: x\r\n{header}\r\n{key}\r\n\r\n")
    wire = await daemon.connect()
    authority = url.split("/")[2]
    headers = (user(f"tortxd+u;exit-country={country}"),) if way == "user" else (header, key)
    wire.send(connect_to(authority, *headers))
    await soon(wire.when_came(b"\r\n\r\n"))
    head = bytes(wire.raw).decode()
    assert " 200 " in head, head
    lines = [line.partition(": ") for line in head.split("\r\n")[1:] if ": " in line]
    wire.send(f"GET /ip HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
    await soon(wire.lost)
    body = bytes(wire.raw).rpartition(b"\r\n\r\n")[2]
    return Reply(200, b"OK", [(n.encode(), v.encode()) for n, _, v in lines], bytearray(body))


@pytest.mark.parametrize("way", ["/proxy", "parameter", "absolute-form", "CONNECT", "user"])
@ensureDeferred
async def test_each_way_leaves_where_it_is_told_to(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin, way: str
) -> None:
    async with witness(socket_of(daemon)) as seen:
        before = await seen.choices()
        for country in COUNTRIES:
            reply = await soon(
                Deferred.fromCoroutine(by_way(daemon, way, tor_origin.http + "/ip", country))
            )
            (expected,) = exits_in(tor_network, country)
            assert reply["Tortxd-Exit"] == expected
            assert reply["Tortxd-Exit-Country"] == country
            assert reply["Tortxd-Attempts"] == "1"
            # The destination, and Tor itself, say so as well.
            assert reply.json["ip"] == reply["Tortxd-Exit-Address"]
            await seen.has_heard_all()
            assert seen.exits[reply["Tortxd-Circuit"]] == expected
        assert await seen.choices() == before
        await seen.until_nothing_of_ours()


@ensureDeferred
async def test_https_and_a_fingerprint(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    (exit,) = exits_in(tor_network, "nl")
    for _ in range(2):  # the second by the connection that is there
        reply = await daemon.fetch(tor_origin.https + "/ip", f"Tortxd-Exit: {exit}")
        assert (reply.status, reply["Tortxd-Exit"]) == (200, exit)
        assert reply.json["ip"] == reply["Tortxd-Exit-Address"]


@ensureDeferred
async def test_a_country_without_exits_is_said_at_once(daemon: Daemon, tor_origin: Origin) -> None:
    began = installed().seconds()
    for header in ("Exit-Country: us", "Exit-Country: at", f"Exit: {'A' * 40}"):
        reply = await daemon.fetch(tor_origin.http, f"Tortxd-{header}")
        assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")
    assert installed().seconds() - began < 2


@ensureDeferred
async def test_streams_are_shown_with_what_was_asked_for(
    daemon: Daemon, tor_origin: Origin
) -> None:
    wire = await daemon.get_unread(tor_origin.http + "/hang", "Tortxd-Exit-Country: se")
    await soon(tor_origin.when_requested(len(tor_origin.requests) + 1))
    streams = (await daemon.told("/streams"))["streams"]
    wire.transport.abortConnection()
    hosts = {stream["target"].rpartition(":")[0] for stream in streams}
    assert "origin.test.example" in hosts
    assert not any("tortxd-" in host for host in hosts)


# --- who keeps an exit --------------------------------------------------------------------------


@ensureDeferred
async def test_a_sticky_key_keeps_its_exit_over_circuits(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """Tor would choose anew for each: four times the same by chance is 1 in 64."""
    key = ("Tor-Stream-Isolation: sticky canary", "Tortxd-Sticky: 600")
    circuits, exits = [], set()
    for _ in range(4):
        reply = await daemon.fetch(tor_origin.http + "/ip", *key, "Connection: close")
        assert reply.status == 200, reply.body
        circuits.append(reply["Tortxd-Circuit"])
        exits.add(reply["Tortxd-Exit"])
        assert reply.json["ip"] == reply["Tortxd-Exit-Address"]
        assert "Tortxd-Exit-Changed" not in reply
        await close_circuits(daemon, reply["Tortxd-Exit"])
    assert len(set(circuits)) == 4
    assert len(exits) == 1


@ensureDeferred
async def test_without_it_a_new_circuit_has_an_exit_of_tors_choice(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """The same, so that the test before says something."""
    exits = set()
    for number in range(40):
        key = f"Tor-Stream-Isolation: loose canary {number}"
        exits.add((await daemon.fetch_told(tor_origin.http, key))["Tortxd-Exit"])
        if len(exits) > 1:
            return
    raise AssertionError(exits)


# --- tries --------------------------------------------------------------------------------------


@ensureDeferred
async def test_each_further_try_is_by_another_exit(daemon: Daemon, tor_origin: Origin) -> None:
    requests = len(tor_origin.requests)
    async with witness(socket_of(daemon)) as seen:
        reply = await daemon.fetch(
            tor_origin.http + "/raw?rubbish%0d%0a%0d%0a",
            "Tor-Stream-Isolation: retry canary",
            "Tortxd-Retry: 3",
        )
        assert (reply.status, reply.json["code"]) == (502, "bad_response")
        assert reply["Tortxd-Attempts"] == "4"
        assert len(tor_origin.requests) - requests == 4
        await seen.has_heard_all()
        circuits = [min(on) for on in seen.on.values()]
        assert len({seen.exits[circuit] for circuit in circuits}) == len(circuits) == 4
        await seen.until_nothing_of_ours()


# --- others -------------------------------------------------------------------------------------


async def foreign(daemon: Daemon, origin: Origin, name: bytes) -> Any:
    """The transport of a stream that another program opens at Tor's own SOCKS port."""
    endpoint = TorEndpoint(
        installed(),
        SocksAddress("127.0.0.1", daemon.socks),
        "origin.test.example",
        origin.http_port,
        Credentials(name, b"p"),
    )
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    return (await soon(endpoint.connect(factory))).transport  # type: ignore[attr-defined]


async def circuits_of(seen: Witness, transport: Any) -> set[str]:
    """The circuits on which that stream is or was."""
    await seen.has_heard_all()
    return seen.on[str(transport.getHost().port)]


@ensureDeferred
async def test_rule_31_nobody_elses_streams_change(daemon: Daemon, tor_origin: Origin) -> None:
    """Another program's stream stays where it is while exits are chosen, and new ones go
    everywhere, over circuits of their own."""
    async with witness(socket_of(daemon)) as seen:
        stranger = await foreign(daemon, tor_origin, b"stranger")
        before, ours = await circuits_of(seen, stranger), set()
        for country in COUNTRIES:
            reply = await daemon.fetch(tor_origin.http, f"Tortxd-Exit-Country: {country}")
            assert reply.status == 200
            ours.add(reply["Tortxd-Circuit"])
        assert before
        assert await circuits_of(seen, stranger) == before
        assert stranger.connected
        stranger.loseConnection()
        exits: Counter[str] = Counter()
        for number in range(60):
            one = await foreign(daemon, tor_origin, b"stranger %d" % number)
            circuits = await circuits_of(seen, one)  # several, where Tor has tried again
            one.loseConnection()
            assert circuits and not circuits & ours
            exits.update(seen.exits[circuit] for circuit in circuits if circuit in seen.exits)
            if len(exits) > 2:
                break
        assert len(exits) > 2


# --- attribution --------------------------------------------------------------------------------


@ensureDeferred
async def test_500_at_once_each_know_their_circuit_and_exit(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    async with witness(socket_of(daemon)) as seen:

        async def one(number: int) -> None:
            country = COUNTRIES[number % 4]
            scheme = tor_origin.https if number % 5 == 0 else tor_origin.http
            reply = await daemon.fetch(
                scheme + "/ip",
                f"Tor-Stream-Isolation: crowd canary {number % 50}",
                f"Tortxd-Exit-Country: {country}",
                "Tortxd-Retry: 1",
            )
            assert reply.status == 200, reply.body
            assert reply["Tortxd-Attempts"] in ("1", "2")
            if "Tortxd-Circuit" not in reply:
                unknown.append(reply)  # the answer was there before Tor's word on it was read
                return
            assert [reply["Tortxd-Exit"]] == exits_in(tor_network, country)
            assert reply["Tortxd-Exit-Country"] == country
            assert reply.json["ip"] == reply["Tortxd-Exit-Address"]
            found.append((number % 50, reply["Tortxd-Circuit"], reply["Tortxd-Exit"]))

        found: list[tuple[int, str, str]] = []
        unknown: list[Reply] = []
        await gatherResults(
            [Deferred.fromCoroutine(one(number)) for number in range(500)], consumeErrors=True
        )
        assert len(found) + len(unknown) == 500
        assert len(unknown) < 25
        await seen.has_heard_all()
        for _, circuit, exit in found:
            assert seen.exits[circuit] == exit
        # No circuit is two keys'.
        users: dict[str, set[int]] = {}
        for key, circuit, _ in found:
            users.setdefault(circuit, set()).add(key)
        assert all(len(keys) == 1 for keys in users.values())
        await seen.until_nothing_of_ours()


def test_a_witness_reads_what_tor_says() -> None:
    seen = Witness(None)  # type: ignore[arg-type]
    seen.circuit_event(f"7 BUILT ${'A' * 40}~a,${'B' * 40}~b PURPOSE=GENERAL")
    seen.stream_event("1 NEW 0 x:80 SOURCE_ADDR=127.0.0.1:4711 PURPOSE=USER")
    seen.stream_event("1 SENTCONNECT 7 x:80")
    assert (seen.exits, seen.on) == ({"7": "B" * 40}, {"4711": {"7"}})
