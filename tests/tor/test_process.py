"""What Tor says on its output, which tor is taken, and how a process is ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError
from tortxd.tor.process import (
    Complaint,
    Opened,
    Remark,
    TorProcess,
    find_tor,
    listener_address,
    parse_line,
    reason_of,
)
from tortxd.tor.repeats import Repeats
from tortxd.tor.status import Bootstrapping

STAMP = "Nov 22 15:51:09.938 "


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (
            "[notice] Opened Socks listener connection (ready) on 127.0.0.1:42237",
            Opened("socks", SocksAddress(port=42237)),
        ),
        (
            "[notice] Opened Socks listener connection (ready) on [::1]:9050",
            Opened("socks", SocksAddress("::1", 9050)),
        ),
        (
            "[notice] Opened Socks listener connection (ready) on /a b/s",
            Opened("socks", SocksAddress(path="/a b/s")),
        ),
        (
            "[notice] Opened Control listener connection (ready) on /tmp/c",
            Opened("control", SocksAddress(path="/tmp/c")),
        ),
        (
            "[notice] Bootstrapped 5% (conn): Connecting to a relay",
            Bootstrapping(5, "conn", "Connecting to a relay"),
        ),
        ("[warn] Something is odd.", Complaint("warn", "Something is odd.")),
        ("[err] Reading config failed", Complaint("err", "Reading config failed")),
        (
            "[notice] Opening Socks listener on 127.0.0.1",
            Remark("Opening Socks listener on 127.0.0.1"),
        ),
        (
            "[notice] Opened Socks listener connection (ready) on nowhere",
            Remark("Opened Socks listener connection (ready) on nowhere"),
        ),
        ("[info] Bootstrapped", Remark("Bootstrapped")),
        ("nonsense", None),
    ],
)
def test_lines(text: str, event: object) -> None:
    assert parse_line(STAMP + text) == event


@given(st.text(max_size=60))
def test_any_line_is_survived(text: str) -> None:
    parse_line(text)
    parse_line(STAMP + "[notice] Opened Socks listener connection (ready) on " + text)
    listener_address(text)


def test_wildcards_are_reached_on_loopback() -> None:
    assert listener_address("0.0.0.0:1") == SocksAddress("127.0.0.1", 1)
    assert listener_address("[::]:1") == SocksAddress("::1", 1)
    assert listener_address("127.0.0.1:99999") is None


def test_the_reason_is_what_says_something() -> None:
    logged = [
        "You are running Tor as root. You don't need to, and you probably shouldn't.",
        "Could not bind to 127.0.0.1:9050: Address already in use. Is Tor already running?",
        "Failed to parse/validate config: Failed to bind one of the listener ports.",
        "Reading config failed--see warnings above.",
    ]
    assert reason_of(logged, "x").startswith("Tor ended: Could not bind to 127.0.0.1:9050")
    assert reason_of(logged[:1], "It ended.") == "It ended."
    logged = [
        "We need 1000 file descriptors available, and we're limited to 200. Please change your "
        "ulimit -n.",
        "Failed to parse/validate config: Problem with ConnLimit value. See logs for details.",
        "Reading config failed--see warnings above.",
    ]
    assert reason_of(logged, "x").startswith("Tor ended: We need 1000 file descriptors")


class Transport:
    """A process transport that records signals."""

    pid = 4711

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.dead = False

    def closeStdin(self) -> None:
        pass

    def signalProcess(self, number: int) -> None:
        if self.dead:
            raise ProcessExitedAlready
        self.signals.append(number)


class Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.end: tuple[str, bool] | None = None

    def logged(self, event: object) -> None:
        self.heard.append(event)

    def ended(self, reason: str, by_itself: bool) -> None:
        self.end = (reason, by_itself)


def process() -> tuple[TorProcess, Transport, Listener, Clock]:
    clock, listener, transport = Clock(), Listener(), Transport()
    tor = TorProcess(clock, listener, Repeats(clock))
    made: Any = tor
    made.makeConnection(transport)
    return tor, transport, listener, clock


def test_output_comes_in_any_pieces() -> None:
    tor, _, listener, _ = process()
    line = (STAMP + "[notice] Bootstrapped 5% (conn): Connecting\n").encode()
    for byte in line * 2:
        tor.outReceived(bytes([byte]))
    tor.errReceived((STAMP + "[warn] f\xfcr\n").encode("latin-1"))
    assert listener.heard == [Bootstrapping(5, "conn", "Connecting")] * 2 + [
        Complaint("warn", "f�r")
    ]


def test_what_tor_logs_is_logged_once() -> None:
    """Without its clock; its progress is told as the status."""
    one, _, _, _ = process()
    with capturedLogs() as events:
        one.outReceived(f"{STAMP}[notice] Opening Socks listener on 127.0.0.1:1\n".encode())
        one.outReceived(f"{STAMP}[notice] Bootstrapped 5% (conn): Connecting\n".encode())
        one.outReceived(f"{STAMP}[warn] Something is {{odd}}.\n\nno log line\n".encode())
    assert {event["log_namespace"] for event in events} == {"tor"}
    assert [(event["log_level"], formatEvent(event)) for event in events] == [
        (LogLevel.info, "Opening Socks listener on 127.0.0.1:1"),
        (LogLevel.warn, "Something is {odd}."),
        (LogLevel.info, "no log line"),
    ]


ACCEPTED = f"{STAMP}[notice] Opened Control listener connection (ready) on /tmp/c\n".encode()


def test_what_tor_repeats_is_said_once_and_then_how_often() -> None:
    one, _, _, clock = process()
    stuck = "Problem bootstrapping. Stuck at 5% (conn): Connecting to a relay. (x; count {})"
    with capturedLogs() as events:
        one.outReceived(ACCEPTED)
        for pid in range(12):
            for text in (f'"/bin/false" having PID {pid} ended', "Alone"[: 99 * (pid == 0)]):
                if text:
                    one.outReceived(f"{STAMP}[warn] {text}\n".encode())
            one.outReceived(f"{STAMP}[warn] {stuck.format(pid)}\n".encode())
        clock.advance(60)
        clock.advance(60)
    assert [formatEvent(event) for event in events] == [
        "Opened Control listener connection (ready) on /tmp/c",
        '"/bin/false" having PID 0 ended',
        "Alone",
        '"/bin/false" having PID 11 ended (11 times more in the last minute)',
    ]
    assert not clock.getDelayedCalls()


def test_a_refused_configuration_is_told_by_the_reason_alone() -> None:
    one, _, listener, _ = process()
    with capturedLogs() as events:
        for text in (
            "You are running Tor as root. You don't need to, and you probably shouldn't.",
            "Something else is odd.",
            "Failed to parse/validate config: Unknown option 'X'.  Failing.",
            "Reading config failed--see warnings above.",
        ):
            one.outReceived(f"{STAMP}[warn] {text}\n".encode())
        one.outReceived(f"{STAMP}[notice] Tor 0.4.9.11 running on Linux.\n".encode())
        one.processEnded(Failure(ProcessTerminated(exitCode=1)))
    assert listener.end == ("Tor ended: Unknown option 'X'.", True)
    assert [formatEvent(event) for event in events] == ["Something else is odd."]


def test_not_much_is_held_back() -> None:
    one, _, _, _ = process()
    with capturedLogs() as events:
        for letters in range(150):
            one.outReceived(f"{STAMP}[notice] {'x' * letters}y\n".encode())
    assert len(events) == 150


def test_an_endless_line_is_not_kept() -> None:
    tor, _, _, _ = process()
    for _ in range(100):
        tor.outReceived(b"x" * 10_000)
    assert len(tor._buffer) < 30_000


def test_ended_by_its_configuration() -> None:
    tor, _, listener, _ = process()
    tor.outReceived((STAMP + "[warn] Bad option.\n").encode())
    tor.processEnded(Failure(ProcessTerminated(exitCode=1)))
    assert listener.end == ("Tor ended: Bad option.", True)
    assert tor.pid is None


def test_ended_by_a_signal_or_in_order() -> None:
    tor, _, listener, _ = process()
    tor.outReceived((STAMP + "[warn] Old complaint.\n").encode())
    tor.processEnded(Failure(ProcessTerminated(signal=11)))
    assert listener.end == ("Tor was ended by signal 11.", False)
    tor, _, listener, _ = process()
    tor.outReceived((STAMP + "[warn] Old complaint.\n").encode())
    tor.processEnded(Failure(ProcessDone(0)))
    assert listener.end is not None
    assert "Old" not in listener.end[0]


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (
            "setsid: failed to execute /x/tor: No such file or directory",
            127,
            "No such file or directory",
        ),
        ("setsid: failed to execute /x/tor: Permission denied", 126, "Permission denied"),
        ("/x/tor: 1: hello: not found", 127, "it is no program"),
    ],
)
def test_an_executable_that_is_gone_or_broken(said: str, status: int, reason: str) -> None:
    """As in the middle of an upgrade. Its path is not for clients."""
    tor, _, listener, _ = process()
    tor.errReceived(f"{said}\n".encode())
    tor.processEnded(Failure(ProcessTerminated(exitCode=status)))
    assert listener.end == (f"The tor executable cannot be run ({reason}).", True)


def test_stop_is_patient_for_two_seconds() -> None:
    tor, transport, _, clock = process()
    stopped = tor.stop()
    assert transport.signals == [15]
    clock.advance(1.9)
    assert transport.signals == [15]
    clock.advance(0.2)
    assert transport.signals == [15, 9]
    seen = stopped.called
    tor.processEnded(Failure(ProcessTerminated(signal=9)))
    assert (seen, stopped.called) == (False, True)
    assert tor.stop().called


def test_stop_in_order_leaves_no_timer() -> None:
    tor, transport, _, clock = process()
    stopped = tor.stop()
    transport.dead = True
    tor.kill()
    tor.processEnded(Failure(ProcessDone(0)))
    assert stopped.called
    assert not clock.getDelayedCalls()


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "tor"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_real_tor_is_found() -> None:
    assert Path(find_tor(None)).is_absolute()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo Tor version 0.4.6.12.", "0.4.6; tortxd needs 0.4.7"),
        ("echo Tor version 0.3.5.1", "needs 0.4.7"),
        ("echo hello", "--version"),
        ("exit 1", "--version"),
    ],
)
def test_executables_that_will_not_do(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SetupError, match=says):
        find_tor(script(tmp_path, text))


@pytest.mark.parametrize("version", ["0.4.7.1-alpha", "0.4.10.1", "0.5.0.1", "1.0.0"])
def test_newer_ones_do(tmp_path: Path, version: str) -> None:
    assert find_tor(script(tmp_path, f"echo Tor version {version}.")) == str(tmp_path / "tor")


def test_none_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="`tor`"):
        find_tor(str(tmp_path / "none"))
    (tmp_path / "broken").write_text("#!/nonexistent\n")
    (tmp_path / "broken").chmod(0o755)
    with pytest.raises(SetupError, match="cannot be run"):
        find_tor(str(tmp_path / "broken"))
