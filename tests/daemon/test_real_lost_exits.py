"""Exits that go away, a Tor that starts anew, and what stays in a Tor that others run."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.daemon.process import Daemon, Launcher, installed, run, until
from tests.daemon.steering import close_circuits, exits_in, witness
from tests.tor.lone_tor import alive
from tests.web_client import Reply
from tortxd.testing import Client, Origin, PrivateNetwork

ORIGIN = "origin.test.example"


@pytest.fixture(scope="module")
def network() -> Iterator[PrivateNetwork]:
    """A network of its own, since its exits are stopped and killed."""
    made = PrivateNetwork(
        installed(), origins={ORIGIN: "127.0.0.1"}, exit_countries=("de", "de", "fr")
    )
    run(made.start)
    yield made
    run(made.stop)


@pytest.fixture(scope="module")
def origin(network: PrivateNetwork) -> Iterator[Origin]:
    made = Origin(installed(), network.directory, names=(ORIGIN,), exit_of=network.exit_of)
    run(made.start)
    yield made
    run(made.stop)


@pytest_twisted.async_yield_fixture
async def start(network: PrivateNetwork, origin: Origin, tmp_path: Path) -> AsyncIterator[Launcher]:
    launcher = Launcher(network, origin, tmp_path)
    yield launcher
    await launcher.stop()


@pytest_twisted.async_yield_fixture
async def client(network: PrivateNetwork) -> AsyncIterator[Client]:
    """A Tor that others run."""
    made = await network.start_client()
    yield made
    await made.stop()


async def attached(start: Launcher, client: Client) -> Daemon:
    daemon = start(f"--control=unix:{client.control_socket}", launch=False)
    await daemon.when_ready()
    return daemon


def pid_of(network: PrivateNetwork, fingerprint: str) -> int:
    (relay,) = (one for one in network.relays if one.fingerprint == fingerprint)
    pid = network.processes[relay.nickname].pid
    assert pid is not None
    return pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- a Tor that others run ----------------------------------------------------------------------


@ensureDeferred
async def test_rule_31_nothing_of_ours_is_left_in_a_tor_when_we_go(
    start: Launcher, client: Client, network: PrivateNetwork, origin: Origin
) -> None:
    daemon = await attached(start, client)
    (fr,) = exits_in(network, "fr")
    async with witness(client.control_socket) as seen:
        await seen.control.tell("MAPADDRESS users.example=192.0.2.1")
        reply = await daemon.fetch(origin.http + "/ip", "Tortxd-Exit-Country: fr")
        assert (reply.status, reply["Tortxd-Exit"]) == (200, fr)
        await seen.until_nothing_of_ours()
        with stopped(pid_of(network, fr)):
            wire = await daemon.get_unread(
                origin.http + "/ip", "Tortxd-Exit-Country: fr", "Tor-Stream-Isolation: other"
            )
            await seen.until_something_of_ours()
            await daemon.stop()
            wire.transport.abortConnection()
            # It has gone, and by then everything of it has.
            assert [one.split()[0] for one in await seen.mappings()] == ["users.example"]


@ensureDeferred
async def test_rule_31_nothing_is_left_after_a_kill_once_a_daemon_attaches_again(
    start: Launcher, client: Client, network: PrivateNetwork, origin: Origin
) -> None:
    daemon = await attached(start, client)
    (fr,) = exits_in(network, "fr")
    async with witness(client.control_socket) as seen:
        await seen.control.tell("MAPADDRESS users.example=192.0.2.1")
        with stopped(pid_of(network, fr)):
            wire = await daemon.get_unread(origin.http + "/ip", "Tortxd-Exit-Country: fr")
            await seen.until_something_of_ours()
            daemon.kill()
            await daemon.when_ended()
            wire.transport.abortConnection()
            assert len(await seen.mappings()) == 2
        again = await attached(start, client)
        await seen.until_nothing_of_ours()
        assert [one.split()[0] for one in await seen.mappings()] == ["users.example"]
        reply = await again.fetch(origin.http + "/ip", "Tortxd-Exit-Country: de")
        assert reply["Tortxd-Exit-Country"] == "de"


@ensureDeferred
async def test_a_second_daemon_at_the_same_tor_takes_nothing_from_the_first(
    start: Launcher, client: Client, origin: Origin
) -> None:
    first = await attached(start, client)
    await attached(start, client)
    for number in range(5):
        reply = await first.fetch(
            origin.http + "/ip", "Tortxd-Exit-Country: de", f"Tor-Stream-Isolation: k{number}"
        )
        assert (reply.status, reply["Tortxd-Exit-Country"]) == (200, "de")


# --- exits that go away -------------------------------------------------------------------------


async def keep(daemon: Daemon, origin: Origin, exit: str, key: str, how: str) -> Reply:
    """Have a key keep this exit."""
    reply = await daemon.fetch(
        origin.http + "/ip", f"Tortxd-Exit: {exit}", f"Tortxd-Sticky: {how}", key
    )
    assert (reply.status, reply["Tortxd-Exit"]) == (200, exit)
    return reply


@ensureDeferred
async def test_an_exit_that_dies(start: Launcher, network: PrivateNetwork, origin: Origin) -> None:
    """The last one here: the network is not the same after it."""
    daemon = start()
    await daemon.when_ready()
    dying, other = exits_in(network, "de")
    loose, strict = "Tor-Stream-Isolation: loose", "Tor-Stream-Isolation: strict"
    await keep(daemon, origin, dying, strict, "600, strict")
    choice = f"Tortxd-Exit: {dying}, {other}"
    for number in range(100):  # until chance has it
        loose = f"Tor-Stream-Isolation: loose {number}"
        reply = await daemon.fetch(origin.http + "/ip", choice, "Tortxd-Sticky: 600", loose)
        if reply["Tortxd-Exit"] == dying:
            break
    assert reply["Tortxd-Exit"] == dying

    # It starts anew with another Tor, and the exit is the same.
    tor = daemon.tor_pid
    assert tor is not None
    os.kill(tor, signal.SIGKILL)
    await until(lambda: not alive(tor))
    await daemon.when_health(503)
    await daemon.when_health(200)
    reply = await daemon.fetch(origin.http + "/ip", choice, "Tortxd-Sticky: 600", loose)
    assert (reply.status, reply["Tortxd-Exit"]) == (200, dying)

    pid = pid_of(network, dying)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))
    await close_circuits(daemon, dying)
    # It is listed still. Whoever may have another one gets it, and is told.
    began = installed().seconds()
    reply = await daemon.fetch(origin.http + "/ip", choice, "Tortxd-Sticky: 600", loose)
    assert (reply.status, reply["Tortxd-Exit"]) == (200, other)
    assert reply["Tortxd-Exit-Changed"] == "1"
    assert int(reply["Tortxd-Attempts"]) > 1
    assert reply.json["ip"] == reply["Tortxd-Exit-Address"]
    assert installed().seconds() - began < 15
    reply = await daemon.fetch(origin.http + "/ip", choice, "Tortxd-Sticky: 600", loose)
    assert reply["Tortxd-Exit"] == other
    assert "Tortxd-Exit-Changed" not in reply
    # Who may not, does not.
    for headers in ((strict, "Tortxd-Sticky: 600, strict"), (f"Tortxd-Exit: {dying}",)):
        reply = await daemon.fetch(origin.http + "/ip", *headers)
        assert (reply.status, reply.json["code"]) == (503, "exit_unavailable")
    reply = await daemon.fetch(origin.http + "/ip", "Tortxd-Exit-Country: de")
    assert (reply.status, reply["Tortxd-Exit"]) == (200, other)
