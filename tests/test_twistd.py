"""What twistd was told, and whether it can write its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tortxd import console, twistd
from tortxd.errors import SetupError


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("-ny tortxd.tac", True),
        ("-n -y tortxd.tac --pidfile=", True),
        ("--nodaemon --python tortxd.tac", True),
        ("-nytortxd.tac", True),
        ("-y tortxd.tac", False),
        ("-ny tortxd.tac -l x.log", False),
        ("-nl x.log -y tortxd.tac", False),
        ("-ny tortxd.tac --logf x.log", False),
        ("-ny tortxd.tac --syslog", False),
        ("-ny tortxd.tac --logger twisted.logger.jsonFileLogObserver", False),
        ("--not-of-twistd", False),
    ],
)
def test_a_tac_knows_what_twistd_was_told(
    line: str, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["twistd", *line.split()])
    assert console.is_seen(twistd.options_of_twistd(), console.Style()) is seen


def options_of(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    return twistd.options_of_twistd()


@pytest.mark.parametrize("arguments", [(), ("--version",), ("--help",), ("x.py",), ("-n",)])
def test_a_tac_that_something_else_loads_knows_of_no_options(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert options_of(*arguments, monkeypatch=monkeypatch) == {}


def test_a_tac_that_twistd_loads_with_another_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    known = options_of("-r", "poll", "-ny", "tortxd.tac", monkeypatch=monkeypatch)
    assert known["nodaemon"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "OWN",
            "Another twistd runs in this folder, process OWN, as FILE says. Stop it, or start this "
            "one in another folder, or with --pidfile=.",
        ),
        ("nonsense", "FILE does not hold a process id. Remove it."),
        ("0", "FILE does not hold a process id. Remove it."),
        ("-1", "FILE does not hold a process id. Remove it."),
        ("9" * 5000, "FILE does not hold a process id. Remove it."),
        ("", "FILE does not hold a process id. Remove it."),
        ("99999999", None),
        (None, None),
    ],
)
def test_another_twistd_in_the_folder(
    tmp_path: Path, content: str | None, sentence: str | None
) -> None:
    file = tmp_path / "twistd.pid"
    if content is not None:
        file.write_text(content.replace("OWN", str(os.getpid())))
    options = {"pidfile": str(file), "nodaemon": 1}
    if sentence is None:
        twistd.check_files(options)
    else:
        with pytest.raises(SetupError) as caught:
            twistd.check_files(options)
        line = sentence.replace("FILE", str(file)).replace("OWN", str(os.getpid()))
        assert str(caught.value) == line
    assert file.exists() is (content is not None), "it is left as it was"


def test_a_link_that_leads_to_nothing_yet_will_do(tmp_path: Path) -> None:
    """twistd makes what it leads to; the look leaves both as they were."""
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    twistd.check_files({"pidfile": str(link), "logfile": str(link), "nodaemon": 1})
    assert link.is_symlink()
    assert not target.exists()
    target.write_text("1\n")
    twistd._check_writable(str(link), "--pidfile=")
    assert target.read_text() == "1\n"
