"""Those who read ``/events`` while something else is measured."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

from bench.load import Target
from bench.processes import ProcessError

_PATIENCE = 30.0
_BLOCK = 256 * 1024


class Readers:
    """Takes what comes for each, in a thread of its own, and counts it."""

    def __init__(self) -> None:
        self.received = 0
        """Bytes of all of them together."""
        self.problem: str | None = None
        self._selector = selectors.DefaultSelector()

    def add(self, one: socket.socket) -> None:
        """Read this one, too."""
        self._selector.register(one, selectors.EVENT_READ)

    def run(self, until: socket.socket) -> None:
        """Read until there is something to read at ``until``, and what has come by then."""
        self._selector.register(until, selectors.EVENT_READ)
        goes_on = True
        while goes_on:
            for key, _ in self._selector.select():
                if key.fileobj is until:
                    goes_on = False
                    continue
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(_BLOCK)
                self.received += len(data)
                if not data:
                    self.problem = "A reader of /events was sent away"
                    self._selector.unregister(key.fileobj)


@contextmanager
def reading(target: Target, token: str, number: int) -> Iterator[Readers]:
    """Have so many read, from now to the end of the block.

    :param token: the operators'.
    :raises ProcessError: one is not let in, or was sent away.
    """
    readers = Readers()
    with ExitStack() as stack:
        for _ in range(number):
            one = stack.enter_context(
                socket.create_connection((target.host, target.port), _PATIENCE)
            )
            _ask(one, token)
            readers.add(one)
        end, ended = (stack.enter_context(each) for each in socket.socketpair())
        thread = Thread(target=readers.run, args=(ended,))
        thread.start()
        try:
            yield readers
        finally:
            end.send(b".")
            thread.join()
    if readers.problem is not None:
        raise ProcessError(readers.problem)


def _ask(one: socket.socket, token: str) -> None:
    head = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    one.sendall(head.encode())
    answer = one.recv(_BLOCK)
    if not answer.startswith(b"HTTP/1.1 200"):
        line = answer.partition(b"\r\n")[0].decode("latin-1")
        raise ProcessError(f"A reader of /events is answered: {line}")
