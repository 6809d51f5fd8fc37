"""Sockets that systemd passes, in a process that has some of its own instead."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.systemd import ListenFDs

from tests.daemon.process import installed, soon
from tortxd.config import DaemonConfig
from tortxd.endpoints import bound, is_local_endpoint, plain
from tortxd.errors import SetupError
from tortxd.inherited import inherited

Pass = Callable[..., socket.socket]
FIRST = "systemd:domain=INET:index=0"


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pass]:
    """Passes one more socket, with the name that its unit gives it."""
    sockets: list[socket.socket] = []
    descriptors: list[int] = []
    names: list[str] = []

    def add(
        address: Any, name: str = "tortxd.socket", kind: int = socket.SOCK_STREAM
    ) -> socket.socket:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        one = socket.socket(family, kind)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        sockets.append(one)
        descriptors.append(os.dup(one.fileno()))
        names.append(name)
        return one

    inherited.cache_clear()
    monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs(descriptors, names))
    yield add
    inherited.cache_clear()
    for one, descriptor in zip(sockets, descriptors, strict=True):
        if is_open(descriptor, one):  # it was not listened on
            os.close(descriptor)
        one.close()


def is_open(descriptor: int, one: socket.socket) -> bool:
    """Whether it is still that socket's, and not something else's by now."""
    try:
        return os.path.sameopenfile(descriptor, one.fileno())
    except OSError:
        return False


def load(http: str, **options: object) -> DaemonConfig:
    return DaemonConfig.load({"http": [http], **options}, {"STATE_DIRECTORY": "/nonexistent"})


# --- where they listen ----------------------------------------------------------------------------


def test_they_are_where_they_are_bound(passed: Pass, tmp_path: Path) -> None:
    port = passed(("127.0.0.1", 0)).getsockname()[1]
    port6 = passed(("::1", 0)).getsockname()[1]
    passed(f"{tmp_path}/a:b", "web")
    assert plain(bound(FIRST)) == f"127.0.0.1:{port}"
    assert plain(bound("systemd:domain=INET6:index=1")) == f"[::1]:{port6}"
    assert plain(bound("systemd:domain=UNIX:name=web")) == f"{tmp_path}/a:b"
    assert bound("tcp:3080") == "tcp:3080"
    both = DaemonConfig(http=[FIRST, "systemd:domain=INET6:index=1"])
    assert both.http_ports == {port, port6}
    both.check_exposure()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_beyond_loopback_they_are_exposed(passed: Pass, address: str, tmp_path: Path) -> None:
    """Whatever the description says, which has no address."""
    port = passed((address, 0)).getsockname()[1]
    description = f"systemd:domain=INET{'6' * (':' in address)}:index=0"
    assert not is_local_endpoint(description)
    with pytest.raises(SetupError) as refused:
        load(description)
    sentence = str(refused.value)
    assert "--http listens on more than loopback, at " in sentence
    assert f":{port}: anyone there could use this Tor" in sentence
    assert load(description, open=True).http_ports == {port}
    token = tmp_path / "token"
    token.write_text("word")
    assert load(description, token_file=str(token)).http_ports == {port}


def test_on_loopback_and_on_unix_sockets_they_are_not(passed: Pass, tmp_path: Path) -> None:
    passed(("127.8.9.1", 0))
    passed(f"{tmp_path}/socket")
    load(FIRST)
    load("systemd:domain=UNIX:index=1")


# --- what is refused ------------------------------------------------------------------------------


def test_what_was_not_passed(passed: Pass) -> None:
    passed(("127.0.0.1", 0))
    for missing in ("systemd:domain=INET:index=1", "systemd:domain=UNIX:name=web"):
        with pytest.raises(SetupError) as refused:
            load(missing)
        reason = "systemd has passed no such socket"
        assert str(refused.value) == f"--http: {missing} cannot be used: {reason}."


@pytest.mark.parametrize("domain", ["UNIX", "INET6"])
def test_what_is_of_another_kind(passed: Pass, domain: str) -> None:
    """A port that listens everywhere is no unix socket because somebody says so."""
    passed(("0.0.0.0", 0))
    with pytest.raises(SetupError, match=r"cannot be used: that socket has domain=INET\."):
        load(f"systemd:domain={domain}:index=0")


def test_what_listens_for_no_streams(passed: Pass) -> None:
    passed(("127.0.0.1", 0), kind=socket.SOCK_DGRAM)
    with pytest.raises(SetupError, match="that socket listens for no streams"):
        load(FIRST)


def test_what_is_no_socket(monkeypatch: pytest.MonkeyPatch, passed: Pass, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        fds = ListenFDs([file.fileno()], ["x"])
        monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", fds)
        with pytest.raises(SetupError, match="cannot be used: Socket operation on non-socket"):
            load(FIRST)


@pytest.mark.parametrize(
    "text",
    ["systemd:", "systemd:domain=INET", "systemd:domain=X:index=0", "systemd:domain=INET:index=x"],
)
def test_what_is_no_description(passed: Pass, text: str) -> None:
    passed(("127.0.0.1", 0))
    with pytest.raises(SetupError, match="--http does not understand 'systemd:"):
        load(text)


# --- listening ------------------------------------------------------------------------------------


class Greets(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class Hears(Protocol):
    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)


@pytest.mark.parametrize("domain", ["INET", "UNIX"])
@ensureDeferred
async def test_they_serve_and_stay_as_they_were(passed: Pass, tmp_path: Path, domain: str) -> None:
    path = tmp_path / "socket"
    one = passed(str(path) if domain == "UNIX" else ("127.0.0.1", 0))
    if domain == "UNIX":
        path.chmod(0o600)
        client: Any = endpoints.UNIXClientEndpoint(installed(), str(path))
    else:
        client = endpoints.TCP4ClientEndpoint(installed(), *one.getsockname())
    listening = inherited(f"systemd:domain={domain}:index=0").listen(
        installed(), Factory.forProtocol(Greets)
    )

    hearer = await soon(endpoints.connectProtocol(client, Hears()))
    assert await soon(hearer.heard) == b"hello"
    stopped = listening.stopListening()
    assert stopped is not None
    await soon(stopped)

    with socket.socket(one.family) as later:  # who comes now waits for the next daemon
        later.settimeout(10)
        later.connect(one.getsockname())
    if domain == "UNIX":
        assert path.stat().st_mode & 0o777 == 0o600
