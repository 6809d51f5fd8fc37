"""What the daemon shows in a terminal: short lines, in the order in which they matter."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutput

import tortxd
from tests.daemon.process import POLL, Daemon, Launcher, installed, soon
from tests.tor.lone_tor import NOWHERE

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def plain(daemon: Daemon) -> list[str]:
    """Its lines, none of which looks like a log's."""
    lines = daemon.lines
    assert not [line for line in lines if STAMP.search(line)], daemon.text
    return lines


def shown(daemon: Daemon) -> list[str]:
    """What its lines say, behind the time of day; none is a warning, or of Tor's own."""
    lines = [COLOUR.sub("", line) for line in plain(daemon)]
    lines = [line for line in lines if os.geteuid() != 0 or "runs as root" not in line]
    entry = re.compile(r"\d\d:\d\d:\d\d info  (?:tor|daemon) +(\S.*)")
    assert all(map(entry.fullmatch, lines)), daemon.text
    return [entry.sub(r"\1", line) for line in lines]


@pytest.mark.parametrize("token", [False, True])
@ensureDeferred
async def test_a_start_in_a_terminal(launch: Launcher, tmp_path: Path, token: bool) -> None:
    """What it is and where things are, progress, and at the end a command that works as it
    stands. Colours are for those who want them."""
    file = tmp_path / "a token"
    file.write_text("a-long-enough-token\n")
    file.chmod(0o600)
    options = [f"--token-file={file}"] if token else []
    environ = {"TERM": "xterm", "NO_COLOR": "1" if token else ""}
    daemon = launch(*options, terminal=True, environ=environ)
    await daemon.when_said(f"In a browser:  http://127.0.0.1:{daemon.port}/\r\n")
    assert bool(COLOUR.search(daemon.text)) is not token
    lines = shown(daemon)
    assert lines[:4] == [
        f"tortxd {tortxd.__version__} is starting. Its data is in {daemon.data_dir}",
        f"The token for operators is in {daemon.data_dir}/operator-token",
        f"The gateway listens on http://127.0.0.1:{daemon.port}.",
        "Tor is starting.",
    ]
    ready = lines.index("Tor is ready.")
    between = lines[4:ready]
    socks = f"Programs that speak SOCKS use 127.0.0.1:{daemon.socks}."
    assert between.count(socks) == 1
    between.remove(socks)
    assert between
    assert all(re.fullmatch(r"Tor is \d+ % ready: .*\.", line) for line in between)
    tried, browsed = lines[ready + 1 :]
    assert browsed == f"In a browser:  http://127.0.0.1:{daemon.port}/"
    command = tried.removeprefix("Try it:").strip()
    assert command.startswith("curl ")
    output = await soon(getProcessOutput("/bin/sh", ["-c", f"{command} -s"], reactor=installed()))
    assert json.loads(output)["verdict"] == "verified"
    await daemon.stop()
    assert shown(daemon)[ready + 3 :] == [
        "tortxd is stopping.",
        "Tor is stopped.",
        "tortxd has stopped.",
    ]


@ensureDeferred
async def test_a_log_says_nothing_twice(launch: Launcher) -> None:
    """Nor anything of Twisted's, of bytes, or of errors' numbers; and its end is in order."""
    daemon = launch()
    await daemon.when_ready()
    await daemon.when_said("/verify-tor\n")
    await daemon.stop()
    said = [line.split(maxsplit=3)[3] for line in daemon.lines]
    own = [text for text, line in zip(said, daemon.lines, strict=True) if not is_of_tor(line)]
    assert len(set(own)) == len(own), daemon.text
    for text in ("b'", "[Errno", "\\", "Gateway starting on", "Port", "twistd", "Server Shut Down"):
        assert not [line for line in own if text in line], daemon.text
    assert all(STAMP.match(line) for line in daemon.lines)
    tors_own = max(place for place, line in enumerate(daemon.lines) if is_of_tor(line))
    assert said.index("tortxd is stopping.") < tors_own < said.index("Tor is stopped.")
    assert said[-2:] == ["Tor is stopped.", "tortxd has stopped."]


def is_of_tor(line: str) -> bool:
    """Whether Tor itself has logged it."""
    return line.split()[2] == "tor.log"


@ensureDeferred
async def test_a_cause_that_lasts_is_said_once(launch: Launcher, tmp_path: Path) -> None:
    """As a warning, with the endpoint."""
    missing = tmp_path / "control"
    daemon = launch(f"--control={missing}", launch=False)
    await daemon.when_said("There is no socket")
    await until_tried(daemon, 3)
    await daemon.stop()
    (line, counted) = [line for line in daemon.lines if "There is no socket" in line]
    assert line.split()[1:3] == ["warn", "tor"]
    assert line.endswith(
        "Tor is down, and tried again in 1 s: There is no socket at "
        f"{missing}. Is that Tor running, with this ControlSocket?"
    )
    assert re.search(r"tried again in \d s: There is no socket at .* \(.* more\)$", counted)
    assert len([line for line in daemon.lines if "Connecting to Tor's control port" in line]) == 1


