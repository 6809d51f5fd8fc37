"""Load on a fleet: clients that ask on and on, each under its own keys, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, gatherResults

from tests.daemon.process import PATIENCE, installed, soon
from tests.web_client import Wire, connect


@frozen
class Outcome:
    """What became of one request."""

    key: str
    began: float
    ended: float
    """Both in seconds of the reactor's clock."""
    member: str | None
    """Who has answered; None: nobody, or the balancer itself."""
    whole: bool
    """Whether it was answered, with all of the body."""
    said: str = ""


@define(eq=False)
class Load:
    """Clients at work; each keeps its connection, as browsers do, where it may."""

    port: int
    url: str
    """What they ask for, through ``/proxy``."""
    body: bytes
    """What its body is."""
    outcomes: list[Outcome] = field(factory=list)
    _goes_on: bool = True
    _clients: list[Deferred[None]] = field(factory=list)
    _counting: list[tuple[dict[str, int], Deferred[None]]] = field(factory=list)

    def start(self, clients: Iterable[Sequence[str]]) -> None:
        """Have a client for each of these sets of keys, by turns."""
        self._clients = [Deferred.fromCoroutine(self._client(keys)) for keys in clients]

    async def end(self) -> None:
        """Let each finish what it is at."""
        self._goes_on = False
        await soon(gatherResults(self._clients))

    def rounds(self, keys: Iterable[str], number: int = 2) -> Deferred[None]:
        """Fire when each of these keys has been asked for that many times more, from now on."""
        counts = dict.fromkeys(keys, number)
        done: Deferred[None] = Deferred()
        self._counting.append((counts, done))
        return done.addTimeout(PATIENCE, installed())

    async def _client(self, keys: Sequence[str]) -> None:
        wire: Wire | None = None
        while self._goes_on:
            for key in keys:
                if wire is None or wire.closed is not None:
                    wire = await connect(installed(), self.port)
                outcome = await self._ask(wire, key)
                if not outcome.whole:
                    wire.transport.abortConnection()
                    wire = None
                self._take(outcome)
        if wire is not None:
            wire.transport.abortConnection()

    def _take(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        for one in list(self._counting):
            counts, done = one
            if outcome.key in counts:
                counts[outcome.key] -= 1
                if not counts[outcome.key]:
                    del counts[outcome.key]
            if not counts:
                self._counting.remove(one)
                done.callback(None)

    async def _ask(self, wire: Wire, key: str) -> Outcome:
        began = installed().seconds()
        path = f"/proxy?url={quote(self.url, safe='')}"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nTor-Stream-Isolation: {key}\r\n\r\n"
        wire.send(head.encode())
        said: Any = ""
        member, whole = None, False
        try:
            reply = await soon(wire.reply())
        except AssertionError as error:  # the connection ended without an answer
            said = str(error)
        else:
            (member,) = reply.all("Tortxd-Member") or (None,)
            whole = reply.status == 200 and reply.whole and reply.body == self.body
            said = "" if whole else f"{reply.status} {bytes(reply.body[:200])!r}"
        return Outcome(key, began, installed().seconds(), member, whole, said)

    # --- what it has come to ---------------------------------------------------------------------

    def since(self, moment: float) -> list[Outcome]:
        """What was asked from then on."""
        return [one for one in self.outcomes if one.began >= moment]

    def members(self, since: float) -> dict[str, set[str]]:
        """The members that have answered each key since then."""
        found: dict[str, set[str]] = {}
        for one in self.since(since):
            if one.member is not None:
                found.setdefault(one.key, set()).add(one.member)
        return found

    def moved(self, home: Mapping[str, str], since: float) -> set[str]:
        """The keys that another member than that at home has answered since then."""
        return {key for key, found in self.members(since).items() if found != {home[key]}}
