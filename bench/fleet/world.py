"""Members of a fleet, and the balancers in front of them."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from urllib.error import URLError
from urllib.request import urlopen

from attrs import frozen

from bench.build import ROOT
from bench.load import Target
from bench.peers.model import found
from bench.peers.tortxd import daemon
from bench.processes import ProcessError, Program, free_port, running
from bench.settings import Behind
from bench.usage import tree

CONFIGURATION = ROOT / "packaging" / "haproxy.cfg"
PREFIX = "127.0.8."
"""Where members are: the third at 127.0.8.3."""
_PATIENCE = 60.0
_BACKLOG = 1024

BALANCER, MEMBERS, TORS, RELAYS = "balancer", "members", "tors", "relays"
"""Whose CPU is counted apart."""


@frozen
class Fleet:
    """What there is to be asked."""

    behind: Behind
    direct: Target
    """The first member's own port, past every balancer."""
    balancers: Mapping[int, Target]
    """By how many members each knows."""
    members: Sequence[int]
    """The members' processes, each with what it has started."""

    def parties(self, target: Target) -> dict[str, list[int]]:
        """The processes that work while this one is asked, by what they are."""
        trees = [tree(pid) for pid in self.members]
        is_balanced = target is not self.direct
        return {
            BALANCER: tree(target.pid) if is_balanced else [],
            MEMBERS: [pid for pid, *_ in trees],
            TORS: [pid for _, *started in trees for pid in started],
            RELAYS: tree(self.behind.network) if self.behind.network else [],
        }


@contextmanager
def fleet(behind: Behind, *counts: int) -> Iterator[Fleet]:
    """Members, and for each count a balancer that knows so many of them; all is ready."""
    # Each balancer finds its members at a port of its own, where those that it does not know are
    # not: so all of them can be asked by turns, and every member stays as warm as it is.
    ports = {count: free_port() for count in counts}
    with ExitStack() as stack:
        members: list[tuple[int, Program]] = []
        for number in range(1, max(counts) + 1):
            listens = [
                f"haproxy:tcp:{port}:interface={PREFIX}{number}:backlog={_BACKLOG}"
                for count, port in ports.items()
                if number <= count
            ]
            members.append(stack.enter_context(_member(behind, listens)))
        for port, _ in members:
            _wait_until(partial(_read, port, "/health"), "A member is ready")
        balancers = {
            count: stack.enter_context(_balancer(port, count)) for count, port in ports.items()
        }
        direct = Target("127.0.0.1", members[0][0], members[0][1].pid)
        yield Fleet(behind, direct, balancers, [program.pid for _, program in members])


def _member(
    behind: Behind, endpoints: Sequence[str]
) -> AbstractContextManager[tuple[int, Program]]:
    return _daemon(behind, endpoints) if behind.torrc else _gateway(behind, endpoints)


@contextmanager
def _daemon(behind: Behind, endpoints: Sequence[str]) -> Iterator[tuple[int, Program]]:
    """The daemon with a Tor of its own, which it may ask for as many circuits as it needs."""
    port = free_port()
    further = [word for endpoint in endpoints for word in ("--http", endpoint)]
    rates = ("--circuit-rate", "unlimited", "--caller-circuit-rate", "unlimited")
    own = ("--torrc", str(behind.torrc), "--socks", str(free_port()))
    with (
        tempfile.TemporaryDirectory(prefix="tortxd-bench-") as directory,
        running("tortxd", daemon(port, directory, *further, *own, *rates, "--open")) as program,
    ):
        program.wait_for_port(port)
        yield port, program


@contextmanager
def _gateway(behind: Behind, endpoints: Sequence[str]) -> Iterator[tuple[int, Program]]:
    """The daemon's gateway alone."""
    port = free_port()
    where = (str(port), str(behind.socks_port), *endpoints)
    command = (sys.executable, "-m", "bench.gateways.over_socks", *where)
    with running("tortxd", command) as program:
        program.wait_for_port(port)
        yield port, program


@contextmanager
def _balancer(member_port: int, count: int) -> Iterator[Target]:
    port, admin = free_port(), free_port()
    environ = {
        "TORTXD_BIND": f"127.0.0.1:{port}",
        "TORTXD_ADMIN": f"127.0.0.1:{admin}",
        "TORTXD_MEMBER_PREFIX": PREFIX,
        "TORTXD_MEMBER_PORT": str(member_port),
    }
    with running("HAProxy", (found("haproxy"), "-f", CONFIGURATION), environ=environ) as program:
        program.wait_for_port(port)
        _wait_until(lambda: _ready(admin) == count, f"HAProxy finds {count} members")
        yield Target("127.0.0.1", port, program.pid)


def _ready(admin: int) -> int:
    """How many members are ready, as HAProxy says."""
    lines = _read(admin, "/metrics").splitlines()
    servers = [line for line in lines if line.startswith("haproxy_server_status{")]
    return sum(line.endswith('state="UP"} 1') for line in servers)


def _read(port: int, path: str) -> str:
    """A body; nothing where there is none, or no success."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()
    except (URLError, OSError):
        return ""


def _wait_until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise ProcessError(f"{what}: that was not so within {_PATIENCE:g} s")
        time.sleep(0.1)
