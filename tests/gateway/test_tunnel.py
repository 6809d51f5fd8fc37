"""CONNECT, on a scripted SOCKS server."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from tests.gateway.conftest import CIRCUIT, FakeLink, Gateway, Policy
from tests.gateway.tunnels import TOKEN, basic, far_end_has, head_of, refused
from tests.socks_server import Served
from tests.web_client import Wire, connect_to
from tortxd.gateway import disconnects
from tortxd.gateway.front import connections
from tortxd.gateway.limits import Limits
from tortxd.policy.access import AccessPolicy
from tortxd.relay import outbound
from tortxd.tor.link import Circuit


async def tunnel(gateway: Gateway, *headers: str) -> tuple[Wire, Served]:
    """A tunnel that stands, and its far end."""
    gateway.socks.origin = None
    number = len(gateway.socks.served) + 1
    wire = await gateway.connect()
    wire.send(connect_to("a.example:7000", *headers))
    served = await gateway.socks.asked(number)
    await wire.when_came(b"\r\n\r\n")
    return wire, served


@ensureDeferred
async def test_bytes_go_both_ways(gateway: Gateway) -> None:
    wire, served = await tunnel(gateway)
    head = head_of(wire)
    assert head[0] == "HTTP/1.1 200 OK"
    assert "Tortxd-Circuit: 7" in head
    assert "Tortxd-Exit-Country: de" in head
    assert "Tor-Capabilities: " in head
    assert not [line for line in head if line.lower().startswith(("content-length", "transfer-"))]
    assert served.target == ("a.example", 7000)
    wire.send(b"\x00\xff\r\n\r\nup")
    served.transport.write(b"\x16\x03\x00down")
    await wire.when_came(b"\x16\x03\x00down")
    await far_end_has(gateway, served, b"\x00\xff\r\n\r\nup")


@pytest.mark.parametrize("known", [1, 2, 99])
@ensureDeferred
async def test_the_circuit_is_told_that_was_named_just_now(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """Tor names it before it says that the stream is open, and may be read after that."""
    asked: list[object] = []

    def circuit_of(link: FakeLink, source: object) -> Circuit | None:
        asked.append(source)
        return CIRCUIT if len(asked) > known else None

    monkeypatch.setattr(type(gateway.link), "circuit_of", circuit_of)
    gateway.socks.behind = b"first"
    wire, served = await tunnel(gateway)
    assert ("Tortxd-Circuit: 7" in head_of(wire)) is (known < 2)
    served.transport.write(b" second")
    await wire.when_came(b"first second")
    wire.send(b"up")
    await far_end_has(gateway, served, b"up")


@ensureDeferred
async def test_a_client_that_leaves_just_then_leaves_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(gateway.link), "circuit_of", lambda *_: None)
    gateway.socks.origin, gateway.socks.held = None, True
    wire = await gateway.connect()
    wire.send(connect_to("a.example:7000"))
    served = await gateway.socks.asked(1)
    (tunnel,) = gateway.core.under_way
    monkeypatch.setattr(tunnel, "_go_on", lambda _: wire.transport.abortConnection())
    served.answer(0)
    await served.lost
    assert not gateway.core.under_way


@ensureDeferred
async def test_what_the_destination_says_first_is_not_lost(gateway: Gateway) -> None:
    """Rule 18: it comes in one piece with the SOCKS reply."""
    gateway.socks.behind = b"220 mail.example ready\r\n"
    wire, _ = await tunnel(gateway)
    await wire.when_came(b"220 mail.example ready\r\n")
    assert bytes(wire.raw).startswith(b"HTTP/1.1 200 OK\r\n")
    assert wire.raw.endswith(b"\r\n\r\n220 mail.example ready\r\n")


@ensureDeferred
async def test_what_the_client_says_too_early_is_kept(gateway: Gateway) -> None:
    """Nothing of it goes before the SOCKS reply (rule 28)."""
    gateway.socks.origin = None
    gateway.socks.held = True
    wire = await gateway.connect()
    wire.send(connect_to("a.example:7000") + b"early ")
    served = await gateway.socks.asked()
    wire.send(b"bird" + b"." * 500_000)
    await deferLater(gateway.reactor, 0.05)
    assert served.received == b""
    served.answer()
    await far_end_has(gateway, served, b"early bird" + b"." * 500_000)


@ensureDeferred
async def test_a_clients_fin_is_not_passed_on(gateway: Gateway) -> None:
    """Rule 18: Tor would end both directions."""
    wire, served = await tunnel(gateway)
    wire.send(b"last words")
    wire.transport.loseWriteConnection()
    await far_end_has(gateway, served, b"last words")
    for _ in range(3):
        await deferLater(gateway.reactor, 0.02)
        assert not served.lost.called
        served.transport.write(b"and yet")
    await wire.when_came(b"and yet" * 3)
    served.transport.loseConnection()
    await wire.lost
    assert wire.raw.endswith(b"and yet" * 3)


@ensureDeferred
async def test_a_client_that_is_gone_ends_it(gateway: Gateway) -> None:
    """Rule 13, in a tunnel: a reset is no half close."""
    wire, served = await tunnel(gateway)
    wire.transport.abortConnection()
    await served.lost


@ensureDeferred
async def test_a_client_that_leaves_after_its_fin_ends_it(gateway: Gateway) -> None:
    """A reset is noticed though a half-closed connection is no longer read."""
    wire, served = await tunnel(gateway)
    wire.transport.loseWriteConnection()
    await deferLater(gateway.reactor, 0.05)
    assert not served.lost.called
    wire.transport.abortConnection()
    await served.lost


@ensureDeferred
async def test_a_client_that_leaves_before_the_200(gateway: Gateway) -> None:
    """Rule 13, while Tor connects."""
    gateway.socks.held = True
    wire = await gateway.connect()
    wire.send(connect_to("a.example:7000"))
    served = await gateway.socks.asked()
    wire.transport.loseConnection()
    await served.lost


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (1, 502, "connect_failed"),
        (2, 502, "exit_policy"),
        (4, 502, "resolve_failed"),
        (5, 502, "connect_refused"),
        (6, 504, "tor_timeout"),
        (0xF0, 502, "onion_unreachable"),
        (0xF4, 403, "onion_auth_required"),
    ],
)
@ensureDeferred
async def test_failure_is_said_before_the_200(
    gateway: Gateway, code: int, status: int, error: str
) -> None:
    """Rule 18, with Tor's own reason."""
    gateway.socks.code = code
    gateway.link.reason = "MISC"
    reply = await refused(gateway, "a.example:7000")
    assert reply.status == status
    assert reply.json["code"] == reply["Tortxd-Error"] == error
    assert reply["Tor-Request-Failed"] == "end/MISC"
    assert reply["Tor-Capabilities"] == ""