async def until_tried(daemon: Daemon, times: int) -> None:
    """Wait until the control port has been tried so often, as /health shows."""
    delays: list[float] = []
    while len(delays) < times:
        delay = (await daemon.when_health(503)).json.get("retryIn")
        if delay is not None and delay not in delays:
            delays.append(delay)
        await deferLater(installed(), POLL)


@pytest.mark.parametrize(
    ("line", "option", "says"),
    [
        ("NoSuchTorOption 1", "--drain-nothing", "There is no option --drain-nothing."),
        ("NoSuchTorOption 1", "--timeout=20", ": Unknown option 'NoSuchTorOption'."),
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
    (only,) = plain(daemon)
    assert only.startswith("tortxd: ")
    assert says in only


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TORTXD_TOR", "/nonexistent", "There is no tor executable at /nonexistent"),
        ("TORTXD_TIMEOUT", "soon", "TORTXD_TIMEOUT takes a number of seconds"),
        ("TORTXD_ALIASES", "nothing", "TORTXD_ALIASES takes HOST"),
        ("TORTXD_IP_URL", "http://127.0.0.1/", "TORTXD_IP_URL: Tor is asked for"),
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


@pytest.mark.parametrize(("way", "form"), [("tortxd", "text"), ("--python=tortxd.tac", "json")])
@ensureDeferred
async def test_a_log_file_stays_a_log(
    launch: Launcher, tmp_path: Path, way: str, form: str
) -> None:
    """It has the reason why Tor ended, as has the terminal."""
    log, torrc, holder = (
        tmp_path / "log",
        tmp_path / "torrc",
        socket.create_server(("127.0.0.1", 0)),
    )
    taken = f"HTTPTunnelPort 127.0.0.1:{holder.getsockname()[1]}"
    torrc.write_text("\n".join((*NOWHERE, taken)) + "\n")
    daemon = launch.bare("-n", "--pidfile=", f"--logfile={log}", way)
    daemon.environ = {
        "TORTXD_TORRC": str(torrc),
        "TORTXD_HTTP": str(daemon.port),
        "TORTXD_SOCKS": str(daemon.socks),
        "TORTXD_DATA_DIR": str(daemon.data_dir),
        "TORTXD_LOG_FORMAT": form,
    }
    daemon.terminal = True
    with holder:
        daemon.start()
        assert await daemon.when_ended() == 1
    (line,) = plain(daemon)
    assert line.startswith("tortxd: Tor ended: Could not bind to 127.0.0.1:")
    logged = log.read_text().splitlines()
    if form == "text":
        assert all(STAMP.match(one) for one in logged)
        assert [one for one in logged if line[8:] in one and " critical daemon " in one]
    else:
        entries = [json.loads(one) for one in logged]
        (reason,) = [one for one in entries if one["level"] == "critical"]
        assert (reason["name"], reason["message"]) == ("daemon", line[8:])
        assert all(one.keys() == {"time", "level", "name", "message"} for one in entries)
    assert "reactor class" not in log.read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "--pidfile= tortxd --tor=/nonexistent",
            "There is no tor executable at /nonexistent; install the package tor, or name one with "
            "--tor.",
        ),
        (
            "--pidfile=/nonexistent/pid tortxd",
            "twistd cannot write /nonexistent/pid: No such file or directory. Start it in another "
            "folder, or with --pidfile=.",
        ),
        (
            "-n --pidfile=/proc/pid tortxd",
            "twistd cannot write /proc/pid: No such file or directory. Start it in another folder, "
            "or with --pidfile=.",
        ),
        (
            "--pidfile= --logfile=/nonexistent/log tortxd",
            "twistd cannot write /nonexistent/log: No such file or directory. Start it in another "
            "folder, or with --logfile=FILE.",
        ),
        (
            "--pidfile= --logfile=/ -y tortxd.tac",
            "twistd cannot write /: Is a directory. Start it in another folder, or with "
            "--logfile=FILE.",
        ),
    ],
)
@ensureDeferred
async def test_in_the_background_too(launch: Launcher, words: str, says: str) -> None:
    """What cannot be is said before twistd leaves the terminal."""
    daemon = launch.bare(*words.split())
    daemon.environ = {
        "TORTXD_HTTP": str(daemon.port),
        "TORTXD_SOCKS": str(daemon.socks),
        "TORTXD_DATA_DIR": str(daemon.data_dir),
    }
    daemon.start()
    assert await daemon.when_ended() == 1
    assert daemon.text == f"tortxd: {says}\n"
