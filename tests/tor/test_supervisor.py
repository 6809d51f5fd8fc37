"""What the daemon answers while no Tor runs, and its waiting on a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError, TorDown, TorNotReady, TorTimeout
from tortxd.tor.link import TorLink
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Stopped,
)
from tortxd.tor.supervisor import AttachSettings, LaunchSettings, TorSupervisor

SOURCE = ("127.0.0.1", 5)


class World:
    def __init__(self) -> None:
        self.reactor: Any = cast(Any, MemoryReactorClock())
        self.daemon = TorSupervisor(self.reactor, AttachSettings("tcp:127.0.0.1:9051"))
        self.lives = self.daemon._lives
        self.link: TorLink = self.daemon


@pytest.fixture
def world() -> World:
    return World()


def result_of(deferred: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


def test_before_it_is_started(world: World) -> None:
    daemon = world.daemon
    assert daemon.status == Stopped()
    assert daemon.network == "unknown"
    assert daemon.socks_address is None
    assert daemon.pid is None
    assert not daemon.circuits()
    assert not daemon.streams()
    assert daemon.circuit_of(SOURCE) is None
    with pytest.raises(TorNotReady):
        _ = daemon.txtorcon
    assert result_of(daemon.new_identity())[0].check(TorNotReady)
    assert result_of(daemon.stop()) == [None]


def test_usable_long_before_ready(world: World) -> None:
    world.daemon.start()
    assert world.daemon.status == Launching()
    usable, ready = result_of(world.daemon.when_usable()), result_of(world.daemon.when_ready())
    world.lives.socks_at(SocksAddress())
    assert usable == [SocksAddress()] == result_of(world.daemon.when_usable())
    assert not ready
    world.lives.established()
    assert ready == [None] == result_of(world.daemon.when_ready())


def test_waiting_can_be_given_up(world: World) -> None:
    world.daemon.start()
    for waiting in (
        world.daemon.when_usable(),
        world.daemon.when_ready(),
        world.daemon.when_failed(),
        world.daemon.close_reason(SOURCE, 1.0),
    ):
        seen = result_of(waiting)
        waiting.cancel()
        assert seen[0].check(CancelledError)
    world.lives.socks_at(SocksAddress())
    world.lives.established()
    world.reactor.advance(0.5)
    world.daemon.stop()
    assert len(world.daemon._reasons) == 0


def test_nothing_more_comes_of_a_failure(world: World) -> None:
    world.daemon.start()
    waiting = [result_of(world.daemon.when_usable()), result_of(world.daemon.when_ready())]
    failed = result_of(world.daemon.when_failed())
    world.lives.fatal("Bad torrc.")
    assert world.daemon.status == Failed("Bad torrc.")
    waiting += [result_of(world.daemon.when_usable()), result_of(world.daemon.when_ready())]
    for (failure,) in waiting:
        assert failure.check(TorDown)
        assert str(failure.value) == "Bad torrc."
    for error in (*failed, *result_of(world.daemon.when_failed())):
        assert isinstance(error, SetupError)
        assert str(error) == "Bad torrc."


def test_stopping_ends_the_waiting(world: World) -> None:
    world.daemon.start()
    (usable, failed) = (
        result_of(world.daemon.when_usable()),
        result_of(world.daemon.when_failed()),
    )
    assert result_of(world.daemon.stop()) == [None]
    assert usable[0].check(TorDown)
    assert not failed
    assert result_of(world.daemon.when_usable())[0].check(TorDown)


def test_observers(world: World) -> None:
    said: list[object] = []
    leave = world.daemon.on_status(said.append)
    world.daemon.start()
    world.lives.established()
    world.lives.trouble("disk", "Full.")
    world.lives.gone("Dead.")
    leave()
    world.daemon.stop()
    assert said[:3] == [Launching(), Ready(), Degraded(("Full.",))]
    (last,) = said[3:]
    assert isinstance(last, BackingOff)
    assert last.reason == "Dead."


def test_close_reasons(world: World) -> None:
    world.daemon.start()
    early, late = (
        result_of(world.daemon.close_reason(SOURCE, 1.0)),
        result_of(world.daemon.close_reason(("127.0.0.1", 6), 1.0)),
    )
    table = world.daemon._table
    table.feed("STREAM", "20 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:5", 0.0)
    table.feed("STREAM", "20 CLOSED 0 a:1 REASON=DONE", 0.0)
    assert early == ["DONE"]
    assert late == []
    world.reactor.advance(1.1)
    assert late == [None]
    assert len(world.daemon._reasons) == 0


def test_a_reason_that_was_there_before(world: World) -> None:
    table = world.daemon._table
    now = world.reactor.seconds()
    table.feed("STREAM", "20 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:5", now)
    table.feed("STREAM", "20 CLOSED 0 a:1 REASON=DESTROY", now)
    assert result_of(world.daemon.close_reason(SOURCE, 1.0)) == ["DESTROY"]
    waiting = result_of(world.daemon.close_reason(SOURCE, 1.0))
    assert waiting == []
    world.reactor.advance(1.1)
    assert waiting == [None]


class PlayedSession:
    """A control session that records which streams it is to close."""

    def __init__(self) -> None:
        self.session: Any = self
        self.closed: list[str] = []

    def close_stream(self, id: str) -> None:
        self.closed.append(id)


@pytest.mark.parametrize("ends", [True, False])
def test_a_stream_that_is_forsaken_is_closed_if_tor_does_not_notice(
    world: World, ends: bool
) -> None:
    """Rule 13. Another stream may have the same source by then."""
    session = PlayedSession()
    world.lives.run = cast(Any, session)
    table = world.daemon._table
    table.feed("STREAM", '20 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:5 SOCKS_USERNAME="u"', 0.0)
    world.daemon.close_abandoned(SOURCE, b"u")
    world.daemon.close_abandoned(SOURCE, b"stranger")
    world.daemon.close_abandoned(("127.0.0.1", 6), b"u")
    if ends:
        table.feed("STREAM", "20 CLOSED 0 a:1 REASON=DONE", 0.0)
        table.feed("STREAM", '21 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:5 SOCKS_USERNAME="u"', 0.0)
    world.reactor.advance(1.1)
    assert session.closed == ([] if ends else ["20"])


def test_no_tor_executable(tmp_path: Path) -> None:
    settings = LaunchSettings(tmp_path / "data", tor=str(tmp_path / "none"))
    with pytest.raises(SetupError, match="`tor`"):
        TorSupervisor(cast(Any, MemoryReactorClock()), settings).start()


def test_a_new_identity_that_does_not_come_in_time(world: World) -> None:
    class Deaf:
        async def tell(self, command: str) -> str:
            return "OK"

    class Session:
        control = Deaf()
        session: Any = None

    session = Session()
    session.session = session
    world.lives.run = cast(Any, session)
    made = result_of(world.daemon.new_identity())
    world.reactor.advance(60)
    assert isinstance(made[0].value, TorTimeout)
    assert len(world.daemon._new_identity) == 0


def test_no_tor_is_started_again_while_it_winds_down(world: World) -> None:
    world.daemon.start()
    attempts = len(world.reactor.tcpClients)
    world.lives.gone("Dead.")
    world.daemon.wind_down()
    world.reactor.advance(10)
    assert len(world.reactor.tcpClients) == attempts > 0
    assert isinstance(world.daemon.status, BackingOff)
    assert result_of(world.daemon.stop()) == [None]
    world.daemon.start()
    assert len(world.reactor.tcpClients) == attempts + 1
    world.daemon.stop()


def test_a_fault_of_ours_in_every_launch_has_one_traceback(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again for ever, and the log stays short."""
    tried: list[float] = []

    async def begin(_: object) -> None:
        tried.append(world.reactor.seconds())
        raise ZeroDivisionError("It is ours.")

    monkeypatch.setattr("tortxd.tor.attached.Attached._begin", begin)
    with capturedLogs() as events:
        world.daemon.start()
        for _ in range(3600):
            world.reactor.advance(1)
        assert isinstance(world.daemon.status, BackingOff)
        world.daemon.stop()
    assert len(tried) > 60
    faults = [event for event in events if "log_failure" in event]
    assert [formatEvent(event) for event in faults] == ["A fault of ours while attaching to Tor."]
    again = [formatEvent(event) or "" for event in events if "as before" in str(formatEvent(event))]
    assert again[0] == "A fault of ours while attaching to Tor. ZeroDivisionError, as before."
    assert len(again) < 70