@pytest.mark.parametrize(
    ("reason", "error", "said"),
    [
        ("CONNECTREFUSED", "connect_refused", "end/CONNECTREFUSED"),
        ("RESOLVEFAILED", "resolve_failed", "end/RESOLVEFAILED"),
        ("EXITPOLICY", "exit_policy", "end/EXITPOLICY"),
        ("TIMEOUT", "tor_timeout", "end/TIMEOUT"),
        ("DESTROY", "connect_failed", "end/DESTROY"),
        ("PRIVATE_ADDR", "connect_failed", "c-tor/PRIVATE_ADDR"),
    ],
)
@ensureDeferred
async def test_the_control_port_knows_better_than_reply_1(
    gateway: Gateway, reason: str, error: str, said: str
) -> None:
    gateway.socks.code = 1
    gateway.link.reason = reason
    reply = await refused(gateway, "a.example:7000")
    assert reply.json["code"] == error
    assert reply["Tor-Request-Failed"] == said
    # So it does where no reason is asked for by name.
    assert (await gateway.fetch("http://a.example/")).json["code"] == error


@ensureDeferred
async def test_without_a_reason_none_is_said(gateway: Gateway) -> None:
    gateway.socks.code = 5
    gateway.link.reason = None
    reply = await refused(gateway, "a.example:7000")
    assert reply.json["code"] == "connect_refused"
    assert "Tor-Request-Failed" not in reply


@pytest.mark.parametrize(
    ("authority", "status"),
    [
        ("localhost:80", 403),
        ("127.0.0.1:80", 403),
        ("[::1]:80", 403),
        ("0x7f.1:80", 403),
        ("10.0.0.1:443", 403),
        ("intranet:443", 403),
        ("user@a.example:443", 403),
        ("a.example:0", 403),
        ("a.example", 400),
        ("a.example:", 400),
        ("a.example:https", 400),
    ],
)
@ensureDeferred
async def test_where_nothing_leads(gateway: Gateway, authority: str, status: int) -> None:
    """Rule 3."""
    reply = await refused(gateway, authority)
    assert reply.status == status
    assert reply["Tortxd-Error"] in ("target_forbidden", "bad_url", "bad_request")
    assert not gateway.socks.served


