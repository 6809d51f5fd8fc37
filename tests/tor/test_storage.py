"""What is wrong with a data directory, with real files; what takes root is played."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tortxd.tor.storage import FULL, LEAST_FREE, storage_trouble


def test_a_folder_that_can_be_written(tmp_path: Path) -> None:
    assert storage_trouble(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_or_none(tmp_path: Path) -> None:
    assert storage_trouble(tmp_path / "none") == "The data directory is gone."
    (tmp_path / "file").touch()
    assert storage_trouble(tmp_path / "file") == "The data directory is gone."


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may be larger, for this process: as a quota, a limit that is not the disk's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000])
def test_what_cannot_be_written_though_there_is_room(tmp_path: Path, size: int) -> None:
    with files_of_at_most(size):
        trouble = storage_trouble(tmp_path)
    assert trouble == "The data directory cannot be written (File too large)."
    assert storage_trouble(tmp_path) is None


def played(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize(
    ("number", "trouble"),
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EROFS, "The data directory cannot be written (Read-only file system)."),
        (errno.EACCES, "The data directory cannot be written (Permission denied)."),
        (errno.EIO, "The data directory cannot be written (Input/output error)."),
        (errno.EMFILE, None),
        (errno.EOPNOTSUPP, None),
    ],
)
def test_what_the_system_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, trouble: str | None
) -> None:
    """That this process has no descriptor left says nothing of the disk; nor that the file system
    knows no nameless files."""
    played(monkeypatch, number)
    assert storage_trouble(tmp_path) == trouble


def test_permissions_are_looked_at_where_there_are_no_nameless_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(monkeypatch, errno.EOPNOTSUPP)
    monkeypatch.setattr(os, "access", lambda *_: False)
    trouble = storage_trouble(tmp_path)
    assert trouble == "The data directory cannot be written (Permission denied)."


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = os.statvfs(tmp_path)

    class Full:
        f_bavail = LEAST_FREE // room.f_frsize - 1
        f_frsize = room.f_frsize

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    assert storage_trouble(tmp_path) == FULL
