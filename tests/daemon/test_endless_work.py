"""No request makes Tor work without end."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from tests.daemon.process import Daemon, Launcher, installed, soon
from tests.web_client import Reply
from tortxd import SocksClient
from tortxd.config import Config
from tortxd.errors import ConnectFailed
from tortxd.testing import Origin
from tortxd.tor.guard import MOST_CIRCUITS
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.socks import open_stream

ADDRESS = "2606:4700:4700::1111"
"""Public; no exit of the private network carries IPv6."""


async def newest_circuit(daemon: Daemon) -> int:
    return max(int(one["id"]) for one in (await daemon.told("/circuits"))["circuits"])


@pytest.mark.parametrize("way", ["/proxy http", "/proxy https", "absolute-form", "CONNECT"])
@ensureDeferred
async def test_rule_29_a_target_that_no_exit_carries_fails_at_once(
    daemon: Daemon, way: str
) -> None:
    """Tor itself would look for a circuit until the client gives up, building hundreds."""
    before = await newest_circuit(daemon)
    wire = await daemon.connect()
    target = {
        "/proxy http": f"GET /proxy?url=http://[{ADDRESS}]/canary",
        "/proxy https": f"GET /proxy?url=https://[{ADDRESS}]/canary",
        "absolute-form": f"GET http://[{ADDRESS}]/canary",
        "CONNECT": f"CONNECT [{ADDRESS}]:443",
    }[way]
    wire.send(f"{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    reply = await soon(wire.reply(), 5.0)
    assert (reply.status, reply.json["code"]) == (502, "exit_policy")
    assert reply.json["retryable"] is False
    # Tor builds a few ahead of need all the time.
    assert await newest_circuit(daemon) - before < 10
    wire.transport.abortConnection()


@ensureDeferred
async def test_rule_29_a_stream_that_goes_through_circuits_is_closed(daemon: Daemon) -> None:
    """The same target, asked for at Tor's own port, where the gateway cannot refuse it."""
    before = await newest_circuit(daemon)
    keys = IsolationKeys()
    asking = open_stream(
        installed(),
        Config(f"127.0.0.1:{daemon.socks}").socks,
        ADDRESS,
        80,
        keys.credentials(Isolation("key", b"canary")),
        Protocol(),
        timeout=30.0,
    )
    with pytest.raises(ConnectFailed):
        await asking
    assert await newest_circuit(daemon) - before < 10 * MOST_CIRCUITS


@ensureDeferred
async def test_rule_29_the_library_is_stopped_too(daemon: Daemon) -> None:
    """For all that is asked of a Tor that tortxd watches."""
    client = SocksClient(Config(f"127.0.0.1:{daemon.socks}", timeout=30.0), installed())
    with pytest.raises(ConnectFailed):
        await client.send_receive(ADDRESS, 80, b"canary")


# --- fresh circuits -------------------------------------------------------------------------------


async def all_of(asking: list[Coroutine[Deferred[Any], Any, Reply]]) -> list[Reply]:
    return await soon(gatherResults([Deferred.fromCoroutine(one) for one in asking]))


@pytest.mark.parametrize("way", ["all at once, with a key each", "one after the other, with one"])
@ensureDeferred
async def test_rule_29_failing_requests_have_a_budget(launch: Launcher, way: str) -> None:
    """Each of them costs Tor two or three conflux sets, which are four or six circuits."""
    daemon = launch("--caller-circuit-rate=0.5:10")
    await daemon.when_ready()
    before = await newest_circuit(daemon)

    def ask(number: int, key: int) -> Coroutine[Deferred[Any], Any, Reply]:
        headers = (f"Tor-Stream-Isolation: {key}", "Tortxd-Timeout: 2")
        return daemon.fetch(f"http://canary{number}.example/", *headers)

    if way.startswith("all"):
        replies = await all_of([ask(number, number) for number in range(60)])
    else:
        replies = [await ask(number, 1) for number in range(30)]
    codes = Counter(reply.json["code"] for reply in replies)
    assert set(codes) == {"resolve_failed", "overloaded"}, codes
    for reply in replies:
        if reply.json["code"] == "overloaded":
            assert reply.status == 503 and int(reply["Retry-After"]) > 0
    assert codes["resolve_failed"] <= 15
    assert await newest_circuit(daemon) - before < 15 * 6


@ensureDeferred
async def test_rule_29_what_fails_is_not_tried_on_and_on(daemon: Daemon) -> None:
    before = await newest_circuit(daemon)
    for _ in range(30):
        reply = await daemon.fetch("http://canary-again.example/")
        assert (reply.status, reply.json["code"]) == (502, "resolve_failed")
    assert int(reply["Retry-After"]) > 0
    assert await newest_circuit(daemon) - before < 5 * 6 + 10


@ensureDeferred
async def test_rule_29_circuits_that_served_failures_only_are_closed(
    launch: Launcher, tor_origin: Origin, tmp_path: Path
) -> None:
    torrc = tmp_path / "torrc"
    # So that circuits for streams are of a kind of their own.
    torrc.write_text(launch.network.write_client_torrc().read_text() + "ConfluxEnabled 0\n")
    daemon = launch(torrc=torrc)
    await daemon.when_ready()
    served = await daemon.fetch_told(f"{tor_origin.http}/echo", "Tor-Stream-Isolation: serves")

    async def there() -> int:
        shown = (await daemon.told("/circuits"))["circuits"]
        return len([one for one in shown if one["purpose"] == "GENERAL"])

    before = await there()
    replies = await all_of(
        [
            daemon.fetch(f"http://canary{number}.example/", f"Tor-Stream-Isolation: f{number}")
            for number in range(10)
        ]
    )
    assert {reply.json["code"] for reply in replies} == {"resolve_failed"}
    most = await there()
    assert most >= before + 20
    # Two of three for each request, to which Tor gives nothing more; itself it would look at them
    # after half a minute.
    deadline = installed().seconds() + 15.0
    while await there() > most - 10:
        assert installed().seconds() < deadline
        await deferLater(installed(), 0.2)
    again = await daemon.fetch_told(f"{tor_origin.http}/echo", "Tor-Stream-Isolation: serves")
    assert again["Tortxd-Circuit"] == served["Tortxd-Circuit"]


@ensureDeferred
async def test_rule_29_many_who_verify_cost_one_circuit(
    launch: Launcher, tor_origin: Origin
) -> None:
    daemon = launch()
    await daemon.when_ready()
    before = len([one for one in tor_origin.requests if one.target == b"/api/ip"])
    replies = await all_of([daemon.ask("/verify-tor") for _ in range(100)])
    assert {reply.json["verdict"] for reply in replies} == {"verified"}
    assert max(reply.json["age"] for reply in replies) < 10
    probes = len([one for one in tor_origin.requests if one.target == b"/api/ip"]) - before
    assert probes == 1