@pytest.mark.parametrize("body", ["Content-Length: 3", "Transfer-Encoding: chunked"])
@ensureDeferred
async def test_a_connect_has_no_body(gateway: Gateway, body: str) -> None:
    """Rule 7: whether it were a body or the tunnel's first bytes, nobody could say."""
    reply = await refused(gateway, "a.example:7000", body)
    assert reply.status == 400
    assert not gateway.socks.served


@ensureDeferred
async def test_two_hosts_are_refused(gateway: Gateway) -> None:
    assert (await refused(gateway, "a.example:7000", "Host: b.example")).status == 400


@ensureDeferred
async def test_host_and_origin_mean_nothing(gateway: Gateway) -> None:
    """They are the destination's; a page cannot make a browser send a CONNECT."""
    wire, _ = await tunnel(gateway, "Origin: http://evil.example", "Sec-Fetch-Site: cross-site")
    assert head_of(wire)[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Accept: x", 407),
        (basic("tortxd", "wrong"), 407),
        (basic("someone", "a-token"), 407),
        (basic("tor-iso", "a-token"), 407),
        ("Proxy-Authorization: Bearer wrong", 407),
        ("Authorization: Bearer a-token", 407),
        ("Proxy-Authorization: Basic ???", 400),
        (basic("tortxd", "a-token"), 200),
        (basic("tortxd+alice", "a-token"), 200),
        ("Proxy-Authorization: Bearer a-token", 200),
        ("proxy-authorization: bearer a-token", 200),
        ("Tortxd-Token: a-token", 200),
    ],
)
@ensureDeferred
async def test_the_token(gateway: Gateway, make_policy: Policy, field: str, status: int) -> None:
    gateway.core.policy = make_policy(access=AccessPolicy(token=TOKEN))
    gateway.socks.origin = None
    wire = await gateway.connect()
    wire.send(connect_to("a.example:7000", field))
    await wire.when_came(b"\r\n\r\n")
    assert head_of(wire)[0].startswith(f"HTTP/1.1 {status} ")
    if status == 407:
        assert 'Proxy-Authenticate: Basic realm="tortxd"' in head_of(wire)
        assert "Tortxd-Error: unauthorized" in head_of(wire)
    assert bool(gateway.socks.served) == (status == 200)


@ensureDeferred
async def test_keys_keep_tunnels_apart(gateway: Gateway) -> None:
    """Rule 9: each way to name a key, and the destination's site where none is named."""
    same = ["Tor-Stream-Isolation: k", basic("tortxd+k", ""), basic("tor-iso", "k")]
    other = [
        "Accept: x",
        "Tor-Stream-Isolation: l",
        basic("tortxd+l2", "x"),
        basic("bob", "x"),
        basic("bob", "y"),
    ]
    credentials = []
    for field in same + other:
        _, served = await tunnel(gateway, field)
        credentials.append((served.username, served.password))
    assert len(set(credentials[:3])) == 1
    assert len(set(credentials[2:])) == 1 + len(other)


@ensureDeferred
async def test_two_keys_are_refused(gateway: Gateway) -> None:
    key = "Tor-Stream-Isolation: k"
    assert (await refused(gateway, "a.example:7000", key, basic("tortxd+l", ""))).status == 400
    assert (await refused(gateway, "a.example:7000", basic("tortxd+", ""))).status == 400
    assert not gateway.socks.served


@ensureDeferred
async def test_the_destinations_end_is_the_clients(gateway: Gateway) -> None:
    wire, served = await tunnel(gateway)
    served.transport.write(b"bye")
    served.transport.loseConnection()
    await wire.lost
    assert wire.raw.endswith(b"bye")
    assert "cleanly" in str(wire.closed)


@ensureDeferred
async def test_a_circuit_that_dies_is_a_reset(gateway: Gateway) -> None:
    """Rule 14."""
    gateway.link.reason = "DESTROY"
    wire, served = await tunnel(gateway)
    served.transport.loseConnection()
    await wire.lost
    assert "cleanly" not in str(wire.closed)