def test_what_it_becomes_is_logged_each_time_and_how_far_it_is_once(world: World) -> None:
    near, far = Bootstrapping(5, "conn", "Near"), Bootstrapping(10, "conn", "Far")
    with capturedLogs() as events:
        world.daemon.start()
        for _ in range(3):
            world.lives.progress(near)
            world.lives.progress(far)
        for _ in range(2):
            world.lives.established()
            world.lives.interrupted("It broke.")
        world.daemon.stop()
    assert [formatEvent(event) for event in events if event["log_namespace"] == "tortxd.tor"] == [
        "Connecting to Tor's control port, 127.0.0.1:9051.",
        "Tor is 5 % ready: Near.",
        "Tor is 10 % ready: Far.",
        "Tor is 5 % ready: Near. (2 times more)",
        "Tor is 10 % ready: Far. (2 times more)",
        "Tor is ready.",
        "Tor is 95 % ready: Establishing a Tor circuit. It broke.",
        "Tor is ready.",
        "Tor is 95 % ready: Establishing a Tor circuit. It broke.",
    ]
    assert not world.reactor.getDelayedCalls()
    # Who waits for it says it.
    with capturedLogs() as events:
        world.daemon.start()
        world.daemon.when_failed()
        world.lives.fatal("Bad torrc.")
    assert "Tor cannot run: Bad torrc." not in [formatEvent(event) for event in events]
