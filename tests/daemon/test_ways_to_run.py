"""Attached to a Tor of someone else's, from the .tac file, and configured in each of three ways."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.daemon.process import Daemon, Launcher
from tests.tor.lone_tor import alive, free_port
from tortxd.testing import Client, Origin, PrivateNetwork

PASSWORD = 'canary "pass\\word'


async def check_attached(daemon: Daemon, client: Client, origin: Origin) -> None:
    await daemon.when_ready()
    assert daemon.tor_pid is None
    health = (await daemon.ask("/health")).json
    assert health["tor"] == f"socks5h://{client.socks[0]}:{client.socks[1]}"
    assert health["network"] == "private"
    for url in (origin.http, origin.https):
        reply = await daemon.fetch_told(f"{url}/ip", told="Tortxd-Exit-Address")
        assert reply.json["ip"] == reply["Tortxd-Exit-Address"]
    assert (await daemon.ask("/verify-tor")).json["verdict"] == "verified"
    await daemon.stop()
    assert alive(client.process.pid)


@ensureDeferred
async def test_attached_with_the_cookie(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    client = await tor_network.start_client()
    try:
        for control in (
            "tcp:{}:{}".format(*client.control),
            f"unix:{client.control_socket}",
        ):
            await check_attached(launch(f"--control={control}", launch=False), client, tor_origin)
    finally:
        await client.stop()


@ensureDeferred
async def test_attached_with_a_password(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    client = await tor_network.start_client(password=PASSWORD)
    try:
        control = "--control=tcp:{}:{}".format(*client.control)
        password = f"--control-password-file={file}"
        await check_attached(launch(control, password, launch=False), client, tor_origin)
        wrong = launch(control, launch=False)
        assert await wrong.when_ended() > 0
        assert "--control-password-file" in wrong.lines[-1]
    finally:
        await client.stop()


@pytest.fixture
def environ(tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path) -> dict[str, str]:
    """All that a daemon on the private network has to be told."""
    return {
        "SSL_CERT_FILE": str(tor_origin.ca_file),
        "TORTXD_DATA_DIR": str(tmp_path / "state"),
        "TORTXD_TORRC": str(tor_network.write_client_torrc()),
        "TORTXD_CHECK_URL": f"{tor_origin.https}/api/ip",
        "TORTXD_IP_URL": f"{tor_origin.https}/ip",
    }


@ensureDeferred
async def test_the_tac_file_and_the_environment(
    launch: Launcher, tor_origin: Origin, environ: dict[str, str], tmp_path: Path
) -> None:
    daemon = launch.bare("-n", "-y", "tortxd.tac", "--pidfile=")
    daemon.data_dir = tmp_path / "state"
    daemon.environ = {
        **environ,
        "GATEWAY_PORT": str(daemon.port),
        "TOR_SOCKS_PORT": str(daemon.socks),
        "TORTXD_TIMEOUT": "20",
        # What Kubernetes sets for a service of this name.
        "TORTXD_PORT": "tcp://10.0.0.1:3080",
        "TORTXD_SERVICE_HOST": "10.0.0.1",
        "TORTXD_PORT_3080_TCP_ADDR": "10.0.0.1",
    }
    daemon.start()
    await daemon.when_ready()
    assert (await daemon.ask("/health")).json["tor"] == f"socks5h://127.0.0.1:{daemon.socks}"
    assert (await daemon.fetch(tor_origin.https + "/")).status == 200
    assert (await daemon.ask("/verify-tor")).json["verdict"] == "verified"


@ensureDeferred
async def test_a_tac_that_cannot_start(launch: Launcher) -> None:
    daemon = launch.bare("-n", "-y", "tortxd.tac", "--pidfile=", environ={"TORTXD_NO_SUCH": "1"})
    daemon.start()
    assert await daemon.when_ended() > 0
    assert "TORTXD_NO_SUCH" in daemon.lines[-1]


@ensureDeferred
async def test_options_before_the_environment_before_the_file(
    launch: Launcher, environ: dict[str, str], tmp_path: Path
) -> None:
    daemon = launch.bare()
    daemon.data_dir = tmp_path / "state"
    file = tmp_path / "tortxd.toml"
    unused = free_port()
    file.write_text(
        f'http = ["tcp:{unused}:interface=127.0.0.1"]\nsocks = {unused}\n'
        'allow_hosts = ["from-the-file.example"]\n'
    )
    own = ["-n", "--pidfile=", "tortxd"]
    daemon.command = [*daemon.command, *own, f"--config={file}", f"--socks={daemon.socks}"]
    daemon.environ = {
        **environ,
        "TORTXD_HTTP": str(daemon.port),
        "TORTXD_SOCKS": str(unused),
    }
    daemon.start()
    await daemon.when_ready()
    health = await daemon.ask("/health", host="from-the-file.example")
    assert health.status == 200
    assert health.json["tor"] == f"socks5h://127.0.0.1:{daemon.socks}"
    daemon.port, port = unused, daemon.port
    assert not await daemon.reachable()
    daemon.port = port
