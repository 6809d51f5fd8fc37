"""The control plane's routes, by both ways in."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.gateway.conftest import CIRCUIT, EXIT, OPERATOR, Gateway
from tortxd.gateway.control.verification import SHARED
from tortxd.rates import Rate
from tortxd.testing import Canned
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.link import Circuit
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Status,
    Stopped,
)

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"


@ensureDeferred
async def test_health_when_ready(either: Gateway) -> None:
    reply = await either.ask("/health")
    address = either.link.socks_address
    assert address is not None
    assert reply.status == 200
    assert reply.json["status"] == "ok"
    assert reply.json["tor"] == f"socks5h://127.0.0.1:{address.port}"
    assert reply.json["network"] == "private"
    assert reply["Content-Type"].startswith("application/json")
    assert reply["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("status", "code", "word", "progress"),
    [
        (Degraded(("The clock is wrong.",)), 200, "degraded", 100),
        (Launching(), 503, "starting", 0),
        (Bootstrapping(45, "requesting_descriptors", "Asking"), 503, "bootstrapping", 45),
        (BackingOff(4.0, "Tor died."), 503, "down", 0),
        (Failed("There is no tor."), 503, "down", 0),
        (Stopped(), 503, "down", 0),
    ],
)
@ensureDeferred
async def test_health_in_every_status(
    either: Gateway, status: Status, code: int, word: str, progress: int
) -> None:
    either.link.status = status
    reply = await either.ask("/health")
    assert reply.status == code
    assert reply.json["status"] == word
    assert reply.json["bootstrap"]["progress"] == progress
    assert set(reply.json["bootstrap"]) == {"progress", "tag", "summary"}


@ensureDeferred
async def test_circuits_and_streams(either: Gateway) -> None:
    (circuit,) = (await either.ask("/circuits", TOKEN)).json["circuits"]
    assert circuit["id"] == "7"
    assert circuit["state"] == "BUILT"
    assert circuit["purpose"] == "GENERAL"
    assert circuit["age"] > 0
    assert circuit["streams"] == ["1"]
    assert circuit["path"][2] == {
        "fingerprint": EXIT.fingerprint,
        "nickname": "exitnode",
        "address": "192.0.2.7",
        "country": "de",
    }
    (stream,) = (await either.ask("/streams", TOKEN)).json["streams"]
    assert stream["circuit"] == "7"
    assert stream["target"] == "a.example:80"


@ensureDeferred
async def test_ip(either: Gateway) -> None:
    reply = await either.ask("/ip")
    assert reply.status == 200
    assert reply.json["exitIp"] == "127.0.0.1"
    assert reply.json["viaTor"] is True
    assert reply.json["circuit"]["id"] == "7"


@pytest.mark.parametrize("body", [b"[]", b"[" * 50_000, b'{"ip": "' + b"x" * 70_000 + b'"}'])
@ensureDeferred
async def test_ip_when_the_service_is_odd(either: Gateway, body: bytes) -> None:
    either.origin.canned[b"/ip"] = says(body)
    reply = await either.ask("/ip")
    assert reply.status == 502
    assert reply.json["code"] == "bad_response"


def says(body: bytes) -> Canned:
    return Canned(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), "keep")


LAUNCHED = Circuit("8", "LAUNCHED", (), "GENERAL", 0.0)
YES = says(b'{"IsTor": true, "IP": "192.0.2.7"}')
NO = says(b'{"IsTor": false, "IP": "198.51.100.1"}')


@pytest.mark.parametrize(
    ("answer", "circuit", "verdict", "is_tor", "address"),
    [
        (YES, CIRCUIT, "verified", True, "192.0.2.7"),
        (NO, CIRCUIT, "contradicted", False, "198.51.100.1"),
        (NO, None, "contradicted", False, "198.51.100.1"),
        (says(b"sorry"), CIRCUIT, "unverified", True, None),
        (Canned(b"", "close"), CIRCUIT, "unverified", True, None),
        (Canned(b"", "close"), None, "unverified", False, None),
        (Canned(b"", "close"), LAUNCHED, "unverified", False, None),
        (YES, None, "unverified", False, "192.0.2.7"),
    ],
)
@ensureDeferred
async def test_verify_tor(
    either: Gateway,
    answer: Canned,
    circuit: Circuit | None,
    verdict: str,
    is_tor: bool,
    address: str | None,
) -> None:
    either.origin.canned[b"/api/ip"] = answer
    either.link.only_circuit = circuit
    reply = await either.ask("/verify-tor")
    assert reply.status == 200
    assert reply.json["verdict"] == verdict
    assert reply.json["isTor"] is is_tor
    assert reply.json["exitIp"] == address
    assert reply.json["proxyUrl"].startswith("socks5h://127.0.0.1:")
    assert reply.json["evidence"]["controlPort"]["streamOnCircuit"] is (circuit is CIRCUIT)


@ensureDeferred
async def test_each_verification_has_a_circuit_of_its_own(either: Gateway) -> None:
    await either.ask("/verify-tor")
    await either.core.renew_all()
    await either.ask("/verify-tor")
    first, second = either.socks.served
    assert first.username != second.username
    assert len(either.core.pool) == 0


@ensureDeferred
async def test_one_verification_serves_all_who_ask_meanwhile(either: Gateway) -> None:
    either.origin.canned[b"/api/ip"] = Canned(b"", "hang")
    asking = [Deferred.fromCoroutine(either.ask("/verify-tor")) for _ in range(5)]
    await either.origin.when_requested(1)
    late = await either.ask("/verify-tor", "Tortxd-Timeout: 0.2")
    assert (late.json["verdict"], late.json["age"]) == ("unverified", 0)
    assert late.json["evidence"]["checkService"]["error"] == "origin_timeout"
    assert late.json["evidence"]["controlPort"]["streamOnCircuit"] is True
    (service,) = either.origin.open_connections
    service.wire.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"IsTor":true}')
    for reply in await gatherResults(asking):
        assert (reply.json["verdict"], reply.json["age"]) == ("verified", 0)
    assert len(either.socks.served) == 1


@ensureDeferred
async def test_a_verification_is_shared_for_some_seconds_and_says_how_old_it_is(
    either: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await either.ask("/verify-tor")
    second = await either.ask("/verify-tor")
    assert first.json["age"] == 0 < second.json["age"] < SHARED
    assert {**first.json, "age": 0} == {**second.json, "age": 0}
    assert len(either.socks.served) == 1
    monkeypatch.setattr("tortxd.gateway.control.verification.SHARED", 0.0)
    assert (await either.ask("/verify-tor")).json["age"] == 0
    assert len(either.socks.served) == 2


@ensureDeferred
async def test_a_verification_that_ends_at_once_is_answered(
    either: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.gateway.control.verification.SHARED", 0.0)
    either.socks.code = 5
    for _ in range(5):  # the later ones are answered from memory
        reply = await either.ask("/verify-tor")
        assert (reply.status, reply.json["verdict"]) == (200, "unverified")
        assert reply.json["evidence"]["checkService"]["error"] == "connect_refused"
    either.link.budget = CircuitBudget(either.reactor, Rate(0.01, 1), None)
    either.core.failures.forget_all()
    assert (await either.ask("/verify-tor")).status == 200
    reply = await either.ask("/verify-tor")
    assert (reply.status, reply.json["code"]) == (503, "overloaded")


@ensureDeferred
async def test_the_circuit_of_a_verification_that_nobody_waited_for_serves_the_next(
    either: Gateway,
) -> None:
    either.origin.canned[b"/api/ip"] = Canned(b"", "hang")
    await either.ask("/verify-tor", "Tortxd-Timeout: 0.2")
    del either.origin.canned[b"/api/ip"]
    await either.ask("/verify-tor")
    first, second = either.socks.served
    assert first.username == second.username


@pytest.mark.parametrize(("path", "asked"), [("/verify-tor", b"/api/ip"), ("/ip", b"/ip")])
@ensureDeferred
async def test_a_client_that_leaves_takes_its_probe_along(
    either: Gateway, path: str, asked: bytes
) -> None:
    """Rule 13."""
    either.origin.canned[asked] = Canned(b"", "hang")
    wire = await either.connect()
    wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await either.origin.when_requested(1)
    wire.transport.loseConnection()
    await either.origin.when_closed(1)


@pytest.mark.parametrize("path", ["/verify-tor", "/ip"])
@ensureDeferred
async def test_probes_while_tor_is_not_ready(either: Gateway, path: str) -> None:
    either.link.status = Bootstrapping(20, "x", "y")
    either.link.socks_address = None
    reply = await either.ask(path, "Tortxd-Timeout: 0.2")
    assert reply.status == 503
    assert reply["Tortxd-Error"] == "tor_not_ready"
    assert reply.json["bootstrap"]["progress"] == 20


@ensureDeferred
async def test_ip_waits_for_tor(either: Gateway) -> None:
    address, either.link.socks_address = either.link.socks_address, None
    either.link.status = Bootstrapping(20, "x", "y")
    asking = Deferred.fromCoroutine(either.ask("/ip"))
    while not either.link.waiting:
        await deferLater(either.reactor, 0)
    assert address is not None
    either.link.waiting.pop().callback(address)
    assert (await asking).json["exitIp"] == "127.0.0.1"


@pytest.mark.parametrize(
    "said", [b"\\ud800", b"<script>", b"192.0.2.1\\r\\n", b"fe80::1%<script>", b"x" * 30_000, b""]
)
@ensureDeferred
async def test_an_address_is_one_or_none(either: Gateway, said: bytes) -> None:
    """What a service says is not handed on unread."""
    answer = says(b'{"ip": "%b", "IP": "%b", "IsTor": true}' % (said, said))
    either.origin.canned[b"/ip"] = either.origin.canned[b"/api/ip"] = answer
    reply = await either.ask("/ip")
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    reply = await either.ask("/verify-tor")
    assert (reply.status, reply.json["verdict"], reply.json["exitIp"]) == (200, "verified", None)


@pytest.mark.parametrize("path", ["/verify-tor", "/ip"])
@ensureDeferred
async def test_a_tor_that_dies_under_a_probe(either: Gateway, path: str) -> None:
    either.origin.canned[b"/ip"] = either.origin.canned[b"/api/ip"] = Canned(b"", "hang")
    asking = Deferred.fromCoroutine(either.ask(path))
    await either.origin.when_requested(1)
    either.link.only_circuit = either.link.socks_address = either.link.reason = None
    either.link.status = BackingOff(1.0, "Tor died.")
    either.origin.connections[1].wire.abortConnection()
    reply = await asking
    assert (reply.status, reply.json["code"]) == (503, "tor_down")


PARTS = [
    Canned(b"", "hang"),
    Canned(b"HTTP/1.1 200 OK\r\nX: y\r\n", "hang"),
    Canned(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "hang"),
]


@pytest.mark.parametrize("part", PARTS)
@ensureDeferred
async def test_a_service_that_does_not_answer_in_time(either: Gateway, part: Canned) -> None:
    """It is the service's fault, and said so; the client's own limit counts."""
    either.origin.canned[b"/ip"] = either.origin.canned[b"/api/ip"] = part
    reply = await either.ask("/ip", "Tortxd-Timeout: 0.2")
    assert (reply.status, reply.json["code"]) == (504, "origin_timeout")
    reply = await either.ask("/verify-tor", "Tortxd-Timeout: 0.2")
    assert (reply.status, reply.json["verdict"]) == (200, "unverified")
    assert reply.json["evidence"]["checkService"]["error"] == "origin_timeout"
    for number in list(either.origin.connections):
        await either.origin.when_closed(number)


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1001 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 270_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 70_000,
        b"HTTP/1.1 302 Found\r\nLocation: /ip\r\nContent-Length: 0\r\n\r\n",
    ],
)
@ensureDeferred
async def test_a_services_answer_is_held_to_the_same_rules(either: Gateway, wire: bytes) -> None:
    """Rules 7 and 12; the connections stay open, so that nothing else ends the waiting."""
    either.origin.canned[b"/ip"] = either.origin.canned[b"/api/ip"] = Canned(wire, "hang")
    reply = await either.ask("/ip")
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    reply = await either.ask("/verify-tor")
    assert reply.json["evidence"]["checkService"]["error"] == "bad_response"
    for number in list(either.origin.connections):
        await either.origin.when_closed(number)


@ensureDeferred
async def test_a_probe_asks_for_nothing_but_its_page(either: Gateway) -> None:
    """Rules 6 and 19: what the client sends stays here, and cookies are not kept."""
    cookie = b"Set-Cookie: canary=1; Path=/\r\nContent-Length: 2\r\n\r\n{}"
    either.origin.canned[b"/ip"] = Canned(b"HTTP/1.1 200 OK\r\n" + cookie, "keep")
    for _ in range(2):
        await either.ask("/ip", "X-Mine: canary", "Authorization: canary")
        assert either.origin.requests[-1].head == (
            b"GET /ip HTTP/1.1\r\nHost: origin.test.example\r\n\r\n"
        )
    assert len(either.socks.served) == 1


@pytest.mark.parametrize("path", ["/verify-tor", "/ip"])
@pytest.mark.parametrize("header", ["Tortxd-Exit-Country: Germany", "Tortxd-Timeout: soon"])
@ensureDeferred
async def test_probes_overlook_no_directive(either: Gateway, path: str, header: str) -> None:
    assert (await either.ask(path, header)).status == 400


ODD = ["/%ff", "/%00", "/health%2f", "/health%0a", "/a%0ab", "/%0d%0aproxy"]
ESCAPED = ["/%70roxy?url=http%3A%2F%2Fa.example%2F", "/%68ealth", "/%2fproxy", "/identity%2fnew"]


@pytest.mark.parametrize(
    "path", ["/nope", "/health/", "//health", "/proxy/x", "/xhealth", *ODD, *ESCAPED]
)
@ensureDeferred
async def test_unknown_paths_are_json_too(either: Gateway, path: str) -> None:
    reply = await either.ask(path)
    assert reply.status in (400, 404)
    assert reply["Content-Type"].startswith("application/json")
    assert reply.json["code"] in ("not_found", "bad_request")
    assert not either.socks.served


@ensureDeferred
async def test_methods(either: Gateway) -> None:
    reply = await either.ask("/health", method="POST", body=b"x")
    assert reply.status == 405
    assert reply["Allow"] == "GET, HEAD, OPTIONS"
    reply = await either.ask("/health", method="HEAD")
    assert reply.status == 200
    assert reply.body == b""
    reply = await either.ask("/health", method="OPTIONS")
    assert reply.status == 204


@ensureDeferred
async def test_options_of_what_is_not_there(either: Gateway) -> None:
    assert (await either.ask("/nope", method="OPTIONS")).status == 404
