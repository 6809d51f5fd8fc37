"""Which SOCKS port the launched Tor is given."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError
from tortxd.tor.ports import SocksChoice, unavailable


@pytest.fixture
def taken() -> Iterator[SocksAddress]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield SocksAddress(port=listener.getsockname()[1])


def test_what_was_asked_for_or_nothing(taken: SocksAddress) -> None:
    choice = SocksChoice(taken)
    with pytest.raises(SetupError, match=rf"127\.0\.0\.1:{taken.port}.*`socks`"):
        choice.check()
    assert choice.choose() == (taken, False)
    assert not choice.unexpected(SocksAddress(port=1))
    assert not choice.lost_race(f"Could not bind to 127.0.0.1:{taken.port}: Address in use")


def test_the_usual_one_else_any(taken: SocksAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = SocksChoice(None)
    choice.check()
    monkeypatch.setattr("tortxd.tor.ports.USUAL", taken)
    assert choice.choose() == (taken, True)
    assert choice.lost_race(f"Could not bind to 127.0.0.1:{taken.port}: Address already in use.")
    assert not choice.lost_race("Could not bind to 127.0.0.1:53: Permission denied")
    had = SocksAddress(port=1)
    assert choice.unexpected(had)
    assert not choice.unexpected(taken)
    monkeypatch.setattr("tortxd.tor.ports.unavailable", lambda _: None)
    choice.got(had)
    assert choice.choose() == (had, False)


def test_addresses() -> None:
    assert unavailable(SocksAddress("192.0.2.1", 9050)) == "Cannot assign requested address"
    assert unavailable(SocksAddress("not an address", 9050)) is not None


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    at = SocksAddress(path=str(path))
    assert unavailable(at) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert unavailable(at) == "Address already in use"
    assert unavailable(at) is None
    path.unlink()
    path.touch()
    assert unavailable(at) == "another file is there"
    assert unavailable(SocksAddress(path=str(tmp_path / "no" / "s"))) == "there is no such folder"
