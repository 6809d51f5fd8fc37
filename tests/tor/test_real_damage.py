"""Files of real tors that would keep them from starting, and what becomes of the start. None of
these tors can reach any network."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.tor.daemons import Started, when_control, when_status
from tortxd.tor.session import Watch
from tortxd.tor.status import BackingOff, Bootstrapping, Status
from tortxd.tor.supervisor import TorSupervisor

STATE = "# Tor state file last generated on 2026-11-27 10:19:58 local time\n\n"


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


def _unended_quote(tor_dir: Path) -> None:
    (tor_dir / "state").write_text(STATE + 'Guard "in=default\n')


def _state_folder(tor_dir: Path) -> None:
    (tor_dir / "state").mkdir()


def _lock_folder(tor_dir: Path) -> None:
    (tor_dir / "lock").mkdir()


def _pipe(tor_dir: Path) -> None:
    os.mkfifo(tor_dir / "cached-certs")


@pytest.mark.parametrize(
    ("damage", "kept", "new_guards"),
    [
        (_unended_quote, "state", True),
        (_state_folder, "state", True),
        (_lock_folder, "lock", False),
        (_pipe, "cached-certs", False),
    ],
)
@ensureDeferred
async def test_a_start_with_what_tor_would_not_start_with(
    start: Started,
    tmp_path: Path,
    damage: Callable[[Path], None],
    kept: str,
    new_guards: bool,
) -> None:
    tor_dir = tmp_path / "data" / "tor"
    tor_dir.mkdir(mode=0o700, parents=True)
    damage(tor_dir)
    with capturedLogs() as events:
        daemon = start(tmp_path / "data")
        await when_control(daemon)
    assert (tor_dir / f"{kept}.damaged.1").exists()
    told = " ".join(str(formatEvent(event)) for event in events)
    assert f"it is set aside as {kept}.damaged.1." in told
    assert ("Tor chooses new guards." in told) is new_guards


@ensureDeferred
async def test_a_state_that_tor_itself_moves_aside(start: Started, tmp_path: Path) -> None:
    tor_dir = tmp_path / "data" / "tor"
    tor_dir.mkdir(mode=0o700, parents=True)
    (tor_dir / "state").write_text(STATE + "Dormant maybe\n")
    with capturedLogs() as events:
        await when_control(start(tmp_path / "data"))
    told = [str(formatEvent(event)) for event in events]
    assert "Tor could not read its state, and has moved it aside. Tor chooses new guards." in told
    assert (tor_dir / "state.0").exists()


def when_warned(daemon: TorSupervisor, text: str | None) -> Deferred[None]:
    """Fire when its start has a warning with ``text``; with None, when it has none such any more.

    :param text: None: of the data directory.
    """
    found: Deferred[None] = Deferred()

    def look(status: Status) -> None:
        words = (status.warning or "") if isinstance(status, Bootstrapping) else ""
        is_so = "data directory" not in words if text is None else text in words
        if is_so and not found.called:
            found.callback(None)

    daemon.on_status(look)
    look(daemon.status)
    return found.addTimeout(60, installed)


@ensureDeferred
async def test_a_data_directory_that_goes_and_comes_back(start: Started, tmp_path: Path) -> None:
    """It shows while Tor runs, and is why none is launched; then one is."""
    daemon = start(tmp_path / "data", watch=Watch(interval=0.1, patience=10))
    await when_control(daemon)
    tor_dir, away = tmp_path / "data" / "tor", tmp_path / "away"
    tor_dir.rename(away)
    tor_dir.touch()
    await when_warned(daemon, "The data directory is gone.")
    assert daemon.pid is not None
    os.kill(daemon.pid, signal.SIGKILL)
    status = await when_status(daemon, BackingOff)
    assert isinstance(status, BackingOff)
    again: Deferred[BackingOff] = Deferred()

    def look(status: Status) -> None:
        if isinstance(status, BackingOff) and not again.called:
            again.callback(status)

    daemon.on_status(look)
    reason = (await again.addTimeout(60, installed)).reason
    assert reason == "Tor's data directory cannot be made ready (File exists)."
    tor_dir.unlink()
    away.rename(tor_dir)
    await daemon.when_usable()
    await when_control(daemon)


@ensureDeferred
async def test_a_disk_that_takes_nothing(start: Started, tmp_path: Path) -> None:
    """As with a quota: there is room, and not for these two. Tor goes on, and so do we."""
    daemon = start(tmp_path / "data", watch=Watch(interval=0.1, patience=10))
    await when_control(daemon)
    pid = daemon.pid
    assert pid is not None
    ours, limit = resource.getrlimit(resource.RLIMIT_FSIZE), resource.RLIMIT_FSIZE
    for one in (pid, 0):
        resource.prlimit(one, limit, (0, ours[1]))
    try:
        await when_warned(daemon, "The data directory cannot be written (File too large).")
    finally:
        for one in (pid, 0):
            resource.prlimit(one, limit, ours)
    await when_warned(daemon, None)
    assert daemon.pid == pid
