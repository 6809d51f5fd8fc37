"""The command line of ``twistd tortxd``, before there is a reactor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tortxd
from tortxd.config import DaemonConfig
from tortxd.tap import Options, help_text


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--bogus"], "tortxd: There is no option --bogus. See twistd tortxd --help."),
        (["--socks"], "tortxd: --socks takes a value. See twistd tortxd --help."),
        (
            ["canteen"],
            "tortxd: canteen is no option: those begin with --. See twistd tortxd --help.",
        ),
        (
            ["--tok=x"],
            "tortxd: There is no option --tok. Did you mean --tor? See twistd tortxd --help.",
        ),
        (
            ["--users=tor"],
            "tortxd: There is no option --users. Did you mean --user? See twistd tortxd --help.",
        ),
        (
            ["--open", "--timeout", "--open"],
            "tortxd: --timeout takes a number of seconds greater than 0, not '--open'.",
        ),
        (["--timeout=x"], "tortxd: --timeout takes a number of seconds greater than 0, not 'x'."),
    ],
)
def test_what_is_wrong_is_one_line(
    given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(given)
    assert ended.value.code == sentence
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option, with what it takes and its default; and where to read on."""
    with pytest.raises(SystemExit) as left:
        Options().parseOptions([option])
    assert not left.value.code
    text = capsys.readouterr().out
    shown = re.findall(r"^  --([a-z-]+)( [A-Z=]+)?\n((?: {6}.*\n)+)", text, re.MULTILINE)
    takes = {name: bool(value) for name, value, _ in shown}
    assert takes == {
        name.rstrip("="): name.endswith("=") for name in Options().longOpt if name != "h"
    }
    for name, value, described in shown:
        assert described.rstrip().endswith("]") is (name not in ("help", "version"))
        assert (value == " FILE") is (name in ("config", "tor") or name.endswith(("file", "torrc")))
    where = re.search(r"^More: (.*)$", text, re.MULTILINE)
    assert where is not None
    assert Path(where[1]).read_text().startswith("# Configuration\n")


def test_defaults_in_the_help_are_those_of_the_configuration() -> None:
    text = " ".join(help_text(200).split())
    config = DaemonConfig(data_dir="/x")
    assert f"[{config.timeout:g}]" in text
    assert f"[{config.idle_timeout:g}]" in text
    assert f"[{config.user_agent}]" in text
    assert f"[{config.check_url}]" in text
    assert f"[{config.ip_url}]" in text


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_the_help_fits_the_terminal(columns: int) -> None:
    lines = help_text(columns).splitlines()
    assert max(len(line) for line in lines if not line.startswith("More: ")) <= columns


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


def test_nothing_that_was_given_commands_the_terminal() -> None:
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--\x1b]0;x\x07\nFAKE"])
    assert ended.value.code == (
        "tortxd: There is no option --\N{REPLACEMENT CHARACTER}]0;x\N{REPLACEMENT CHARACTER}"
        "\N{REPLACEMENT CHARACTER}FAKE. See twistd tortxd --help."
    )
