"""How far the network has come, read from what its processes log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred

from tortxd.testing.model import Relay
from tortxd.testing.processes import TorProcess

KEYS_SHARE = 15
"""How many of the 100 parts the making of the keys is."""

_STEPS: Mapping[str, tuple[str, str]] = {
    "Opened OR listener connection (ready)": ("up", "{} is up."),
    "Choosing valid-after time in vote": ("voted", "{} votes on the relays."),
    "Published microdesc consensus": ("published", "{} publishes the consensus."),
    "Bootstrapped 100%": ("ready", "{} can build circuits."),
}
# Authorities take all four steps, exits come up and are ready.
_AUTHORITY_STEPS = 4
_EXIT_STEPS = 2


class Progress:
    """Counts the steps of the relays, tells them, and lets the start wait for them."""

    def __init__(self, tell: Callable[[int, str], object]) -> None:
        self.fraction = 0
        self.sentence = ""
        self._tell = tell
        self._relays: Sequence[Relay] = ()
        self._directory = Path()
        self._seen: dict[str, set[str]] = {}
        self._waiters: list[tuple[str, frozenset[str], Deferred[None]]] = []

    def say(self, fraction: int, sentence: str) -> None:
        """Tell how far it is, 0 to 100."""
        self.fraction, self.sentence = fraction, sentence
        self._tell(fraction, sentence)

    def follow(self, relays: Sequence[Relay], directory: Path) -> None:
        """From now on, read what these relays log; their data directories lie in ``directory``."""
        self._relays, self._directory = relays, directory

    def all_have(self, step: str, relays: Sequence[Relay]) -> Deferred[None]:
        """Fire when these relays are ``up``, have ``published`` or are ``ready``.

        Fails with NetworkError as soon as one of the network's processes ends.
        """
        waiter: Deferred[None] = Deferred()
        self._waiters.append((step, frozenset(relay.nickname for relay in relays), waiter))
        self._check()
        return waiter

    def logged(self, process: TorProcess, line: str) -> None:
        """Take a line that a process has logged."""
        for text, (step, sentence) in _STEPS.items():
            if text in line:
                self._reached(step, process.nickname, sentence)

    def ended(self, process: TorProcess) -> None:
        """Take note that a process has ended, which nobody may wait for in vain."""
        waiting, self._waiters = self._waiters, []
        for _, _, waiter in waiting:
            if not waiter.called:
                waiter.errback(process.died())

    def _reached(self, step: str, nickname: str, sentence: str) -> None:
        seen = self._seen.setdefault(step, set())
        if nickname in seen or nickname not in {relay.nickname for relay in self._relays}:
            return
        if step == "published" and (missing := self._missing(nickname)):
            self.say(self.fraction, f"The consensus is without {missing}; waiting for the next.")
            return
        seen.add(nickname)
        done = sum(len(names) for names in self._seen.values())
        steps = sum(
            _AUTHORITY_STEPS if relay.is_authority else _EXIT_STEPS for relay in self._relays
        )
        fraction = KEYS_SHARE + (99 - KEYS_SHARE) * done // steps
        if self.fraction < 100:  # else it is up, and who comes late changes nothing
            self.say(max(fraction, self.fraction), sentence.format(nickname))
        self._check()

    def _missing(self, authority: str) -> str:
        """Who is not in the consensus that this authority has just published."""
        file = self._directory / authority / "cached-microdesc-consensus"
        listed = {
            line.split()[1] for line in file.read_text("ascii").splitlines() if line[:2] == "r "
        }
        return ", ".join(one.nickname for one in self._relays if one.nickname not in listed)

    def _check(self) -> None:
        waiting, self._waiters = self._waiters, []
        for step, names, waiter in waiting:
            if waiter.called:
                continue  # cancelled
            if names <= self._seen.get(step, set()):
                waiter.callback(None)
            else:
                self._waiters.append((step, names, waiter))
