"""Files are read, and nothing else is waited for."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tortxd import files
from tortxd.files import LARGEST, read_regular, read_whole


def test_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"x" * LARGEST)
    link.symlink_to(path)
    for one in (path, str(path), link):
        assert read_whole(one) == read_regular(one) == b"x" * LARGEST
    with pytest.raises(OSError, match="it is a link"):
        read_regular(link, follow_links=False)
    with path.open("ab") as file:
        file.write(b"y")
    with pytest.raises(OSError, match="too large"):
        read_whole(path)


def test_it_is_judged_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    judged: list[tuple[int, int]] = []
    data = read_regular(path, judge=lambda fd, found: judged.append((found.st_size, fd)))
    assert data == b"abc"
    assert judged[0][0] == 3


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "Is a directory"),
        (_socket, "it is a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.symlink_to("/dev/ptmx"), "it is a device"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "one"
    make(path)
    for read in (read_whole, read_regular):
        with pytest.raises(OSError, match=reason):
            read(path)


def test_a_pipe_is_read_to_its_end_where_a_user_names_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a pipe"):
        read_regular(path)

    def write() -> None:
        with path.open("wb") as pipe:
            for _ in range(3):
                pipe.write(b"x" * 70_000)
                pipe.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert read_whole(path) == b"x" * 210_000
    writer.join()


def test_a_pipe_of_a_shell(tmp_path: Path) -> None:
    """As ``<(printf secret)``, whose writer may be gone by now."""
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    assert read_whole(f"/dev/fd/{reading}") == b"secret\n"
    assert read_whole(f"/dev/fd/{reading}") == b""
    os.close(reading)


@pytest.mark.parametrize("open_for_writing", [True, False])
def test_a_pipe_that_nobody_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_for_writing: bool
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    holder = os.open(path, os.O_RDWR) if open_for_writing else None
    with pytest.raises(OSError, match=r"it is a pipe whose end has not come in 0\.1 seconds"):
        read_whole(path)
    if holder is not None:
        os.close(holder)


def test_an_endless_pipe_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        try:
            with path.open("wb", buffering=0) as pipe:
                while True:
                    pipe.write(b"x" * 65_536)
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(OSError, match="too large"):
        read_whole(path)
    writer.join()


def test_nothing_is_a_file() -> None:
    assert read_whole("/dev/null") == b""
    with pytest.raises(OSError, match="it is a device"):
        read_regular("/dev/null")
