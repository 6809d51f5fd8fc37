"""What a client sends ahead of its turn (RFC 9112, section 9.3.2)."""

from __future__ import annotations

from collections.abc import Callable

MAX_PIPELINED = 64 * 1024
"""Bytes that a client may send ahead of their turn."""


class Pipelined:
    """Bytes that wait for the request before them to be answered."""

    def __init__(self) -> None:
        self._data = b""
        self._serving = False

    def __len__(self) -> int:
        return len(self._data)

    @property
    def is_full(self) -> bool:
        """Whether the client is not to be read until its turn comes."""
        return len(self._data) > MAX_PIPELINED

    def hold(self, data: bytes) -> None:
        """Keep ``data``, behind what there is."""
        self._data += data

    def take(self) -> bytes:
        """All there is."""
        data, self._data = self._data, b""
        return data

    def serve(self, receive: Callable[[bytes], None], may_go_on: Callable[[], bool]) -> None:
        """Give it to ``receive`` as long as ``may_go_on``. What is held meanwhile, while a request
        is answered at once, comes next, and takes no deeper call."""
        if self._serving:
            return
        self._serving = True
        while self._data and may_go_on():
            receive(self.take())
        self._serving = False
