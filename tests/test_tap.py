"""The command line of ``twistd tortxd``, before there is a reactor."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tortxd
from tortxd.tap import Options


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--bogus"], "tortxd: option --bogus not recognized: see twistd tortxd --help."),
        (["--socks"], "tortxd: option --socks requires argument: see twistd tortxd --help."),
        (["canteen"], "tortxd: canteen is not an option: see twistd tortxd --help."),
        (["--timeout=x"], "tortxd: --timeout takes a number of seconds greater than 0."),
    ],
)
def test_what_is_wrong_is_one_line(
    given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as said:
        Options().parseOptions(given)
    assert said.value.code == sentence
    assert capsys.readouterr() == ("", "")


def test_time_goes_by_a_clock_that_nobody_sets() -> None:
    """The fault "clock jumps": the daemon's timers are monotonic."""
    script = """
import time
from tortxd.config import DaemonConfig
from tortxd.tap import make_daemon
make_daemon(DaemonConfig(http=()))
from twisted.internet import reactor
assert reactor.seconds is time.monotonic
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_version_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        Options().parseOptions(["--version"])
    assert not left.value.code
    assert capsys.readouterr().out.startswith(f"tortxd {tortxd.__version__}, twisted ")
