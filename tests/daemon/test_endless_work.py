"""No request makes Tor work without end."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Protocol

from tests.daemon.process import Daemon, installed, soon
from tortxd import SocksClient
from tortxd.config import Config
from tortxd.errors import ConnectFailed
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.socks import open_stream
from tortxd.tor.table import MOST_CIRCUITS

ADDRESS = "2606:4700:4700::1111"
"""Public; no exit of the private network carries IPv6."""


async def newest_circuit(daemon: Daemon) -> int:
    return max(int(one["id"]) for one in (await daemon.told("/circuits"))["circuits"])


@pytest.mark.parametrize("way", ["/proxy http", "/proxy https", "absolute-form", "CONNECT"])
@ensureDeferred
async def test_rule_29_a_target_that_no_exit_carries_fails_at_once(
    daemon: Daemon, way: str
) -> None:
    """Tor itself would look for a circuit until the client gives up, building hundreds."""
    before = await newest_circuit(daemon)
    wire = await daemon.connect()
    target = {
        "/proxy http": f"GET /proxy?url=http://[{ADDRESS}]/canary",
        "/proxy https": f"GET /proxy?url=https://[{ADDRESS}]/canary",
        "absolute-form": f"GET http://[{ADDRESS}]/canary",
        "CONNECT": f"CONNECT [{ADDRESS}]:443",
    }[way]
    wire.send(f"{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    reply = await soon(wire.reply(), 5.0)
    assert (reply.status, reply.json["code"]) == (502, "exit_policy")
    assert reply.json["retryable"] is False
    # Tor builds a few ahead of need all the time.
    assert await newest_circuit(daemon) - before < 10
    wire.transport.abortConnection()


@ensureDeferred
async def test_rule_29_a_stream_that_goes_through_circuits_is_closed(daemon: Daemon) -> None:
    """The same target, asked for at Tor's own port, where the gateway cannot refuse it."""
    before = await newest_circuit(daemon)
    keys = IsolationKeys()
    asking = open_stream(
        installed(),
        Config(f"127.0.0.1:{daemon.socks}").socks,
        ADDRESS,
        80,
        keys.credentials(Isolation("key", b"canary")),
        Protocol(),
        timeout=30.0,
    )
    with pytest.raises(ConnectFailed):
        await asking
    assert await newest_circuit(daemon) - before < 10 * MOST_CIRCUITS


@ensureDeferred
async def test_rule_29_the_library_is_stopped_too(daemon: Daemon) -> None:
    """For all that is asked of a Tor that tortxd watches."""
    client = SocksClient(Config(f"127.0.0.1:{daemon.socks}", timeout=30.0), installed())
    with pytest.raises(ConnectFailed):
        await client.send_receive(ADDRESS, 80, b"canary")