@ensureDeferred
async def test_a_destination_that_is_not_read_is_paused(gateway: Gateway) -> None:
    """Rule 12: what nobody takes is not kept."""
    wire, served = await tunnel(gateway)
    wire.transport.pauseProducing()
    (front,) = gateway.factory.connections
    to_client: Any = front.transport
    for _ in range(160):
        served.transport.write(b"." * 100_000)
    taken = 0
    while True:
        await deferLater(gateway.reactor, 0.05)
        left = len(served.transport.dataBuffer) + served.transport._tempDataLen
        if left == taken:
            break
        taken = left
    # 16 MB were sent; what is not with the kernel is still with the sender.
    assert left > 4_000_000
    assert len(to_client.dataBuffer) + to_client._tempDataLen < 1_000_000
    wire.transport.resumeProducing()
    served.transport.loseConnection()
    await wire.lost
    assert wire.raw.count(b".") >= 16_000_000


@ensureDeferred
async def test_a_client_whose_bytes_are_not_taken_is_paused(gateway: Gateway) -> None:
    wire, served = await tunnel(gateway)
    served.transport.pauseProducing()
    wire.send(b"." * 16_000_000)
    before = -1
    while before != (left := len(wire.transport.dataBuffer) + wire.transport._tempDataLen):
        before = left
        await deferLater(gateway.reactor, 0.05)
    assert left > 4_000_000
    served.transport.resumeProducing()
    while len(served.received) < 16_000_000:
        await deferLater(gateway.reactor, 0.01)


@ensureDeferred
async def test_silence_ends_it(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 17: with the limit of tunnels, which either side's bytes put off."""
    assert outbound.TUNNEL_IDLE_TIME == 3600
    monkeypatch.setattr("tortxd.relay.tunnel.TUNNEL_IDLE_TIME", 0.9)
    wire, served = await tunnel(gateway)
    for _ in range(3):
        await deferLater(gateway.reactor, 0.2)
        wire.send(b"a")
        await deferLater(gateway.reactor, 0.2)
        served.transport.write(b"b")
    assert wire.closed is None
    await served.lost
    await wire.lost


@ensureDeferred
async def test_the_time_to_connect_is_limited(gateway: Gateway) -> None:
    gateway.socks.held = True
    reply = await refused(gateway, "a.example:7000", "Tortxd-Timeout: 0.2")
    assert reply.status == 504
    assert reply["Tortxd-Error"] == "tor_timeout"


@ensureDeferred
async def test_options_says_what_there_is(gateway: Gateway) -> None:
    """As Tor's own HTTPTunnelPort does; nothing is connected to."""
    wire = await gateway.connect()
    wire.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reply = await wire.reply(b"OPTIONS")
    assert reply.status == 200
    assert "CONNECT" in reply["Allow"].split(", ")
    assert reply["Tor-Capabilities"] == ""
    assert reply["Server"].startswith("tortxd/")
    assert reply["Content-Length"] == "0"
    # The connection goes on, so that a CONNECT can follow what was found out.
    wire.send(connect_to("a.example:7000"))
    await wire.when_came(b"HTTP/1.1 200 OK\r\nTor-Capabilities")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: evil.example", 403),
        ("Accept: x", 400),
        ("Host: localhost\r\nOrigin: http://evil.example", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site", 403),
    ],
)
@ensureDeferred
async def test_options_is_not_for_pages(gateway: Gateway, headers: str, status: int) -> None:
    wire = await gateway.connect()
    wire.send(f"OPTIONS * HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    assert (await wire.reply(b"OPTIONS")).status == status


@ensureDeferred
async def test_options_needs_the_token(gateway: Gateway, make_policy: Policy) -> None:
    gateway.core.policy = make_policy(access=AccessPolicy(token=TOKEN))
    wire = await gateway.connect()
    wire.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await wire.reply(b"OPTIONS")).status == 407


@pytest.mark.parametrize("target", ["*", "health", "//", "a.example:80", "?url=x"])
@ensureDeferred
async def test_targets_that_are_neither_path_nor_url(gateway: Gateway, target: str) -> None:
    wire = await gateway.connect()
    wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (await wire.reply()).status in (400, 404)
    assert not gateway.socks.served


