"""Bodies of any size pass through little memory, and through no file."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.process import PATIENCE, Daemon, Launcher, installed, memory, run, soon, until
from tests.web_client import Wire
from tortxd.testing import Origin, PrivateNetwork, pattern

MEGABYTE = 1_000_000
MOST = 10 * MEGABYTE
"""Bytes by which the daemon may grow."""


@pytest.fixture(scope="module")
def lean(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A daemon that has not yet grown, with a directory for temporary files of its own."""
    folder = tmp_path_factory.mktemp("lean")
    temporary = folder / "tmp"
    temporary.mkdir()
    launch = Launcher(tor_network, tor_origin, folder)
    daemon = launch(environ={"TMPDIR": str(temporary)})
    run(daemon.when_ready)

    async def warm_up() -> None:
        for url in (tor_origin.http, tor_origin.https):
            await daemon.fetch(f"{url}/bytes/{2 * MEGABYTE}")

    run(warm_up)
    yield daemon
    run(launch.stop)


def forget_the_peak(pid: int) -> None:
    """Make VmHWM count from here (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("route", ["bytes", "chunked", "close"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_rule_12_a_download_that_nobody_reads(
    lean: Daemon, tor_origin: Origin, scheme: str, route: str
) -> None:
    """Rule 12; and when its client leaves, it ends."""
    before = memory(lean.pid)
    forget_the_peak(lean.pid)
    marked = mark("unread")
    url = f"{getattr(tor_origin, scheme)}/{route}/{200 * MEGABYTE}?{marked}"
    wire = await lean.get_unread(url)
    wire.transport.pauseProducing()
    (request,) = await arrivals(tor_origin, marked)
    connection = tor_origin.connections[request.connection]
    sent = [0]

    def stalled() -> bool:
        """Whether nothing more was sent for a while."""
        sent.append(connection.sent)
        return len(sent) > 10 and sent[-1] == sent[-10] > 0

    await until(stalled, poll=0.1)
    # What every buffer on the way can hold has been sent, and no more.
    assert connection.sent < 50 * MEGABYTE
    assert memory(lean.pid, "VmHWM") - before < MOST
    wire.transport.abortConnection()
    await soon(tor_origin.when_closed(connection.number))


@implementer(IPullProducer)
class Upload:
    """Sends ``size`` bytes as fast as they are taken."""

    def __init__(self, wire: Wire, size: int) -> None:
        self._wire = wire
        self._size = size
        self.sent = 0
        self.hash = hashlib.sha256()
        wire.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        piece = pattern(min(65536, self._size - self.sent), self.sent)
        self.hash.update(piece)
        self.sent += len(piece)
        self._wire.send(piece)
        if self.sent == self._size:
            self._wire.transport.unregisterProducer()

    def stopProducing(self) -> None:
        """The connection is gone; the test sees it."""


def open_for_writing(pid: int) -> set[str]:
    """The regular files that a process can write to now, those without a name too."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = os.readlink(file)
            told = Path(f"/proc/{pid}/fdinfo/{file.name}").read_text()
        except OSError:
            continue  # closed meanwhile
        flags = int(told.partition("flags:")[2].split()[0], 8)
        if name.startswith(("/", "memfd")) and not name.startswith("/dev/") and flags & 3:
            found.add(name)
    return found


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_rule_16_an_upload_leaves_no_file(
    lean: Daemon, tor_origin: Origin, scheme: str
) -> None:
    """Rules 12 and 16; a body three times as large as all that may be kept of it."""
    size = 3 * MOST
    temporary = Path(lean.environ["TMPDIR"])
    before, files = memory(lean.pid), open_for_writing(lean.pid)
    forget_the_peak(lean.pid)
    wire = await lean.connect()
    url = quote(f"{getattr(tor_origin, scheme)}/upload", safe="")
    wire.send(f"POST /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\n".encode())
    wire.send(b"Content-Length: %d\r\n\r\n" % size)
    waiting = wire.reply(b"POST").addTimeout(PATIENCE, installed())
    upload = Upload(wire, size)
    for part in (0.2, 0.5, 0.8):
        await until(lambda part=part: upload.sent > part * size)  # type: ignore[misc]
        assert open_for_writing(lean.pid) <= files
        assert not list(temporary.iterdir())
    reply = await waiting
    wire.transport.abortConnection()
    assert reply.json == {"length": size, "sha256": upload.hash.hexdigest()}
    assert memory(lean.pid, "VmHWM") - before < MOST
    assert not list(temporary.iterdir())
