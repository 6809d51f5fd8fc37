"""Files of Tor's that are set aside before it starts, and what its complaints say of its state."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tortxd.tor.damaged import KEPT, StateWatch, set_aside, set_aside_unusable

GOOD = b"# Tor state file last generated on 2026-11-27 10:19:58 local time\nDormant 0\n"


def test_what_is_as_it_should_be_stays(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(GOOD)
    (tmp_path / "lock").touch()
    (tmp_path / "keys").mkdir()
    (tmp_path / "cached-certs").write_bytes(b"\0 random")
    (tmp_path / "cached-microdescs").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    assert list(set_aside_unusable(tmp_path)) == []
    assert sorted(tmp_path.iterdir()) == before
    assert list(set_aside_unusable(tmp_path / "none")) == []


@pytest.mark.parametrize("text", [b"", b"\0" * 100, b"hello", GOOD + b"\0" * 9, b"\xff" + GOOD])
def test_what_is_no_state_is_set_aside(tmp_path: Path, text: bytes) -> None:
    """Tor would read it as far as it can and go on, with other guards and without a word."""
    path = tmp_path / "state"
    path.write_bytes(text)
    path.chmod(0o644)
    assert list(set_aside_unusable(tmp_path)) == [
        "Tor's state is damaged: it is set aside as state.damaged.1. Tor chooses new guards."
    ]
    assert not path.exists()
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == text
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_what_is_no_file_is_set_aside(tmp_path: Path) -> None:
    """Tor would wait without end for a pipe, and not start with the others."""
    (tmp_path / "state").mkdir()
    (tmp_path / "lock").mkdir()
    os.mkfifo(tmp_path / "cached-certs")
    assert list(set_aside_unusable(tmp_path)) == [
        "Tor's state is not a file: it is set aside as state.damaged.1. Tor chooses new guards.",
        "Tor's lock is not a file: it is set aside as lock.damaged.1.",
        "Tor's cached-certs is not a file: it is set aside as cached-certs.damaged.1.",
    ]


def test_what_may_not_be_read_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a Tor of root's has written it."""
    (tmp_path / "state").write_bytes(GOOD)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (sentence,) = set_aside_unusable(tmp_path)
    assert sentence.startswith("Tor's state may not be read and written: it is set aside as")


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for number in range(KEPT + 2):
        path.write_text(str(number))
        os.utime(path, (number, number))
        set_aside(path)
    kept = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert kept == {
        "state.damaged.1": "5",
        "state.damaged.2": "6",
        "state.damaged.3": "2",
        "state.damaged.4": "3",
        "state.damaged.5": "4",
    }


def test_a_folder_that_was_set_aside_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(KEPT):
        path.mkdir()
        (path / "what-someone-has-put-there").touch()
        set_aside(path)
    path.mkdir()
    with pytest.raises(OSError, match="not empty"):
        set_aside(path)


def test_what_complaints_say_of_the_state() -> None:
    """Measured with tor 0.4.9.11."""
    unread, broken = (
        "Error while parsing configuration: Invalid escape sequence in quoted string",
        "set_options(): Bug: Acting on config options left us in a broken state. Dying. (on Tor x)",
    )
    for heard, ends in (((unread,), False), ((broken,), False), ((unread, broken), True)):
        watch = StateWatch()
        for one in heard:
            watch.heard(one)
        assert (watch.ends_tor, watch.is_moved) == (ends, False)
    watch.heard('or_state_save_broken(): Bug: Unable to parse state in "/x/state". Moving it aside')
    assert watch.is_moved
