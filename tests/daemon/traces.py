"""What strace saw a daemon do: whom it connected to, what it started, which names it looked up."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

CALLS = (
    "connect,sendto,sendmsg,sendmmsg,execve,execveat,fork,vfork,clone,clone3,open,openat,openat2"
)
LOOKS_UP = re.compile(r"/etc/(resolv\.conf|hosts|host\.conf|gai\.conf)|libnss_(dns|resolve|mdns)")
"""The files that the C library reads to look up a host name, and to nothing else (nsswitch.conf(5),
resolver(5))."""


@frozen
class Trace:
    """What strace saw, what the daemon itself did and what the programs did that it started."""

    connects: list[str] = field(factory=list)
    """The addresses that the daemon connected to, as strace writes them."""
    addressed: list[str] = field(factory=list)
    """Its calls that sent something to an address rather than over a connection."""
    looked_up: list[str] = field(factory=list)
    """The files that it opened to look up a host name."""
    programs: set[str] = field(factory=set)
    """What it has started."""
    others: list[str] = field(factory=list)
    """The addresses that those connected to, or sent something to."""


def strace(file: Path) -> list[str]:
    """The words before a command that have it traced into ``file``."""
    found = shutil.which("strace")
    assert found is not None, "This test needs the program strace: apt-get install strace"
    return [found, "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-o", str(file)]


def read_trace(file: Path) -> Trace:
    """Keep apart what the daemon and its threads did, and what the programs that it started did.

    A process belongs to the daemon from the call that made it until it executes another program.
    """
    trace, parents, others = Trace(), dict[str, str](), set[str]()
    first = ""
    for line in file.read_text().splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        first = first or pid
        made = re.match(r"(?:<\.\.\. )?(?:v?fork|clone3?)\b.* = (\d+)$", call)
        if made is not None:
            parents[made[1]] = pid
        started = re.match(r'execve(?:at)?\((?:AT_FDCWD, )?"([^"]+)"', call)
        if started is not None and pid != first:
            others.add(pid)
            trace.programs.add(started[1])
        is_own = not others & {pid, *_ancestors(pid, parents)}
        if call.startswith("connect("):
            to = call.partition("{")[2].partition("}")[0]
            (trace.connects if is_own else trace.others).append(to)
        elif call.startswith("send") and re.search(r"sa_family=|msg_name=\{", call):
            if is_own:
                trace.addressed.append(call)
            elif "AF_NETLINK" not in call:  # tor asks the kernel which interfaces there are
                trace.others.append(call)
        elif call.startswith("open") and is_own and LOOKS_UP.search(call):
            trace.looked_up.append(call)
    return trace


def _ancestors(pid: str, parents: dict[str, str]) -> Iterator[str]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def inet(host: str, port: int) -> str:
    """An IPv4 address as strace writes it."""
    return f'sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{host}")'
