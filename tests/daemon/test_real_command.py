"""The command with a real daemon and a real Tor: it finds it, sees it and steers it."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode
from typing import Any

from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from tests.daemon.process import Daemon, installed, soon, until
from tortxd.testing import Origin

COMMAND = [sys.executable, "-c", "from tortxd.cli.main import main; main()"]


async def tortxd(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    """Run the command, which finds the daemon's token by itself; status, output, error output."""
    environ = os.environ | {"TORTXD_GATEWAY": f"http://127.0.0.1:{daemon.port}"}
    out, err, status = await soon(
        getProcessOutputAndValue(
            COMMAND[0], [*COMMAND[1:], *arguments], env=environ, reactor=installed()
        )
    )
    return status, out.decode(), err.decode()


async def told(daemon: Daemon, *arguments: str) -> Any:
    status, out, err = await tortxd(daemon, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


@ensureDeferred
async def test_it_sees_a_request_rotates_its_key_and_closes_its_circuit(
    daemon: Daemon, tor_origin: Origin
) -> None:
    assert (await tortxd(daemon, "status"))[1].startswith("Tor is ready\n")
    get = ("get", f"{tor_origin.http}/echo", "--isolation", "command", "-d", "sent")

    async def circuit() -> str:
        value = await told(daemon, *get)
        echoed = b64decode(json.loads(value["body"])["body"])
        assert (value["status"], echoed) == (200, b"sent")
        headers = dict(value["headers"])
        return str(headers.get("Tortxd-Circuit") or await circuit())

    first = await circuit()
    circuits = {one["id"]: one for one in (await told(daemon, "circuits"))["circuits"]}
    assert circuits[first]["isolation"] is not None
    renewed = await told(daemon, "newid", "--circuit", first)
    assert (renewed["renewed"], renewed["keys"]) == ("key", 1)
    second = await circuit()
    assert second != first
    assert await told(daemon, "close", second, "--circuit") == {"closed": second}
    assert (await tortxd(daemon, "close", second, "--circuit"))[0] == 1


@ensureDeferred
async def test_a_request_that_fails_says_why(daemon: Daemon) -> None:
    status, out, err = await tortxd(daemon, "get", "http://canary.nowhere.example/")
    assert (status, out) == (1, "")
    assert err.startswith("tortxd: The destination's name could not be resolved.")


@define(eq=False)
class Terminal(ProcessProtocol):
    """A terminal in which a program runs."""

    screen: bytearray = field(factory=bytearray)
    ended: Deferred[int] = field(factory=Deferred)

    def outReceived(self, data: bytes) -> None:
        self.screen += data

    def processEnded(self, reason: Failure) -> None:
        assert isinstance(reason.value, ProcessTerminated | ProcessDone)
        self.ended.callback(reason.value.exitCode)

    def press(self, key: bytes) -> None:
        assert self.transport is not None
        self.transport.write(key)


@ensureDeferred
async def test_top_in_a_terminal(daemon: Daemon) -> None:
    terminal = Terminal()
    gateway = f"http://127.0.0.1:{daemon.port}"
    size = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    environ = os.environ | size | {"TORTXD_GATEWAY": gateway}
    installed().spawnProcess(terminal, COMMAND[0], [*COMMAND, "top"], env=environ, usePTY=True)
    await until(lambda: b"Tor is ready" in terminal.screen)
    terminal.press(b"c")
    await until(lambda: b"Choose a circuit first" in terminal.screen)
    terminal.press(b"q")
    assert await soon(terminal.ended) == 0
    # The cursor is back, and what the screen showed before.
    assert terminal.screen.endswith(b"\x1b[?25h\x1b[?1049l")
