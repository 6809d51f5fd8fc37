"""What the daemon shows in a terminal: plain lines, in the order in which they matter."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessOutput

from tests.daemon.process import Daemon, Launcher, installed, soon
from tests.tor.lone_tor import NOWHERE

STAMP = re.compile(r"\d{4}-\d\d-\d\dT|\[[-\w.#]+\]")


def plain(daemon: Daemon) -> list[str]:
    """Its lines, none of which looks like a log's."""
    lines = daemon.lines
    assert not [line for line in lines if STAMP.search(line)], daemon.text
    return lines


@pytest.mark.parametrize("token", [False, True])
@ensureDeferred
async def test_a_start_in_a_terminal(launch: Launcher, tmp_path: Path, token: bool) -> None:
    """Progress first, then where the gateway listens, and a command that works as it stands."""
    file = tmp_path / "a token"
    file.write_text("a-long-enough-token\n")
    options = [f"--token-file={file}"] if token else []
    daemon = launch(*options, terminal=True)
    await daemon.when_said("/verify-tor\r\n")
    lines = plain(daemon)
    assert lines[0] == "Tor is starting."
    assert re.fullmatch(r"Tor is \d+ % ready: .*\.", lines[1])
    ready = lines.index("Tor is ready.")
    assert all(re.match(r"Tor is \d+ % ready: ", line) for line in lines[1:ready])
    where = f"http://127.0.0.1:{daemon.port}"
    assert lines[ready + 1] == f"The gateway listens on {where}. Try it:"
    command = lines[ready + 2].strip()
    assert command.startswith("curl ")
    output = await soon(getProcessOutput("/bin/sh", ["-c", f"{command} -s"], reactor=installed()))
    assert json.loads(output)["verdict"] == "verified"


@pytest.mark.parametrize(
    ("line", "option", "says"),
    [
        ("NoSuchTorOption 1", "--drain-nothing", "option --drain-nothing not recognized"),
        ("NoSuchTorOption 1", "--timeout=20", "Tor ended: Unknown option 'NoSuchTorOption'."),
        ("", "--tor=/nonexistent", "There is no tor executable at /nonexistent"),
        ("", "--http=http://localhost", "--http does not understand 'http://localhost'."),
        ("", "--alias=nothing", "--alias"),
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
@ensureDeferred
async def test_an_error_is_one_plain_line(
    launch: Launcher, tmp_path: Path, terminal: bool, line: str, option: str, says: str
) -> None:
    torrc = tmp_path / "torrc"
    torrc.write_text("\n".join((*NOWHERE, line)) + "\n")
    daemon = launch(option, torrc=torrc, terminal=terminal)
    assert await daemon.when_ended() == 1
    assert [one for one in daemon.lines if says in one] == daemon.lines[-1:]
    assert daemon.lines[-1].startswith("tortxd: ")
    if terminal:
        assert set(plain(daemon)[:-1]) <= {"Tor is starting.", "Tor is stopped."}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TORTXD_TOR", "/nonexistent", "There is no tor executable at /nonexistent"),
        ("TORTXD_TIMEOUT", "soon", "--timeout takes a number of seconds"),
        ("TORTXD_ALIASES", "nothing", "--alias"),
        ("TORTXD_IP_URL", "http://127.0.0.1/", "--ip-url"),
    ],
)
@ensureDeferred
async def test_the_same_of_the_tac(launch: Launcher, name: str, value: str, says: str) -> None:
    daemon = launch.bare("-ny", "tortxd.tac", "--pidfile=")
    data_dir, port = str(daemon.data_dir), str(daemon.port)
    daemon.environ = {"TORTXD_DATA_DIR": data_dir, "GATEWAY_PORT": port, name: value}
    daemon.terminal = True
    daemon.start()
    assert await daemon.when_ended() == 1
    (line,) = plain(daemon)
    assert line.startswith("tortxd: ")
    assert says in line


@ensureDeferred
async def test_a_log_file_stays_a_log(launch: Launcher, tmp_path: Path) -> None:
    """And has the reason, as has the terminal."""
    log, torrc = tmp_path / "log", tmp_path / "torrc"
    torrc.write_text("\n".join((*NOWHERE, "NoSuchTorOption 1")) + "\n")
    daemon = launch.bare("-n", "--pidfile=", f"--logfile={log}", "tortxd", f"--torrc={torrc}")
    own = (f"--http={daemon.port}", f"--socks={daemon.socks}", f"--data-dir={daemon.data_dir}")
    daemon.command = [*daemon.command, *own]
    daemon.terminal = True
    daemon.start()
    assert await daemon.when_ended() == 1
    (line,) = plain(daemon)
    assert "NoSuchTorOption" in line
    logged = log.read_text().splitlines()
    assert all(STAMP.match(one) for one in logged)
    assert [one for one in logged if "NoSuchTorOption" in one and "[tortxd.tap#critical]" in one]
    assert "reactor class" in log.read_text()
