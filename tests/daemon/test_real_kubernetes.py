"""A daemon as packaging/kubernetes starts it: its variables, its probes, the balancer's port."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessValue

from tests.daemon.process import PATIENCE, Daemon, Launcher, installed, soon
from tests.manifests import KUBERNETES, MEMBERS, ROOT, container, environment
from tests.tor.lone_tor import free_port
from tests.web_client import connect
from tortxd.testing import PrivateNetwork

TOKEN, OPERATOR = "canary-of-the-clients", "canary-of-the-operators"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PROGRAMS = {"container-health": ROOT / "tools" / "container_health.py"}
"""As the Dockerfile installs them."""


def mounted(folder: Path, torrc: str) -> dict[str, str]:
    """What is mounted in the container, made here: mount points, each with where it is."""
    config, tokens, state = (folder / name for name in ("config", "tokens", "state"))
    for one in (config, tokens / "..data", state):
        one.mkdir(parents=True)
    (config / "torrc").write_text(f"{(KUBERNETES / 'torrc').read_text()}\n{torrc}")
    for name, token in (("token", TOKEN), ("operator-token", OPERATOR)):
        (tokens / "..data" / name).write_text(token)
        (tokens / "..data" / name).chmod(0o440)
        (tokens / name).symlink_to(Path("..data", name))
    (state / "tortxd").mkdir(mode=0o770)
    return {
        "/run/secrets/tortxd": str(tokens),
        "/etc/tortxd": str(config),
        "/var/lib": str(state),
    }


def replaced(text: str, by: Mapping[str, str]) -> str:
    return re.sub("|".join(map(re.escape, by)), lambda match: by[match[0]], text)


async def probe(daemon: Daemon, name: str) -> int:
    """The exit status of a probe's command."""
    program, *words = container(MEMBERS)[name]["exec"]["command"]
    environ = {**daemon.environ, "PYTHONPATH": str(ROOT)}
    command = (str(PROGRAMS[program]), *words)
    status: int = await soon(getProcessValue(sys.executable, command, environ, reactor=installed()))
    return status


@ensureDeferred
async def test_a_member(launch: Launcher, tor_network: PrivateNetwork, tmp_path: Path) -> None:
    gateway, operators = free_port(), free_port()
    here = mounted(tmp_path / "pod", tor_network.write_client_torrc().read_text())
    here |= {"0.0.0.0": "127.0.0.1", "3080": str(gateway), "3081": str(operators)}
    environ = {name: replaced(value, here) for name, value in environment(MEMBERS).items()}
    launch.secrets += [TOKEN, OPERATOR]
    daemon = launch.bare("-n", "--pidfile=", "tortxd", environ={**environ, "XDG_RUNTIME_DIR": ""})
    daemon.data_dir, daemon.port = Path(environ["TORTXD_DATA_DIR"]), operators

    daemon.start()
    await daemon.when_listening()
    live = [await probe(daemon, name) for name in PROBES]
    health = (await daemon.ask("/health", f"Tortxd-Token: {TOKEN}")).status
    # Tor may have become ready meanwhile, and then does so for the probe first or for us.
    assert live[0] == live[2] == 0
    assert live[1] == 1 or health == 200

    deadline = installed().seconds() + PATIENCE
    while await probe(daemon, "readinessProbe"):
        assert daemon.status is None and installed().seconds() < deadline, daemon.text
    assert (await daemon.ask("/health")).status == 401
    assert (await daemon.ask("/metrics", f"Tortxd-Token: {TOKEN}")).status == 401
    metrics = await daemon.ask("/metrics", f"Authorization: Bearer {OPERATOR}")
    assert metrics.status == 200
    assert b"\ntortxd_cpu_seconds_total " in metrics.body
    assert b"\ntor_cpu_seconds_total " in metrics.body
    assert not (daemon.data_dir / "operator-token").exists()

    # The balancer says for whom it comes, and whom its clients call.
    wire = await connect(installed(), gateway)
    wire.send(b"PROXY TCP4 10.1.2.3 10.1.2.4 1 3080\r\nGET /health HTTP/1.1\r\n")
    wire.send(f"Host: tortxd.tortxd:3080\r\nTortxd-Token: {TOKEN}\r\n\r\n".encode())
    assert (await soon(wire.reply())).status == 200

    daemon.kill(signal.SIGTERM)
    await daemon.when_said("tortxd is stopping.")
    assert await probe(daemon, "readinessProbe") == 1
    wire.transport.abortConnection()
    await daemon.when_ended()
