"""What there is to know of one that is measured."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import which

from attrs import frozen

from bench.load import Target
from bench.processes import free_port, running
from bench.settings import Behind
from bench.ways import Way


class Missing(Exception):
    """Something that is to be measured is not there; the sentence says why."""


@frozen
class Peer:
    """One that is measured."""

    key: str
    title: str
    ways: tuple[Way, ...]
    """How it can be asked; the one that is best for it comes first."""
    start: Callable[[Behind], AbstractContextManager[Target]]
    """Runs it as long as the block lasts."""
    prepare: Callable[[], str]
    """Makes what it needs, and returns which version it is. Raises Missing."""
    needs_tunnel: bool = False
    """Whether it is there in a Tor network only."""


@contextmanager
def listening(
    name: str,
    port: int,
    command: Sequence[str | Path],
    environ: Mapping[str, str] | None = None,
) -> Iterator[Target]:
    """Run what listens on this port."""
    with running(name, command, environ=environ) as program:
        program.wait_for_port(port)
        yield Target("127.0.0.1", port, program.pid)


def found(program: str) -> str:
    """Where a program is. Raises Missing."""
    path = which(program) or which(program, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{program} is not installed")
    return path


def number_in(*command: str | Path) -> str:
    """The version that a program says it is. Raises Missing where it says none."""
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    if number is None:
        raise Missing(f"{command[0]} does not say its version")
    return number[0]


__all__ = ["Missing", "Peer", "found", "free_port", "listening", "number_in"]
