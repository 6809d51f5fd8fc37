"""How the daemon ends, how its Tor ends, and what is left."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import signal

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.process import Daemon, Launcher, installed, soon, until
from tests.tor.lone_tor import alive, state_of
from tests.web_client import Wire
from tortxd.testing import Origin
from tortxd.testing.processes import find_program, search_path

ORPHANED = 20.0
"""Seconds after which no Tor may be left of a daemon that was killed."""
ENDED_IN_ORDER = (0, -signal.SIGTERM)
"""twistd, once all is stopped, dies of the signal that it was sent, for its starter to see."""


async def kill_when_serving(launch: Launcher) -> int:
    daemon = launch()
    await daemon.when_ready()
    return await killed(daemon)


async def kill_when_tor_is_spawned(launch: Launcher) -> int:
    """Before there can be a control connection, on which Tor would notice the death at once: it
    begins when its daemon is gone."""
    late = launch.folder / "late-tor"
    tor = find_program("tor", search_path())
    stop = 'case " $* " in *" -f "*) kill -STOP $$ ;; esac'
    late.write_text(f'#!/bin/sh\n{stop}\nexec {tor} "$@"\n')
    late.chmod(0o700)
    daemon = launch(f"--tor={late}")
    await until(lambda: stopped(daemon.tor_pid))
    pid = await killed(daemon)
    os.kill(pid, signal.SIGCONT)
    return pid


def stopped(pid: int | None) -> bool:
    """Whether there is this process, and a signal has stopped it (proc(5), /proc/pid/stat)."""
    return pid is not None and state_of(pid) == "T"


async def killed(daemon: Daemon) -> int:
    tor = daemon.tor_pid
    assert tor is not None
    daemon.kill()
    assert await daemon.when_ended() == -signal.SIGKILL
    return tor


@ensureDeferred
async def test_rule_24_a_killed_daemon_leaves_no_tor(launch: Launcher) -> None:
    """Rule 24."""

    async def gone(how: Deferred[int]) -> None:
        tor = await how
        await until(lambda: not alive(tor), ORPHANED)

    ways = (kill_when_serving, kill_when_tor_is_spawned)
    dying = [gone(Deferred.fromCoroutine(kill(launch))) for kill in ways]
    await gatherResults([Deferred.fromCoroutine(one) for one in dying])


async def busy(launch: Launcher, origin: Origin) -> tuple[Daemon, int, Wire]:
    """A daemon with a request under way, its Tor's process id, and the client's connection."""
    daemon = launch()
    await daemon.when_ready()
    tor = daemon.tor_pid
    assert tor is not None
    marked = mark("busy")
    wire = await daemon.get_unread(f"{origin.http}/hang?{marked}")
    await arrivals(origin, marked)
    return daemon, tor, wire


@ensureDeferred
async def test_rule_24_sigterm_ends_both_in_order(launch: Launcher, tor_origin: Origin) -> None:
    """Rule 24, with a request under way."""
    daemon, tor, wire = await busy(launch, tor_origin)
    begun = installed().seconds()
    daemon.kill(signal.SIGTERM)
    assert await daemon.when_ended(5.0) in ENDED_IN_ORDER
    await until(lambda: not alive(tor), max(0.0, begun + 5.0 - installed().seconds()))
    await soon(wire.lost, 1.0)


@ensureDeferred
async def test_rule_30_who_is_cut_off_by_a_stop_is_told(
    launch: Launcher, tor_origin: Origin
) -> None:
    """In time for rule 24, and on every way in."""
    daemon = launch()
    await daemon.when_ready()
    marked = mark("cut-off")
    hang = f"{tor_origin.http}/hang?{marked}"
    proxied = await daemon.get_unread(hang)
    forwarded = await daemon.connect()
    forwarded.send(f"GET {hang} HTTP/1.1\r\nHost: origin.test.example\r\n\r\n".encode())
    await arrivals(tor_origin, marked, 2)
    replies = [wire.reply() for wire in (proxied, forwarded)]
    await daemon.stop()
    for reply in [await soon(one) for one in replies]:
        assert (reply.status, reply.json["code"]) == (503, "tor_down")


@ensureDeferred
async def test_rule_24_sigterm_when_tor_hangs(launch: Launcher, tor_origin: Origin) -> None:
    """Rule 24, with a request under way that gets its time, and a Tor that must be killed."""
    daemon, tor, wire = await busy(launch, tor_origin)
    os.kill(tor, signal.SIGSTOP)
    daemon.kill(signal.SIGTERM)
    assert await daemon.when_ended(5.0) in ENDED_IN_ORDER
    assert not alive(tor)
    await soon(wire.lost, 1.0)


@ensureDeferred
async def test_a_terminal_ends_the_daemon_and_not_its_tor(
    launch: Launcher, tor_origin: Origin
) -> None:
    """Ctrl-C goes to the whole process group; a second one changes nothing, and is no fault."""
    daemon, tor, wire = await busy(launch, tor_origin)
    assert os.getpgid(tor) != os.getpgid(daemon.pid)
    stopping = daemon.when_said("tortxd is stopping.")
    daemon.kill(signal.SIGINT)
    await stopping
    daemon.kill(signal.SIGINT)
    assert alive(tor)
    assert await daemon.when_ended(5.0) in (0, -signal.SIGINT)
    await soon(wire.lost, 1.0)


@ensureDeferred
async def test_rule_24_sigterm_while_tor_starts(launch: Launcher) -> None:
    """Rule 24."""
    daemon = launch()
    await until(lambda: daemon.tor_pid is not None, poll=0.002)
    assert await daemon.stop() in ENDED_IN_ORDER


@ensureDeferred
async def test_rule_23_a_second_daemon_on_the_same_directory(
    launch: Launcher, daemon: Daemon
) -> None:
    """Rule 23."""
    tor = daemon.tor_pid
    second = launch(data_dir=daemon.data_dir)
    assert await second.when_ended() > 0
    last = second.lines[-1]
    assert "Another tortxd" in last
    assert str(daemon.data_dir) in last
    assert daemon.tor_pid == tor
    assert (await daemon.ask("/verify-tor")).json["verdict"] == "verified"


@ensureDeferred
async def test_a_tor_that_crashes_comes_back(launch: Launcher, tor_origin: Origin) -> None:
    """The fault "Tor crashes": requests under way end, /health says so, and it mends itself."""
    daemon = launch()
    await daemon.when_ready()
    tor = daemon.tor_pid
    assert tor is not None
    marked = mark("crash")
    keys = [f"Tor-Stream-Isolation: canary {number}" for number in range(4)]
    endless, silent = f"{tor_origin.http}/bytes/200000000", f"{tor_origin.https}/hang"
    halfway = [await daemon.get_unread(f"{endless}?{marked}", key) for key in keys]
    waiting = [await daemon.get_unread(f"{silent}?{marked}", key) for key in keys]
    await arrivals(tor_origin, marked, 8)
    for wire in halfway:
        await soon(wire.when_came(b"\r\n\r\n"))
    broken = [wire.reply() for wire in halfway]
    failed = [wire.reply() for wire in waiting]
    daemon_pid = daemon.pid
    noticed = daemon.when_said("Tor is down")
    os.kill(tor, signal.SIGKILL)
    await noticed
    down = await daemon.ask("/health")
    assert down.status == 503
    assert down.json["status"] in ("down", "starting")
    assert isinstance(down.json["bootstrap"]["progress"], int)
    refused = await daemon.fetch(tor_origin.http + "/", "Tortxd-Timeout: 0.2")
    assert refused.json["code"] in ("tor_down", "tor_not_ready")
    assert refused["Retry-After"].isdecimal()
    for ended in broken:
        assert not (await soon(ended, 5.0)).whole
    for ended in failed:
        assert (await soon(ended, 5.0)).json["code"] == "tor_down"
    await daemon.when_health(200)
    assert (await daemon.fetch(tor_origin.http + "/")).status == 200
    assert daemon.pid == daemon_pid
    assert daemon.tor_pid not in (None, tor)
    for wire in (*halfway, *waiting):
        wire.transport.abortConnection()
