"""What needs no tor: torrc files, addresses, names, sockets, sweeping."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tortxd.testing import sweeper, torrc
from tortxd.testing.addresses import claim
from tortxd.testing.model import NetworkError, Relay
from tortxd.testing.processes import find_program
from tortxd.testing.resolver import no_such_name
from tortxd.testing.sockets import owner

# What contract.md says tortxd owns in the torrc of a Tor that it launches.
OWNED = [
    "controlport",
    "controlsocket",
    "socksport",
    "datadirectory",
    "cookieauthentication",
    "hashedcontrolpassword",
    "user",
    "runasdaemon",
    "safelogging",
    "log",
    "%include",
    "__owningcontrollerprocess",
]

AUTHORITY = Relay("authority1", "A" * 40, "127.7.8.10", "at", is_exit=False, is_authority=True)
EXIT = Relay("exit1", "B" * 40, "127.7.8.13", "de", is_exit=True, is_authority=False)


def shared(directory: Path = Path("/a b/net")) -> torrc.Shared:
    return torrc.Shared(directory, 77, 12001, 12002, ((AUTHORITY, "C" * 40),))


def test_client_lines_are_none_of_those_that_tortxd_owns() -> None:
    lines = torrc.client_lines(shared(), {"origin.test.example": "127.0.0.1"})
    assert not {line.split()[0].lower() for line in lines} & set(OWNED)
    assert "MapAddress origin.test.example 127.0.0.1" in lines
    assert "TestingTorNetwork 1" in lines


def test_directories_with_blanks_are_quoted() -> None:
    assert 'GeoIPFile "/a b/net/geoip"' in torrc.client_lines(shared(), {})
    assert torrc.quoted('a\\b"c') == '"a\\\\b\\"c"'


def test_authority_line() -> None:
    (line,) = [one for one in torrc.network_lines(shared()) if one.startswith("DirAuthority")]
    assert line == (
        f"DirAuthority authority1 orport=12001 no-v2 v3ident={'C' * 40} 127.7.8.10:12002 {'A' * 40}"
    )


@pytest.mark.parametrize(
    "lines", [torrc.exit_lines(shared(), EXIT), torrc.authority_lines(shared(), EXIT, 3)]
)
def test_relays_are_bound_to_loopback_and_to_their_owner(lines: list[str]) -> None:
    for what in ("", "Exit", "OR"):
        assert f"OutboundBindAddress{what} 127.7.8.13" in lines
    assert 'ServerDNSResolvConfFile "/a b/net/resolv.conf"' in lines
    assert "IPv6Exit 0" in lines
    assert "__OwningControllerProcess 77" in lines


def test_geoip_lines_are_sorted_numbers() -> None:
    assert torrc.geoip_lines([EXIT, AUTHORITY]) == [
        "2131167242,2131167242,AT",
        "2131167245,2131167245,DE",
    ]


def test_relays_remember_that_they_have_carried_enough() -> None:
    lines = torrc.state_lines(86_401.4)
    assert lines[:2] == ["BWHistoryReadEnds 1970-01-02 00:00:00", "BWHistoryReadInterval 86400"]
    for way in ("Read", "Write"):
        (carried,) = (int(one.split()[1]) for one in lines if f"{way}Maxima" in one)
        assert carried > 1000 * torrc.BANDWIDTH


def test_first_vote_is_when_it_should_be() -> None:
    # Tor begins an interval at multiples of it since midnight plus the offset, and votes before
    # that.
    for vote_at in range(1_000_000_000, 1_000_000_010):
        interval_begins = vote_at + torrc.INITIAL_VOTING_LEAD
        offset = torrc.voting_offset(vote_at)
        assert 0 <= offset < torrc.INITIAL_VOTING_INTERVAL
        assert (interval_begins - offset) % torrc.INITIAL_VOTING_INTERVAL == 0


def test_claims_exclude_each_other_and_can_be_bound() -> None:
    held = [claim(range(10, 13)) for _ in range(5)]
    assert len({one.prefix for one in held}) == 5
    with socket.socket() as listening:
        listening.bind((held[0].address(10), held[0].or_port))
    with pytest.raises(OSError, match="in use"), socket.socket() as second:
        second.bind((held[0].address(1), 10_000))
    for one in held:
        one.release()
    with socket.socket() as again:
        again.bind((held[0].address(1), 10_000))


@pytest.mark.parametrize("program", ["tor", "tor-gencert"])
def test_missing_program_is_named_with_its_package(program: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=rf"program {program}, .*package tor: apt-get install"):
        find_program(program, str(tmp_path))


def test_names_do_not_exist() -> None:
    question = b"\3www\7example\3com\0\0\1\0\1"
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + question + b"\0\0\x29\x10\0\0\0\0\0\0\0"
    answer = no_such_name(query)
    assert answer == b"\x12\x34\x81\x83\0\1\0\0\0\0\0\0" + question
    for size in range(12 + len(question)):
        assert no_such_name(query[:size]) is None


def test_owner_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = server.getsockname()
        # A process of its own, so that it is told from this one.
        script = "import socket,sys; s=socket.create_connection(('127.0.0.1',int(sys.argv[1])));"
        arguments = [sys.executable, "-c", script + "s.recv(1)", str(where[1])]
        with subprocess.Popen(arguments) as other:
            connection, peer = server.accept()
            with connection:
                ours = (os.getpid(), other.pid)
                assert owner(where, peer, ours) == other.pid
                assert owner(None, peer, ours) == other.pid
                assert owner(peer, where, ours) == os.getpid()
                assert owner(("127.0.0.1", 1), peer, ours) is None
                assert owner(where, peer, (os.getpid(),)) is None
                assert owner(where, ("127.0.0.1", 1), ours) is None


def test_sweeper_kills_what_it_was_told_and_only_that(tmp_path: Path) -> None:
    directory = tmp_path / "network"
    directory.mkdir()
    (directory / "file").touch()
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    ours = subprocess.Popen([*waiting, str(directory)], stdin=subprocess.PIPE)
    other = subprocess.Popen(waiting, stdin=subprocess.PIPE)
    sweeping = subprocess.Popen(
        [sys.executable, "-I", "-S", sweeper.__file__, str(directory)], stdin=subprocess.PIPE
    )
    assert sweeping.stdin is not None
    # The second stands for a process that got a pid which was ours once.
    sweeping.communicate(b"%d\n%d\n" % (ours.pid, other.pid), timeout=20)
    assert ours.wait(20) == -signal.SIGKILL
    assert other.poll() is None
    assert not directory.exists()
    other.communicate(timeout=20)
    assert ours.stdin is not None
    ours.stdin.close()


def test_import_installs_no_reactor() -> None:
    script = "import sys, tortxd.testing; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
