"""How the command finds the daemons of its user: the file that each keeps while it runs."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tortxd.runtime import Announcement, Running, announce, run_dirs, running

ONE = Running(4711, ("http://127.0.0.1:3080", "unix:/run/gateway"), Path("/data/token"), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "tortxd"


@pytest.fixture
def announced(folder: Path) -> Iterator[Announcement]:
    announcement = announce([folder], ONE)
    yield announcement
    announcement.withdraw()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("announced")
def test_a_daemon_is_found_while_it_runs(folder: Path) -> None:
    (found,) = running([folder])
    assert found._replace(since=0.0) == ONE
    assert found.since > 0


def test_a_daemon_that_has_stopped_is_not_found(folder: Path) -> None:
    announce([folder], ONE).withdraw()
    assert running([folder]) == []
    assert list(folder.iterdir()) == []


def test_the_file_is_its_users_alone(folder: Path, announced: Announcement) -> None:
    assert announced.path == folder / "4711.json"
    assert mode(folder) == 0o700
    assert mode(announced.path) == 0o600
    assert json.loads(announced.path.read_bytes()) == {
        "pid": 4711,
        "gateways": ["http://127.0.0.1:3080", "unix:/run/gateway"],
        "operatorToken": "/data/token",
        "clientToken": None,
    }


def test_a_folder_that_others_could_read_is_made_private(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    announce([folder], ONE).withdraw()
    assert mode(folder) == 0o700


def left_behind(folder: Path, pid: int) -> Path:
    """The file of a daemon that was killed."""
    announcement = announce([folder], ONE._replace(pid=pid))
    os.close(announcement._descriptor)
    return announcement.path


def test_the_file_of_a_killed_daemon_counts_for_nothing_though_its_pid_lives(folder: Path) -> None:
    stale = left_behind(folder, os.getpid())
    assert running([folder]) == []
    assert stale.exists()


@pytest.mark.usefixtures("announced")
def test_the_next_start_removes_what_killed_daemons_left(folder: Path) -> None:
    stale = left_behind(folder, 99)
    other = announce([folder], ONE._replace(pid=4712))
    assert not stale.exists()
    assert {daemon.pid for daemon in running([folder])} == {4711, 4712}
    other.withdraw()


def test_the_newest_comes_first(folder: Path) -> None:
    both = [announce([folder], ONE._replace(pid=pid)) for pid in (7, 8, 9)]
    for seconds, announcement in zip((100, 300, 200), both, strict=True):
        os.utime(announcement.path, (seconds, seconds))
    assert [daemon.pid for daemon in running([folder])] == [8, 9, 7]
    for announcement in both:
        announcement.withdraw()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "\0", "[" * 60_000])
def test_what_is_no_such_file_is_passed_over(
    folder: Path, announced: Announcement, text: str
) -> None:
    announced.path.write_text(text)
    (folder / "notes.txt").write_text("mine")
    (folder / "5.json").mkdir()
    assert running([folder]) == []


def test_a_link_is_no_folder_to_write_in(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "tortxd").symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError):
        announce([tmp_path / "tortxd"], ONE)
    assert list(elsewhere.iterdir()) == []


def test_a_link_is_no_file_to_write_to(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    for name in ("4711.json", "4711.json.new"):
        (folder / name).symlink_to(victim)
    announce([folder], ONE).withdraw()
    assert victim.read_text() == "kept"


def test_a_link_is_no_file_to_read(folder: Path, announced: Announcement) -> None:
    elsewhere = announced.path.rename(folder.parent / "1.json")
    announced.path.symlink_to(elsewhere)
    assert running([folder]) == []
    elsewhere.rename(announced.path)


def test_where_one_folder_cannot_be_had_the_next_is_taken(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").touch()
    announcement = announce([tmp_path / "file" / "tortxd", folder], ONE)
    assert announcement.path.parent == folder
    announcement.withdraw()


def test_where_none_can_be_had_that_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        announce([tmp_path / "file" / "tortxd"], ONE)


def test_where_the_files_lie(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/home/me"}
    in_home = Path("/home/me/.local/state/tortxd/run")
    assert run_dirs(environ) == (tmp_path / "tortxd", in_home)
    assert run_dirs({"HOME": "/home/me"}) == (in_home,)
    assert run_dirs({"XDG_STATE_HOME": "/state"}) == (Path("/state/tortxd/run"),)


@pytest.mark.parametrize("runtime", ["", "run/user", "/nonexistent/1000"])
def test_a_runtime_folder_that_is_not_there_is_passed_over(runtime: str) -> None:
    assert len(run_dirs({"XDG_RUNTIME_DIR": runtime, "HOME": "/home/me"})) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_runtime_folder_of_another_user_is_passed_over(tmp_path: Path) -> None:
    """As sudo may pass it on."""
    other = tmp_path / "1000"
    other.mkdir()
    os.chown(other, 12345, 12345)
    assert len(run_dirs({"XDG_RUNTIME_DIR": str(other), "HOME": "/home/me"})) == 1
