"""A run: a plan is carried out on a daemon, and at the end everything is looked at."""

from __future__ import annotations

import signal
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from tests.daemon.process import Daemon, Launcher, installed, memory, soon
from tests.soak.acts import IDLE, TIMEOUT, Acts
from tests.soak.canaries import Canaries
from tests.soak.destinations import CHECKS, Destinations
from tests.soak.faults import Faults
from tests.soak.ledger import Ledger, Violation, Window
from tests.soak.plan import ACTORS, Fault, Plan, Step
from tests.soak.resources import Resources
from tortxd.testing import PrivateNetwork

TELL_EVERY = 5.0
AT_REST_WITHIN = 60.0
"""Seconds after the last request in which everything is back: the idle time of bodies, the time of
Tor's own streams, and more than a busy machine needs."""
MOST_OF_A_STEP = 6 * TIMEOUT
"""Seconds after which a step hangs."""


@define
class Soak:
    """One run. :meth:`run` says what was found."""

    seed: int
    seconds: float
    folder: Path
    """For its log, and all else that it makes."""
    tell: Callable[[str], object] = print
    faults: bool = True
    actors: int = ACTORS
    ledger: Ledger = field(factory=Ledger)
    before: Resources | None = None
    after: Resources | None = None
    _began: float = 0.0
    _under_way: set[int] = field(factory=set)
    _changed_tor: float = 0.0

    @property
    def now(self) -> float:
        """Seconds from the beginning of the load."""
        return float(installed().seconds() - self._began)

    async def run(self) -> list[str]:
        """Carry the plan out; what must not have been, a line for each."""
        plan = Plan.of(self.seed, self.seconds, actors=self.actors, faults=self.faults)
        (self.folder / "plan.log").write_text("\n".join(plan.lines()) + "\n")
        canaries = Canaries.of(self.seed)
        network = PrivateNetwork(installed(), origins={f"*.{Canaries.domain}": "127.0.0.1"})
        await network.start()
        there = Destinations.of(network, self.folder, canaries.host)
        launcher = Launcher(network, there.origin, self.folder)
        try:
            await there.start()
            await self._on(launcher, network, there, canaries, plan)
        finally:
            await gatherResults([daemon.put_down() for daemon in launcher.daemons])
            await there.stop()
            await network.stop()
        return self.ledger.violations

    async def _on(
        self,
        launcher: Launcher,
        network: PrivateNetwork,
        there: Destinations,
        canaries: Canaries,
        plan: Plan,
    ) -> None:
        temporary, tokens = self.folder / "tmp", self.folder / "token"
        temporary.mkdir()
        tokens.write_text(canaries.token)
        runtime = {"XDG_RUNTIME_DIR": str(self.folder)}
        checks = f"https://{CHECKS}:{there.origin.https_port}"
        daemon = launcher(
            *(f"--timeout={TIMEOUT}", f"--idle-timeout={IDLE}", f"--token-file={tokens}"),
            *("--log-level=debug", "--log-requests"),
            *(f"--check-url={checks}/api/ip", f"--ip-url={checks}/ip"),
            environ={"SSL_CERT_FILE": str(there.ca_file), "TMPDIR": str(temporary), **runtime},
        )
        acts = Acts(daemon, there, canaries, self.ledger, self._is_calm)
        await daemon.when_listening()
        canaries.operator.append(daemon.token)
        await self._until_ready(acts)
        await self._warm_up(acts)
        self.before = await self._at_rest(daemon, acts, temporary, None)
        there.arrived.clear()
        self._began = installed().seconds()
        telling = LoopingCall(self._tell_progress, plan, daemon)
        telling.start(TELL_EVERY, now=False)
        going = [self._actor(acts, there, mine) for mine in _by_actor(plan)]
        going.append(self._befall(Faults(daemon, network, there, acts), plan))
        try:
            await gatherResults([Deferred.fromCoroutine(one) for one in going])
        finally:
            telling.stop()
        self.tell("The load has stopped.")
        self.after = await self._at_rest(daemon, acts, temporary, self.before)
        for number, times in there.arrived.items():
            if times > 1:
                self._accuse(f"the upload of step {number} arrived {times} times")
        status = await daemon.stop()
        if status not in (0, -signal.SIGTERM):
            self._accuse(f"the daemon ended with {status}")
        self._look_for(canaries, daemon, temporary)

    # --- the load ---------------------------------------------------------------------------------

    async def _until_ready(self, acts: Acts) -> None:
        while (await acts.ask("/health"))[0].status != 200:
            await deferLater(installed(), 0.1)

    async def _warm_up(self, acts: Acts) -> None:
        """Everything once and more, so that what is loaded and made but once is there."""
        seen = Counter[str]()
        for step in Plan.of(0, 60, faults=False).steps:
            words = step.words.get("path") or step.words.get("way") or ""
            if step.act in ("leave", "close", "library") or seen[f"{step.act} {words}"]:
                continue
            seen[f"{step.act} {words}"] += 1
            _, doing = acts.of(step)
            try:
                outcome = await doing
            except Violation as wrong:
                self._accuse(f"in warming up, {wrong} of {step}")
            else:
                if outcome.kind == "failed" and not outcome.wanted:
                    self._note(f"in warming up, {outcome.code} of {step}")

    async def _actor(self, acts: Acts, there: Destinations, steps: list[Step]) -> None:
        for step in steps:
            if self.now > self.seconds:
                return
            if step.at > self.now:
                await deferLater(installed(), step.at - self.now)
            await self._take(acts, step)
            there.forget()

    async def _take(self, acts: Acts, step: Step) -> None:
        began = self.now
        self._under_way.add(step.number)
        way, doing = acts.of(step)
        try:
            outcome = await soon(Deferred.fromCoroutine(doing), MOST_OF_A_STEP)
        except Violation as wrong:
            self.ledger.counts[way, "WRONG"] += 1
            self.ledger.accuse(step, str(wrong), began, self.now)
            self._note(self.ledger.violations[-1])
        except Exception:
            self.ledger.counts[way, "WRONG"] += 1
            self.ledger.accuse(step, traceback.format_exc(limit=-4), began, self.now)
        else:
            known = len(self.ledger.violations)
            self.ledger.take(step, way, outcome, began, self.now)
            self._note(
                f"{began:7.2f} to {self.now:7.2f} {outcome.code or outcome.kind}: step "
                f"{step.number} {step.act}"
            )
            for one in self.ledger.violations[known:]:
                self._note(one)
        finally:
            self._under_way.discard(step.number)

    async def _befall(self, faults: Faults, plan: Plan) -> None:
        under_way = []
        for fault in plan.faults:
            if fault.at > self.now:
                await deferLater(installed(), fault.at - self.now)
            under_way.append(Deferred.fromCoroutine(self._one(faults, fault)))
        await gatherResults(under_way)

    async def _one(self, faults: Faults, fault: Fault) -> None:
        window = Window(fault, self.now)
        self.ledger.windows.append(window)
        self._note(f"{self.now:7.2f} begins: {fault}")
        try:
            if not await faults.befall(fault):
                self.ledger.windows.remove(window)
        except Violation as wrong:
            self._accuse(f"{wrong}: {fault}")
        window.ended = self.now
        self._changed_tor = self.now
        self._note(f"{self.now:7.2f} is over: {fault}")

    def _is_calm(self) -> bool:
        return all(one.ended is not None for one in self.ledger.windows) and (
            self.now > self._changed_tor + 2 * TIMEOUT or not self.ledger.windows
        )

    # --- the end ----------------------------------------------------------------------------------

    async def _at_rest(
        self, daemon: Daemon, acts: Acts, temporary: Path, before: Resources | None
    ) -> Resources:
        """Wait until nothing is under way, and with ``before``, until all is as it was then."""
        deadline = installed().seconds() + AT_REST_WITHIN
        told: list[str] = []
        await self._until_ready(acts)
        await acts.ask("/identity/new", method="POST", data=b"")  # which empties the pool
        while True:
            found = await Resources.of(daemon, temporary)
            left = found.left(before or found)
            left += [] if found.streams == found.under_way == found.pooled == 0 else ["not at rest"]
            if not left:
                return found
            if left != told:
                told = left
                self.tell(f"To be waited for: {', '.join(left)}.")
            if installed().seconds() > deadline:
                self._accuse(f"{AT_REST_WITHIN:g} s after the load, there is left {left}: {found}")
                return found
            await deferLater(installed(), 0.5)

    def _look_for(self, canaries: Canaries, daemon: Daemon, temporary: Path) -> None:
        (self.folder / "daemon.log").write_bytes(daemon.output)
        for one in canaries.among(daemon.output):
            self._accuse(f"the daemon's log holds {one}")
        if b"Traceback" in daemon.output:
            at = daemon.output.index(b"Traceback")
            self._accuse("a traceback in the log: " + daemon.output[at : at + 1500].decode())
        for folder in (daemon.data_dir, temporary):
            for sentence in canaries.in_files(folder, but="operator-token"):
                self._accuse(sentence)

    def _accuse(self, sentence: str) -> None:
        self.ledger.accuse(None, sentence, self.now, self.now)
        self._note(self.ledger.violations[-1])

    def _note(self, line: str) -> None:
        with (self.folder / "soak.log").open("a") as log:
            log.write(line + "\n")

    def _tell_progress(self, plan: Plan, daemon: Daemon) -> None:
        ledger = self.ledger
        now = [one.fault.kind for one in ledger.windows if one.ended is None]
        codes = ", ".join(f"{count} {code}" for code, count in sorted(ledger.codes().items()))
        self.tell(
            f"{self.now:5.0f} s: {sum(ledger.counts.values())} of {len(plan.steps)} done, "
            f"{len(self._under_way)} under way, {ledger.right} right; "
            f"{codes or 'no failures'}; {memory(daemon.pid) / 1e6:.1f} MB"
            + (f"; now {', '.join(now)}" if now else "")
            + (f"; {len(ledger.violations)} WRONG" if ledger.violations else "")
        )


def _by_actor(plan: Plan) -> list[list[Step]]:
    actors: dict[int, list[Step]] = {}
    for step in plan.steps:
        actors.setdefault(step.actor, []).append(step)
    return list(actors.values())