@pytest.mark.parametrize("authority", ["10.0.0.1:25", "a.example:7000", "nonsense"])
@ensureDeferred
async def test_what_follows_a_refused_connect_is_no_request(
    gateway: Gateway, authority: str
) -> None:
    """It was meant for the tunnel: whoever chose those bytes would ask in the client's name."""
    gateway.socks.code = 5
    asked = b"POST /identity/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    for later in (False, True):
        wire = await gateway.connect()
        wire.send(connect_to(authority) + (b"" if later else asked))
        assert (await wire.reply()).status in (400, 403, 502)
        if later:
            wire.send(asked)
        await wire.lost
        assert wire.raw.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("target", ["/proxy?url=http://a.example/", "/health", "xhealth"])
@ensureDeferred
async def test_a_connect_to_a_path_is_none(either: Gateway, target: str) -> None:
    wire = await either.connect()
    wire.send(f"CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    reply = await wire.reply()
    assert 400 <= reply.status < 500
    assert "Tortxd-Error" in reply
    assert not either.socks.served


@pytest.mark.parametrize("target", ["/proxy?url=http://a.example/", "/health"])
@ensureDeferred
async def test_a_connect_to_a_path_is_a_proxys(
    gateway: Gateway, make_policy: Policy, target: str
) -> None:
    """Who sends one takes the gateway for a proxy, and presents to it what a proxy asks for."""
    foreign = ("Host: evil.example", "Origin: http://evil.example", "", "")
    connect = "\r\n".join((f"CONNECT {target} HTTP/1.1", *foreign)).encode()
    wire = await gateway.connect()
    wire.send(connect)
    reply = await wire.reply()
    assert (reply.status, reply["Tortxd-Error"]) == (400, "bad_url")
    gateway.core.policy = make_policy(access=AccessPolicy(token=TOKEN))
    wire = await gateway.connect()
    wire.send(connect)
    reply = await wire.reply()
    assert reply.status == 407
    assert "Proxy-Authenticate" in reply
    assert not gateway.socks.served


@ensureDeferred
async def test_that_a_connect_has_a_body_counts_before_what_it_directs(gateway: Gateway) -> None:
    wire = await gateway.connect()
    head = connect_to("a.example:80").removesuffix(b"\r\n")
    wire.send(head + b"Content-Length: 5\r\nTortxd-Timeout: x\r\n\r\n")
    assert "has no body" in (await wire.reply()).json["error"]


@ensureDeferred
async def test_a_missing_host_is_said_whatever_the_target(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(b"GET nonsense HTTP/1.1\r\n\r\n")
    assert "no Host" in (await wire.reply()).json["error"]


@ensureDeferred
async def test_tunnels_whose_clients_say_no_more_make_room(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 25: such a client may have left. One that still gets bytes has not."""
    monkeypatch.setattr(connections, "LONG_IDLE", 0.5)
    gateway.core.limits = Limits(clients=2)
    silent, _ = await tunnel(gateway)
    talking, far = await tunnel(gateway)
    for wire in (talking, silent):
        wire.transport.loseWriteConnection()
    assert (await gateway.ask("/health")).status == 503
    for _ in range(12):
        await deferLater(gateway.reactor, 0.05)
        far.transport.write(b".")
    await talking.when_came(b"." * 12)
    assert (await gateway.ask("/health")).status == 200
    await silent.lost
    assert talking.closed is None


@ensureDeferred
async def test_a_client_that_says_no_more_while_it_is_not_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 18: all that it has said arrives, once the destination takes it."""
    monkeypatch.setattr(disconnects, "LOOK_EVERY", 0.2)
    wire, served = await tunnel(gateway)
    (front,) = gateway.factory.connections
    upstream: Any = front._request._exchange._upstream  # type: ignore[union-attr]
    served.transport.pauseProducing()
    for end, option in ((served, socket.SO_RCVBUF), (upstream, socket.SO_SNDBUF)):
        end.transport.getHandle().setsockopt(socket.SOL_SOCKET, option, 4096)
    said = b"." * 200_000
    wire.send(said)
    wire.transport.loseWriteConnection()
    await deferLater(gateway.reactor, 2 * disconnects.LOOK_EVERY)  # twice, nothing is to happen
    assert len(served.received) < len(said)
    served.transport.resumeProducing()
    await far_end_has(gateway, served, said)
    # And when it leaves after that, it is noticed.
    wire.transport.abortConnection()
    await served.lost.addTimeout(3.0, gateway.reactor)
