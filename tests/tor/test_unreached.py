"""Why a control port cannot be attached to, told by what listens there, if anything."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import grp
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString

from tests.tor.lone_tor import bare_tor, free_port
from tortxd.endpoints import plain
from tortxd.errors import SetupError, TorDown, TorTimeout
from tortxd.tor.control import Control

NOBODY = 65534


class Unheard:
    def control_lost(self, reason: str) -> None:
        raise AssertionError(reason)


async def attach(control: str, patience: float = 10.0) -> Control:
    return await Control.connect(
        reactor,
        clientFromString(reactor, control),
        Unheard(),
        name=plain(control),
        patience=patience,
    )


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port whose one client is served so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            client, _ = listener.accept()
            with closing(client):
                serve(client)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, who is refused nothing."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@ensureDeferred
async def test_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with pytest.raises(TorDown) as caught:
        await attach(f"unix:{path}")
    assert str(caught.value) == (
        f"There is no socket at {path}. Is that Tor running, with this ControlSocket?"
    )


@ensureDeferred
async def test_refused() -> None:
    port = free_port()
    with pytest.raises(TorDown) as caught:
        await attach(f"tcp:127.0.0.1:{port}")
    assert str(caught.value) == (
        f"Nothing listens at 127.0.0.1:{port}. Is that Tor running, with a ControlPort there?"
    )


@ensureDeferred
async def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with pytest.raises(TorDown, match=f"^Nothing listens at {path}"):
        await attach(f"unix:{path}")


SPOKEN = {
    "http": b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\nContent-Type: text/html\r\n\r\n",
    "html": b"<!DOCTYPE html>\n<html>\n",
    "smtp": b"220 mail.example ESMTP\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an error of another": b"502 5.5.2 Error: command not recognized\r\n",
    "bytes": bytes(range(128, 256)) * 9 + b"\r\n",
    "an endless line": b"250-" * 20_000,
    "nothing": b"",
}


@pytest.mark.parametrize("spoken", SPOKEN.values(), ids=SPOKEN)
@ensureDeferred
async def test_another_protocol(spoken: bytes) -> None:
    def serve(client: socket.socket) -> None:
        client.recv(100)
        try:
            client.sendall(spoken)
        except ConnectionError:
            pass  # enough of it was heard

    with listening(serve) as port, pytest.raises(TorDown) as caught:
        await attach(f"tcp:127.0.0.1:{port}")
    assert str(caught.value) == (
        f"What listens at 127.0.0.1:{port} does not speak Tor's control protocol."
    )


@ensureDeferred
async def test_silence() -> None:
    heard = threading.Event()
    with listening(lambda _: heard.wait(10)) as port:
        with pytest.raises(TorTimeout) as caught:
            await attach(f"tcp:127.0.0.1:{port}", patience=0.2)
        heard.set()
    assert str(caught.value) == f"What listens at 127.0.0.1:{port} does not answer as Tor does."


def foreign_group() -> tuple[int, str]:
    """A group that is not root's, whose files the tests may make."""
    groups = [NOBODY] if os.geteuid() == 0 else [os.getegid()]
    group = grp.getgrgid(groups[0])
    return group.gr_gid, group.gr_name


def let_through(folders: Iterable[Path]) -> None:
    """Have anyone pass pytest's own folders, which are private."""
    for folder in folders:
        if "pytest" in str(folder) and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)


@ensureDeferred
async def test_permission_denied_at_the_socket(tmp_path: Path) -> None:
    """What to do about it, with the group that has the socket; or where its folder shows that."""
    gid, name = foreign_group()
    folder = tmp_path / "tor"
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask
    path = folder / "control"
    let_through(folder.parents)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for one in (path, folder):
            os.chown(one, -1, gid)
        joining = f"add this user to the group {name} and log in anew"
        closed = "that Tor keeps it for its own user: set ControlSocketsGroupWritable 1 there"
        for denied, mode, advice in (
            (path, 0o020, joining),
            (path, 0, closed),
            (folder, 0o010, joining),
            (folder, 0, closed),
        ):
            denied.chmod(mode)
            with as_nobody(), pytest.raises(SetupError) as caught:
                await attach(f"unix:{path}")
            denied.chmod(0o755)
            assert str(caught.value) == f"Permission denied at {path}; {advice}."


@ensureDeferred
async def test_permission_denied_at_the_cookie(tmp_path: Path) -> None:
    gid, name = foreign_group()
    port = free_port()
    data = tmp_path / "tor"
    with bare_tor(data, f"ControlPort {port}", "CookieAuthentication 1", "SocksPort 0"):
        cookie = next(data.rglob("control_auth_cookie"))
        os.chown(cookie, -1, gid)
        let_through(cookie.parents)
        for mode, advice in (
            (0o040, f"add this user to the group {name} and log in anew"),
            (
                0,
                "that Tor keeps it for its own user: set CookieAuthFileGroupReadable 1 and "
                "DataDirectoryGroupReadable 1 there",
            ),
        ):
            cookie.chmod(mode)
            with as_nobody(), pytest.raises(SetupError) as caught:
                await attach(f"tcp:127.0.0.1:{port}")
            assert str(caught.value) == (
                f"Permission denied at {cookie}, the cookie of Tor's control port; {advice}, or "
                "give the password in `control_password_file`."
            )
        cookie.unlink()
        with pytest.raises(SetupError, match=rf"{cookie} .* cannot be read: No such file"):
            await attach(f"tcp:127.0.0.1:{port}")


@ensureDeferred
async def test_a_password_that_is_wanted_or_wrong(tmp_path: Path) -> None:
    port = free_port()
    line = "HashedControlPassword 16:872860B76453A77D60CA2BB8C1A7042072093276A3D701AD684053EC4C"
    with bare_tor(tmp_path, f"ControlPort {port}", line, "SocksPort 0"):
        with pytest.raises(SetupError) as caught:
            await attach(f"tcp:127.0.0.1:{port}")
        assert str(caught.value) == (
            f"Tor's control port 127.0.0.1:{port} wants a password: give the file that holds it, "
            "as `control_password_file`."
        )
        with pytest.raises(SetupError) as caught:
            await Control.connect(
                reactor,
                clientFromString(reactor, f"tcp:127.0.0.1:{port}"),
                Unheard(),
                name=f"127.0.0.1:{port}",
                password="wrong",
            )
        assert str(caught.value) == (
            f"Tor's control port 127.0.0.1:{port} refuses the authentication; see what "
            "`control_password_file` holds."
        )
