"""One setting while it is there, and the gateways that run in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from bench.load import Target
from bench.peers import Peer
from bench.settings import Behind


class World:
    """What lies behind, and who has been started before it."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind
        self._running: dict[str, Target] = {}
        self._stack = ExitStack()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def kept(self, peer: Peer) -> Target:
        """The peer, which goes on running until the end."""
        if peer.key not in self._running:
            self._running[peer.key] = self._stack.enter_context(peer.start(self.behind))
        return self._running[peer.key]

    def anew(self, peer: Peer) -> AbstractContextManager[Target]:
        """Another one of its kind, as it is at its start."""
        return peer.start(self.behind)
