"""Which torrc lines are ours, and the file that we write; Tor itself is asked how it reads them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError
from tortxd.tor.torrc import (
    OWNED,
    check_lines,
    exposed_listener,
    owned_option,
    quoted,
    socks_port,
    torrc_text,
)

CONTRACT = (
    "ControlPort",
    "ControlSocket",
    "SocksPort",
    "DataDirectory",
    "CookieAuthentication",
    "HashedControlPassword",
    "User",
    "RunAsDaemon",
    "SafeLogging",
    "Log",
    "%include",
    "__OwningControllerProcess",
)


def dump(tmp_path: Path, text: str) -> list[str]:
    """The options that Tor finds in a file, as it prints them."""
    (tmp_path / "empty").touch()
    (tmp_path / "rc").write_text(text)
    said = subprocess.run(
        ["tor", "--dump-config", "short", "-f", "rc", "--defaults-torrc", "empty", "--hush"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not said.returncode, said.stdout
    return [line for line in said.stdout.splitlines() if line and not line.startswith(" ")]


@pytest.mark.parametrize("name", CONTRACT)
@pytest.mark.parametrize("before", ["", "+", "/", " ", "\t", "\v\f\r", " +"])
@pytest.mark.parametrize("after", [" 1", "", "\t1", "#x", " \\", "\\"])
def test_owned_by_the_contract(name: str, before: str, after: str) -> None:
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        assert owned_option(before + spelling + after) == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Cont 9051", "ControlPort"),
        ("hashedcontrol 16:AA", "HashedControlPassword"),
        ("__Owning 1", "__OwningControllerFD"),
        ("runas 1", "RunAsDaemon"),
        ("SafeLog 0", "SafeLogging"),
        ("l debug file /x", "Log"),
        ("__SocksPort 1", "__SocksPort"),
        ("CookieAuthFile /x", "CookieAuthFile"),
        ("__DisableSignalHandlers 1", "__DisableSignalHandlers"),
    ],
)
def test_abbreviated_and_kindred(line: str, name: str) -> None:
    assert owned_option(line) == name
    with pytest.raises(SetupError, match=name):
        check_lines(["ExitNodes {de}", line])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "# SocksPort 9050",
        "\t#ControlPort",
        "ExitNodes {de}",
        "LogTimeGranularity 1",
        "LogMessageDomains 1",
        "SocksPolicy accept *",
        "MapAddress SocksPort.example 127.0.0.1",
        "UseBridges 1",
        "Bridge 192.0.2.1:443",
        "__DisablePredictedCircuits 1",
        "DirAuthority a 127.0.0.1:1 A",
    ],
)
def test_the_users_own(line: str) -> None:
    check_lines([line])


@pytest.mark.parametrize("line", ["a\nSocksPort 1", "a\rb", "a\0b"])
def test_line_breaks_are_refused(line: str) -> None:
    with pytest.raises(SetupError):
        check_lines([line])
    with pytest.raises(SetupError):
        quoted(line)
    with pytest.raises(SetupError):
        socks_port(SocksAddress(path=line))


def test_no_option_of_tors_is_taken_for_an_abbreviation() -> None:
    """The names that begin an owned name are that name, or are owned themselves."""
    said = subprocess.run(
        ["tor", "--list-torrc-options", "--hush"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(said) > 300
    known = {name.lower() for name in OWNED}
    assert known - {"%include"} <= {name.lower() for name in said}
    for name in said:
        assert (owned_option(name) is not None) == (name.lower() in known)


@pytest.mark.parametrize(
    ("before", "line"),
    [
        ("# a comment \\\n", "SocksPort 9055"),
        ("", "\v\fSocksPort 9055"),
        ("", "+SocksPort 9055"),
        ("", "Cont 9055"),
        ("ExitNodes {de}, \\\n# inside \\\n {fr}\n", "SocksPort \\\n 9055"),
    ],
)
def test_what_tor_takes_is_refused(tmp_path: Path, before: str, line: str) -> None:
    found = dump(tmp_path, before + line + "\n")
    assert any("9055" in option for option in found)
    with pytest.raises(SetupError):
        check_lines((before + line).split("\n"))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("HTTPTunnelPort 8118", None),
        ("HTTPTunnelPort auto", None),
        ("HTTPTunnelPort 127.0.0.1:8118", None),
        ("TransPort [::1]:9040 IsolateDestAddr", None),
        ("HTTPTunnelPort unix:/run/tunnel", None),
        ("# HTTPTunnelPort 0.0.0.0:8118", None),
        ("ExitNodes {de}:0.0.0.0", None),
        ("HTTPTunnelPort 0.0.0.0:8118", "HTTPTunnelPort"),
        ('  +httptunnelport "0.0.0.0:8118"', "HTTPTunnelPort"),
        ("HTTPTunnelP 192.0.2.1:8118 IsolateDestAddr", "HTTPTunnelPort"),
        ("TransPort [::]:9040", "TransPort"),
        ("dnsport\tsomewhere.example:53", "DNSPort"),
    ],
)
def test_ways_in_beyond_loopback(line: str, name: str | None) -> None:
    """Rule 11."""
    assert exposed_listener(line) == name


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0\1"), max_size=40))
def test_quoting_escapes_all_that_ends_a_string(value: str) -> None:
    inside = quoted(value)[1:-1]
    plain = inside.replace("\\\\", "\0").replace('\\"', "\1")
    assert '"' not in plain
    assert "\\" not in plain
    assert plain.replace("\0", "\\").replace("\1", '"') == value


def text(tmp_path: Path, socks: SocksAddress, *lines: str) -> str:
    return torrc_text(
        tor_dir=tmp_path / 'a #"dir\\',
        control_socket=tmp_path / 'a #"dir\\' / "control",
        socks=socks_port(socks),
        owner=os.getpid(),
        lines=lines,
    )


def test_the_whole_file_as_tor_reads_it(tmp_path: Path) -> None:
    (tmp_path / 'a #"dir\\').mkdir(mode=0o700)
    socks = SocksAddress(path=str(tmp_path / "s # s"))
    found = dump(tmp_path, text(tmp_path, socks, "ExitNodes {de}"))
    assert f'SocksPort "unix:\\"{tmp_path}/s # s\\" ExtendedErrors"' in found
    assert f"__OwningControllerProcess {os.getpid()}\n" in text(tmp_path, socks)
    assert "CookieAuthentication 1" in found
    assert "ExitNodes {de}" in found
    assert "ClientOnly 1" in found
    assert "Log notice stdout" in found
    control = quoted(f'{tmp_path}/a #"dir\\/control')
    assert f"ControlPort {quoted('unix:' + control)}" in found


def test_owned_lines_never_reach_the_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="SocksPort"):
        text(tmp_path, SocksAddress(), "socksport 1")


def test_socks_ports() -> None:
    assert socks_port(SocksAddress()) == '"127.0.0.1:9050 ExtendedErrors"'
    assert socks_port(SocksAddress("::1", 1)) == '"[::1]:1 ExtendedErrors"'
    assert socks_port(SocksAddress(), automatic=True) == '"127.0.0.1:auto ExtendedErrors"'
