"""Attached to a Tor that goes away and comes back, and that others use too."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import re
from typing import Any, cast

from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.portforward import ProxyFactory, ProxyServer

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.live import Reading
from tests.daemon.process import PATIENCE, POLL, Daemon, Launcher, installed, soon
from tests.daemon.steering import Witness, witness
from tests.tor.lone_tor import free_port
from tests.web_client import Reply
from tortxd.addresses import SocksAddress
from tortxd.testing import Origin, PrivateNetwork
from tortxd.testing.processes import TorProcess
from tortxd.tor.isolation import Credentials
from tortxd.tor.lifecycle import RESTORING
from tortxd.tor.process import find_tor
from tortxd.tor.socks import TorEndpoint

LEFT = "tortxd-" + "0" * 32 + ".onion"
"""What a daemon maps."""


class _Cable(ProxyServer):
    def connectionMade(self) -> None:
        cast(Cable, self.factory).cables.append(self)
        super().connectionMade()


class Cable(ProxyFactory):
    """The way to a control port, which can be cut while that Tor lives."""

    protocol = _Cable
    noisy = False

    def __init__(self, to: tuple[str, int]) -> None:
        super().__init__(*to)
        self.cables: list[Any] = []
        self.entry = free_port()
        self.listener: Any = None

    def mend(self) -> None:
        self.listener = installed().listenTCP(self.entry, self, interface="127.0.0.1")

    async def cut(self) -> None:
        await self.listener.stopListening()
        for cable in self.cables:
            cable.transport.abortConnection()
        self.cables.clear()


async def post(daemon: Daemon, path: str) -> Reply:
    return await daemon.ask(path, f"Tortxd-Token: {daemon.token}", method="POST")


@frozen
class State:
    """What of a Tor is others' to say."""

    options: str
    mappings: list[str]
    streams: list[list[str]]
    """Their ids, and those of their circuits."""

    @classmethod
    async def of(cls, seen: Witness) -> State:
        replies = await seen.control.ask("config-text", "stream-status")
        streams = [line.split()[:3:2] for line in replies["stream-status"].splitlines() if line]
        return cls(replies["config-text"], await seen.mappings(), streams)


async def when_health(daemon: Daemon, status: str) -> Any:
    """Wait until /health says this, and return what else it says."""
    deadline = installed().seconds() + PATIENCE
    while (told := (await daemon.ask("/health")).json)["status"] != status:
        assert installed().seconds() < deadline, told
        await deferLater(installed(), POLL)
    return told


def key(name: str) -> str:
    return f"Tor-Stream-Isolation: {name}"


