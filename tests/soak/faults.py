"""What goes wrong, for real, and what puts it right again."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import define
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.daemon.process import Daemon, installed, until
from tests.soak.acts import Acts
from tests.soak.destinations import Destinations
from tests.soak.ledger import Violation
from tests.soak.plan import Fault
from tests.tor.lone_tor import alive
from tortxd.testing import PrivateNetwork

BACK_WITHIN = 60.0
"""Seconds in which /health says ``ok`` again after a fault."""


@define
class Faults:
    """Has them befall a daemon and what is around it."""

    daemon: Daemon
    network: PrivateNetwork
    there: Destinations
    acts: Acts

    async def befall(self, fault: Fault) -> bool:
        """Be done when the fault is over; False where it cannot be caused here."""
        befall: Callable[[Fault], Deferred[bool | None]] = getattr(
            self, "_" + fault.kind.replace("-", "_")
        )
        did = await befall(fault)
        await self._until_healthy()
        return did is not False

    async def _until_healthy(self) -> None:
        deadline = installed().seconds() + BACK_WITHIN
        while (reply := (await self.acts.ask("/health"))[0]).status != 200:
            if installed().seconds() > deadline:
                raise Violation(f"/health is {bytes(reply.body)!r} {BACK_WITHIN:g} s after a fault")
            await deferLater(installed(), 0.2)

    async def _tor_killed(self, _: Fault) -> None:
        tor = self.daemon.tor_pid
        if tor is not None:
            os.kill(tor, signal.SIGKILL)
            # Its end is heard of before /health is asked.
            await until(lambda: not alive(tor))
            await until(lambda: self.daemon.tor_pid not in (None, tor))

    async def _tor_stopped(self, fault: Fault) -> None:
        tor = self.daemon.tor_pid
        if tor is not None:
            await self._stop(tor, fault.seconds)

    async def _exit_stopped(self, fault: Fault) -> None:
        exits = [relay for relay in self.network.relays if relay.is_exit]
        await self._stop_relay(exits[fault.target % len(exits)].nickname, fault)

    async def _relay_stopped(self, fault: Fault) -> None:
        others = [relay for relay in self.network.relays if not relay.is_exit]
        await self._stop_relay(others[fault.target % len(others)].nickname, fault)

    async def _stop_relay(self, nickname: str, fault: Fault) -> None:
        pid = self.network.processes[nickname].pid
        assert pid is not None
        await self._stop(pid, fault.seconds)

    async def _stop(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            await deferLater(installed(), seconds)
        finally:
            with suppress(ProcessLookupError):  # the watchdog may have ended it
                os.kill(pid, signal.SIGCONT)

    async def _origin_resets(self, _: Fault) -> None:
        self.there.reset()

    async def _origin_stalls(self, fault: Fault) -> None:
        stalled = self.there.stall()
        await deferLater(installed(), fault.seconds)
        self.there.go_on(stalled)

    async def _newnym_storm(self, fault: Fault) -> None:
        """Ten wishes, which Tor makes one or two of: each is answered when it is fulfilled."""
        asking = []
        for _ in range(10):
            one = self.acts.ask("/identity/new", method="POST", data=b"")
            asking.append(Deferred.fromCoroutine(one))
            await deferLater(installed(), fault.seconds / 10)
        await gatherResults(asking)

    async def _few_descriptors(self, fault: Fault) -> None:
        taken = len(os.listdir(f"/proc/{self.daemon.pid}/fd")) + 4
        await self._limited(resource.RLIMIT_NOFILE, taken, fault, [self.daemon.pid])

    async def _disk_full(self, fault: Fault) -> None:
        """Files cannot grow (setrlimit(2), RLIMIT_FSIZE), which any user can bring about."""
        tor = self.daemon.tor_pid
        pids = [self.daemon.pid, *([tor] if tor else [])]
        await self._limited(resource.RLIMIT_FSIZE, 0, fault, pids)

    async def _limited(self, what: int, least: int, fault: Fault, pids: list[int]) -> None:
        before = resource.prlimit(self.daemon.pid, what)
        for pid in pids:
            resource.prlimit(pid, what, (least, before[1]))
        await deferLater(installed(), fault.seconds)
        # A Tor that was started meanwhile has the limit, too.
        for one in {*pids, self.daemon.tor_pid or self.daemon.pid}:
            with suppress(ProcessLookupError):
                resource.prlimit(one, what, before)

    async def _hang_up(self, _: Fault) -> bool:
        """SIGHUP, where the daemon does something else than to die of it (proc(5), SigCgt)."""
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if not caught >> signal.SIGHUP - 1 & 1:
            return False
        self.daemon.kill(signal.SIGHUP)
        return True
