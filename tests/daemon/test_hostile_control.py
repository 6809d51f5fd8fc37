"""Whatever a control port says, the daemon lives, answers, and goes nowhere on its word."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from tests.daemon.process import Daemon, Launcher, installed, memory
from tests.daemon.traces import inet, read_trace, strace
from tests.tor.hostile_control import (
    EITHER,
    LAST,
    TRICKS,
    HostileControl,
    Trick,
    greeting_socks,
    offering,
)

HARMLESS = TRICKS["a reply to no command"]
READY_AND_THEN = Trick(HARMLESS.says, unasked=HARMLESS.unasked, after=LAST)
"""It serves, for a moment."""
DAEMONS = 4
MOST = 45_000_000
"""Bytes by which a daemon may grow; without a bound it was 190 million in 14 seconds."""

TOO_SLOW = "does not answer"
"""What is said on a busy machine, where a flood takes longer than an answer may."""

Listen = Callable[[Factory], int]


@pytest_twisted.async_yield_fixture
async def listen() -> AsyncIterator[Listen]:
    """Opens a port on loopback."""
    listeners = []

    def open_port(port: Factory) -> int:
        listener = installed().listenTCP(0, port, interface="127.0.0.1")
        listeners.append(listener)
        number: int = listener.getHost().port
        return number

    yield open_port
    for listener in listeners:
        await listener.stopListening()


@pytest.fixture
def socks(listen: Listen) -> int:
    """A SOCKS port that lives."""
    return listen(greeting_socks())


def endings(daemon: Daemon) -> list[str]:
    """What it has said of connections that are over."""
    return [line for line in daemon.lines if re.search("tried again in|is being restored", line)]


@ensureDeferred
async def test_rule_20_a_control_port_that_talks_rubbish(
    launch: Launcher, listen: Listen, socks: int
) -> None:
    """What is wrong is told in a sentence, while /health answers; little memory is taken. Few
    tricks come to each daemon, which waits longer from one to the next; the first costs it little.
    One of each kind is played here; all are in `tests/tor/test_hostile_control.py`."""
    kinds = {trick.says: trick for trick in TRICKS.values() if trick.says}
    del kinds[EITHER]  # of which one each is among the others
    tricks = sorted(kinds.values(), key=lambda trick: trick.speaks_unasked)

    async def suffer(*part: Trick) -> None:
        port = listen(HostileControl(*part, Trick(""), socks=socks))
        daemon = launch(f"--control=tcp:127.0.0.1:{port}", launch=False)
        await daemon.when_listening()
        before = 0
        for number, trick in enumerate(part):
            await answering(daemon, number)
            said = endings(daemon)[number]
            assert trick.says in said or TOO_SLOW in said
            before = before or memory(daemon.pid)
        assert memory(daemon.pid) - before < MOST

    async def answering(daemon: Daemon, number: int) -> None:
        while len(endings(daemon)) <= number:
            reply = await daemon.ask("/health")
            assert reply.status in (200, 503)
            assert reply.json["status"] in ("ok", "degraded", "starting", "bootstrapping", "down")
            await deferLater(installed(), 0.5)

    parts = (tricks[n::DAEMONS] for n in range(DAEMONS))
    await gatherResults([Deferred.fromCoroutine(suffer(*part)) for part in parts])


@ensureDeferred
async def test_rule_20_health_says_why_a_control_port_is_not_believed(
    launch: Launcher, listen: Listen, socks: int
) -> None:
    """While the SOCKS port goes on, requests are served."""
    port = listen(HostileControl(READY_AND_THEN, socks=socks))
    daemon = launch(f"--control=tcp:127.0.0.1:{port}", launch=False)
    await daemon.when_said("is being restored")
    reply = await daemon.when_health(200)
    assert reply.json["status"] == "degraded"
    assert reply.json["reasons"] == [
        "Tor's control port is not believed: it sent a reply to no command. The control connection "
        "is being restored."
    ]


@ensureDeferred
async def test_rule_20_a_cookie_is_not_handed_out(
    launch: Launcher, listen: Listen, socks: int, tmp_path: Path
) -> None:
    """Not to who does not know it; and what is no file is waited for at no time."""
    secret, pipe = tmp_path / "canary-cookie", tmp_path / "pipe"
    secret.write_bytes(sha256(b"secret").digest())
    secret.chmod(0o600)
    os.mkfifo(pipe)
    challenge = b"250 AUTHCHALLENGE SERVERHASH=%s SERVERNONCE=%s\r\n" % (b"AB" * 32, b"CD" * 32)
    ports = [
        HostileControl(Trick("", offering(f'COOKIE COOKIEFILE="{secret}"'))),
        HostileControl(
            Trick(
                "",
                {
                    **offering(f'COOKIE,SAFECOOKIE COOKIEFILE="{secret}"'),
                    "AUTHCHALLENGE": challenge,
                },
            )
        ),
    ]
    launch.secrets.remove("canary")  # it is in the name of a file, which a sentence may hold
    for port, says in zip(ports, ("since 0.2.3.13", "does not know the cookie"), strict=True):
        daemon = launch(f"--control=tcp:127.0.0.1:{listen(port)}", launch=False)
        assert await daemon.when_ended() == 1
        assert says in daemon.lines[-1]
        assert secret.read_bytes().hex() not in " ".join(port.heard).lower()
        assert not [command for command in port.heard if command.startswith("AUTHENTICATE")]
    named = Trick("", offering(f'SAFECOOKIE COOKIEFILE="{pipe}"'))
    port = HostileControl(READY_AND_THEN, named, socks=socks)
    daemon = launch(f"--control=tcp:127.0.0.1:{listen(port)}", launch=False)
    await daemon.when_said("cannot be read: it is a pipe")
    assert (await daemon.ask("/health")).json["status"] == "degraded"
    await daemon.stop()


@ensureDeferred
async def test_rule_01_a_control_port_names_no_way_round_tor(
    launch: Launcher, listen: Listen, tmp_path: Path
) -> None:
    """A name is not looked up, and a far address not connected to. (What is named here would lead
    nowhere else in any case: TCP has no connections to multicast addresses.)"""
    for number, (named, says) in enumerate(
        (
            ('"localhost:9050" "canary.test:9050"', "no SOCKS port open"),
            ('"localhost:9050" "224.0.0.1:9050"', "is not a loopback address"),
        )
    ):
        reply = f"250-net/listeners/socks={named}\r\n250 OK\r\n".encode()
        control = listen(HostileControl(Trick("", {"GETINFO net/listeners/socks": reply})))
        file = tmp_path / f"trace{number}"
        daemon = launch(f"--control=tcp:127.0.0.1:{control}", launch=False, wrapper=strace(file))
        assert await daemon.when_ended() == 1
        assert says in daemon.lines[-1]
        assert "--socks" in daemon.lines[-1]
        trace = read_trace(file)
        assert {to for to in trace.connects if not re.search("AF_UNIX", to)} == {
            inet("127.0.0.1", control)
        }
        assert not trace.addressed
        assert not trace.looked_up
