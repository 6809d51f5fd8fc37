"""The data directory, its lock and the operator token."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tortxd.errors import SetupError
from tortxd.tor.datadir import operator_token, prepare, write_private
from tortxd.tor.lock import DataDirLock, tor_lives_in


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_private(tmp_path: Path) -> None:
    path = prepare(tmp_path / "a" / "b")
    assert mode(path) == 0o700


def test_a_wider_mode_is_corrected(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_name_that_tor_cannot_be_told_is_refused() -> None:
    with pytest.raises(SetupError, match="not UTF-8"):
        prepare(Path(os.fsdecode(b"/nonexistent/x\xffy")))


def test_what_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="`data_dir`"):
        prepare(tmp_path / "file")
    with pytest.raises(SetupError, match="`data_dir`"):
        prepare(tmp_path / "file" / "below")


def test_anothers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = operator_token(tmp_path)
    someone_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    with pytest.raises(SetupError, match="another user"):
        prepare(tmp_path)
    with pytest.raises(SetupError, match="another user") as refused:
        operator_token(tmp_path)
    assert token not in str(refused.value)


def test_the_token_is_made_once(tmp_path: Path) -> None:
    token = operator_token(tmp_path)
    assert len(token) >= 43
    assert operator_token(tmp_path) == token
    assert mode(tmp_path / "operator-token") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["operator-token"]


def test_a_readable_token_is_closed_again(tmp_path: Path) -> None:
    token = operator_token(tmp_path)
    (tmp_path / "operator-token").chmod(0o644)
    assert operator_token(tmp_path) == token
    assert mode(tmp_path / "operator-token") == 0o600


@pytest.mark.parametrize("content", ["", "short", "two words that are long enough", "ä" * 40])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "operator-token").write_text(content)
    with pytest.raises(SetupError, match="operator-token"):
        operator_token(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 43)
    (tmp_path / "operator-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="operator-token"):
        operator_token(tmp_path)
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="lock"):
        DataDirLock.acquire(tmp_path)


def test_private_files_replace_others(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o666)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o600
    with pytest.raises(SetupError):
        write_private(tmp_path / "none" / "f", "")


def test_private_files_that_are_as_they_should_be_are_left_alone(tmp_path: Path) -> None:
    """On a full disk nothing could replace them."""
    path = tmp_path / "torrc"
    write_private(path, "a\n")
    first = path.stat().st_ino
    write_private(path, "a\n")
    assert path.stat().st_ino == first
    for spoil in (
        lambda: path.chmod(0o644),
        lambda: path.write_text("b\n"),
        lambda: os.symlink(path.rename(tmp_path / "other"), path),
    ):
        spoil()
        write_private(path, "a\n")
        assert not path.is_symlink()
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("a\n", 0o600)


def test_one_holder(tmp_path: Path) -> None:
    lock = DataDirLock.acquire(tmp_path)
    with pytest.raises(SetupError, match="Another tortxd"):
        DataDirLock.acquire(tmp_path)
    lock.release()
    lock.release()
    DataDirLock.acquire(tmp_path).release()


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    lock = DataDirLock.acquire(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # Only what has been executed has closed what it must not inherit.
        lock.release()
        DataDirLock.acquire(tmp_path).release()
        child.communicate(b"\n")


def test_a_living_tor_is_seen(tmp_path: Path) -> None:
    assert not tor_lives_in(tmp_path)
    (tmp_path / "lock").touch()
    assert not tor_lives_in(tmp_path)
    lock = DataDirLock.acquire(tmp_path)
    assert tor_lives_in(tmp_path)
    lock.release()
    assert not tor_lives_in(tmp_path)