@ensureDeferred
async def test_the_control_connection_alone_is_lost(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    """What needs none of it is served; what does says so; and all is as before when it is back."""
    client = await tor_network.start_client()
    cable = Cable(client.control)
    cable.mend()
    daemon = launch(f"--control=tcp:127.0.0.1:{cable.entry}", launch=False)
    await daemon.when_ready()
    events = await Reading.of(daemon)
    url = tor_origin.http + "/ip"
    circuit = (await daemon.fetch_told(url, key("kept")))["Tortxd-Circuit"]
    async with witness(client.control_socket) as seen:
        await cable.cut()
        told = await when_health(daemon, "degraded")
        assert told["reasons"] == [f"The control connection to Tor was lost. {RESTORING}"]
        assert told["tor"] == "socks5h://{}:{}".format(*client.socks)
        assert (await daemon.fetch(url, key("kept"))).status == 200
        reply = await daemon.fetch(url, key("fresh"))
        assert (reply.status, "Tortxd-Circuit" in reply) == (200, False)
        # Nothing is shown that may be over by now.
        assert (await daemon.told("/circuits"))["circuits"] == []
        assert (await daemon.told("/streams"))["streams"] == []
        for reply in (
            await daemon.fetch(url, "Tortxd-Exit-Country: de"),
            await post(daemon, "/identity/new"),
            await post(daemon, f"/circuits/{circuit}/close"),
        ):
            assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")
            assert reply.json["error"] == "There is no control connection to Tor now."
        await seen.control.tell(f"MAPADDRESS {LEFT}=192.0.2.2")
        before = len(events.all())
        cable.mend()
        await when_health(daemon, "ok")
        await seen.until_nothing_of_ours()
    shown = (await daemon.told("/circuits"))["circuits"]
    assert circuit in [one["id"] for one in shown]
    later = (await daemon.fetch_told(url, key("later")))["Tortxd-Circuit"]

    def is_later(kind: str, data: Any) -> bool:
        return kind == "stream" and data["circuit"] == later

    await events.first(is_later)
    kinds = [kind for kind, _ in events.all()[before:]]
    assert kinds.count("snapshot") == 1
    assert circuit in [one["id"] for kind, one in events.all()[before:] if kind == "circuit"]
    assert (await daemon.fetch(url, "Tortxd-Exit-Country: de")).status == 200
    events.wire.transport.abortConnection()
    await daemon.stop()
    await cable.cut()
    await client.stop()


@ensureDeferred
async def test_that_tor_dies_and_comes_back_with_another_socks_port(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    client = await tor_network.start_client()
    daemon = launch(f"--control=unix:{client.control_socket}", launch=False)
    await daemon.when_ready()
    url = tor_origin.http + "/ip"
    assert (await daemon.fetch(url)).status == 200
    await client.stop()
    told = await when_health(daemon, "down")
    assert (told["tor"], "reason" in told) == (None, True)
    reply = await daemon.fetch(url)
    assert (reply.status, reply.json["code"], reply["Retry-After"]) == (503, "tor_down", "5")
    port = free_port()
    torrc = tor_network.directory / f"{client.process.nickname}.torrc"
    torrc.write_text(re.sub("(?m)^SocksPort .*", f"SocksPort {port}", torrc.read_text()))
    again = TorProcess(installed(), find_tor(None), client.process.nickname, torrc, lambda *_: None)
    try:
        told = (await daemon.when_health(200)).json
        assert told["tor"] == f"socks5h://127.0.0.1:{port}"
        assert (await daemon.fetch(url)).status == 200
        await daemon.stop()
    finally:
        await again.kill()


@ensureDeferred
async def test_rule_31_others_keep_what_is_theirs(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    """Streams, circuits, mappings and options of others, while they are used and when we go; what
    others tell that Tor to do keeps nobody from being served."""
    client = await tor_network.start_client()
    async with witness(client.control_socket) as seen:
        stranger = Protocol()
        await soon(
            TorEndpoint(
                installed(),
                SocksAddress(*client.socks),
                "origin.test.example",
                tor_origin.http_port,
                Credentials(b"stranger", b"p"),
            ).connect(Factory.forProtocol(lambda: stranger))
        )
        await seen.control.tell("MAPADDRESS users.example=192.0.2.1")
        await seen.control.tell("SETCONF MaxCircuitDirtiness=700")
        before = await State.of(seen)
        assert len(before.streams) == 1
        daemon = launch(f"--control=unix:{client.control_socket}", launch=False)
        await daemon.when_ready()
        url = tor_origin.http + "/ip"
        for order in ("SIGNAL DORMANT", "SIGNAL ACTIVE", "SIGNAL NEWNYM", "SIGNAL RELOAD"):
            await seen.control.tell(order)
            assert (await daemon.fetch(url, key(order))).status == 200
            assert (await daemon.fetch(url, "Tortxd-Exit-Country: de")).status == 200
        await seen.control.tell("SETCONF MaxCircuitDirtiness=700")  # what RELOAD has undone
        failing = f"http://nowhere.test.example:{tor_origin.http_port}/"
        assert (await daemon.fetch(failing, "Tortxd-Timeout: 5")).status in (502, 504)
        marked = mark("hang")
        waiting = await daemon.get_unread(f"{tor_origin.http}/hang?{marked}", key("hang"))
        await arrivals(tor_origin, marked)
        assert await State.of(seen) != before
        await daemon.stop()
        waiting.transport.abortConnection()
        deadline = installed().seconds() + PATIENCE
        while await State.of(seen) != before:  # Tor may not have read yet that we have hung up
            assert installed().seconds() < deadline, await State.of(seen)
            await deferLater(installed(), POLL)
        assert stranger.transport is not None
        stranger.transport.loseConnection()
    await client.stop()
