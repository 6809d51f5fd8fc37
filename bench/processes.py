"""The processes of a run: each is started here, and is gone when the run is, however it ends."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from attrs import frozen

from bench.build import ROOT
from bench.usage import tree

_PATIENCE = 60.0
_STOPPED_WITHIN = 10.0
_PR_SET_PDEATHSIG = 1


class ProcessError(Exception):
    """A process did not do what it was started for; the sentence ends with what it said."""


@frozen
class Program:
    """One process, with those that it has started in turn."""

    name: str
    process: subprocess.Popen[str]
    log: IO[str]
    """What it says on standard error, and on standard output if that is not read."""

    @property
    def pid(self) -> int:
        """Its process's."""
        return self.process.pid

    def read_json(self) -> Any:
        """The next line of its standard output, which is JSON."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self.failure("it ended")
        return json.loads(line)

    def wait_for_port(self, port: int, host: str = "127.0.0.1") -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + _PATIENCE
        while not _accepts(host, port):
            if self.process.poll() is not None:
                raise self.failure(f"it ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise self.failure(f"it did not listen within {_PATIENCE:g} s")
            time.sleep(0.02)

    def failure(self, reason: str) -> ProcessError:
        """An error with the last that it has said."""
        self.log.seek(0)
        return ProcessError(f"{self.name}: {reason}. {' '.join(self.log.readlines()[-5:])}".strip())

    def stop(self) -> None:
        """End it, and all that it has started."""
        _, *started = tree(self.pid)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(_STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in started:
            _kill(pid)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


@contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    talks: bool = False,
) -> Iterator[Program]:
    """Run a command from here to the end of the block.

    :param environ: beside what this process has.
    :param talks: whether its standard output is read, and its standard input kept open.
    """
    log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by stop
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
        stdout=subprocess.PIPE if talks else log,
        stderr=log,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process, which ends the others
        preexec_fn=_end_with_parent,
    )
    program = Program(name, process, log)
    try:
        yield program
    finally:
        program.stop()


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent is gone, however that went (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
