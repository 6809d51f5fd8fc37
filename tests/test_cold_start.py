"""What a start loads before the gateway listens and Tor is launched: the rest can wait for Tor."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, socket, sys
from twisted.internet import reactor
from tortxd.config import DaemonConfig
from tortxd.daemon import Daemon

def spawn(*_, **__):
    with socket.create_connection((port.host, port.port)):
        print(json.dumps(sorted(sys.modules)))
    reactor.stop()
    raise OSError("This Tor is not to be started.")

reactor.spawnProcess = spawn
config = DaemonConfig(data_dir=sys.argv[1], http="tcp:0:interface=127.0.0.1")
daemon = Daemon(config, reactor, lambda _: None)
daemon.startService()
port = daemon._ports[0].getHost()
reactor.run()
"""
"""Connects to the gateway where Tor would be launched, and says what is loaded by then."""

LATER = (
    *("klein", "werkzeug", "prometheus_client", "tortxd.gateway.control"),
    *("txtorcon", "tortxd.tor.control"),
    *("twisted.web", "treq", "tortxd.client.agent"),
    *("publicsuffixlist", "statistics"),
    *("tortxd.relay", "tortxd.gateway.front", "tortxd.gateway.gateway", "tortxd.wire.http1"),
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that are loaded when Tor is launched, and the gateway listens."""
    folder = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-c", PROGRAM, str(folder / "data")]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=30).stdout
    return set(json.loads(said.splitlines()[0]))


@pytest.mark.parametrize("name", LATER)
def test_what_tor_does_not_need_is_loaded_when_it_was_launched(loaded: set[str], name: str) -> None:
    assert "tortxd.tor.launched" in loaded
    assert not {one for one in loaded if f"{one}.".startswith(f"{name}.")}
