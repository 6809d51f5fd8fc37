"""The units for systemd: what they promise, and whether they fit together."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tortxd.config import DaemonConfig
from tortxd.endpoints import split_endpoint
from tortxd.sources import collect
from tortxd.tap import Options

PACKAGING = Path(__file__).resolve().parents[1] / "packaging"
Unit = dict[tuple[str, str], list[str]]


def read(name: str) -> Unit:
    """All values of each directive, in their order (systemd.syntax(7))."""
    section, unit = "", Unit()
    for line in (PACKAGING / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and line[0] not in "#;":
            key, equals, value = line.partition("=")
            assert equals and key.isalnum(), line
            unit.setdefault((section, key), []).append(value)
    return unit


SERVICE = read("tortxd.service")


def service(key: str) -> str:
    (value,) = SERVICE["Service", key]
    return value


def test_the_service_tells_when_it_is_ready_and_that_it_lives() -> None:
    assert service("Type") == "notify"  # notify-reload is not known before systemd 253
    assert service("NotifyAccess") == "main"
    assert service("Restart") == "on-failure"
    assert service("KillMode") == "mixed"
    seconds = {key: float(service(key).removesuffix("s")) for key in ("WatchdogSec", "RestartSec")}
    assert seconds["WatchdogSec"] >= 10
    # One that cannot start is given up within the interval, not tried for ever.
    assert SERVICE["Unit", "StartLimitIntervalSec"] == ["1min"]
    assert seconds["RestartSec"] * float(SERVICE["Unit", "StartLimitBurst"][0]) < 60


def test_the_service_runs_the_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program, *words = shlex.split(service("ExecStart"))
    assert Path(program).name == "twistd"
    assert words[:3] == ["-n", "--pidfile=", "tortxd"]
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    options = Options()
    options.parseOptions(words[3:])
    assert options.config.data_dir == tmp_path
    options.config.check_exposure()


def test_what_the_service_has_is_its_own() -> None:
    assert service("DynamicUser") == "yes"
    assert service("StateDirectory") == "tortxd"
    assert service("StateDirectoryMode") == "0700"
    assert service("UMask") == "0077"
    assert service("LimitCORE") == "0"  # keys and targets are in memory


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("ProtectProc", "invisible"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateUsers", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_what_the_service_has_not(key: str, value: str) -> None:
    assert service(key) == value


def test_which_system_calls_the_service_may_use() -> None:
    allowed, refused = SERVICE["Service", "SystemCallFilter"]
    assert allowed == "@system-service"
    assert set(refused.removeprefix("~").split()) == {"@privileged", "@resources"}


def test_memory_may_be_written_and_executed() -> None:
    """pyOpenSSL's callbacks are made so: without, no https destination is reached."""
    assert ("Service", "MemoryDenyWriteExecute") not in SERVICE


def test_the_sockets_are_those_that_the_daemon_takes() -> None:
    sockets = read("tortxd.socket")
    listening = sockets["Socket", "ListenStream"]
    assert listening == ["127.0.0.1:3080", "[::1]:3080"]
    assert ("Socket", "Accept") not in sockets
    taken = read("tortxd.service.d/socket.conf")
    assert taken["Unit", "Requires"] == taken["Unit", "After"] == ["tortxd.socket"]
    (variable,) = taken["Service", "Environment"]
    name, _, value = variable.partition("=")
    http = collect({}, {name: value})["http"].value
    descriptions = [split_endpoint(one) for one in DaemonConfig(http=http).http]
    assert [words for words, _ in descriptions] == [["systemd"], ["systemd"]]
    assert [named for _, named in descriptions] == [
        {"domain": "INET6" if "[" in address else "INET", "index": str(index)}
        for index, address in enumerate(listening)
    ]
