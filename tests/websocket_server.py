"""A WebSocket server for tests, plain and over TLS, in a thread: it sends back what it gets.

It is the PyPI package websockets, so that what our own code and real clients say to it is judged by
somebody else. Handshakes are recorded as it understood them.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tortxd.testing.certificates import issue

CLOSED_WITHIN = 2.0
"""Seconds that a client has to answer the closing handshake."""


@frozen
class Handshake:
    """What a client has asked for."""

    tls: bool
    path: str
    """With the query."""
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Every value of a header, in whatever case it was written."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))


class WebSocketServer:
    """``with WebSocketServer(directory) as server:``, then connect to ``server.ws`` or ``.wss``.

    Parameters: ``directory`` is where its CA's certificate is written, for clients to trust
    (``SSL_CERT_FILE``; :func:`trusted` makes one file of several); ``names`` are those of the
    certificate, and the first is that of the URLs; ``greeting`` is what it says first;
    ``subprotocols`` are those that it speaks.
    """

    def __init__(
        self,
        directory: Path,
        *,
        names: Sequence[str] = ("origin.test.example",),
        address: str = "127.0.0.1",
        greeting: str | bytes | None = None,
        subprotocols: Sequence[str] = (),
    ) -> None:
        self.ca_file = directory / "websocket-ca.pem"
        self.greeting = greeting
        self.handshakes: list[Handshake] = []
        """Every handshake that came, oldest first."""
        self.received: list[str | bytes] = []
        """Every message that came, oldest first."""
        self.open = 0
        """How many connections are open now."""
        self.ports: dict[bool, int] = {}
        """Where it listens, without and with TLS."""
        self._names = tuple(names)
        self._address = address
        self._subprotocols = tuple(subprotocols)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="websockets", daemon=True)
        self._servers: list[Server] = []

    @property
    def ws(self) -> str:
        """The plain URL, without a slash at the end."""
        return f"ws://{self._names[0]}:{self.ports[False]}"

    @property
    def wss(self) -> str:
        """The URL over TLS, without a slash at the end."""
        return f"wss://{self._names[0]}:{self.ports[True]}"

    def __enter__(self) -> WebSocketServer:
        secure = server_context((*self._names, self._address), self.ca_file)
        self._thread.start()
        for tls, context in ((False, None), (True, secure)):
            starting = asyncio.run_coroutine_threadsafe(self._listen(tls, context), self._loop)
            self.ports[tls] = starting.result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, tls: bool, context: ssl.SSLContext | None) -> int:
        async def handler(connection: ServerConnection) -> None:
            await self._serve(connection, tls)

        server = await serve(
            handler,
            self._address,
            0,
            ssl=context,
            select_subprotocol=self._select,
            close_timeout=CLOSED_WITHIN,
        )
        self._servers.append(server)
        port: int = next(iter(server.sockets)).getsockname()[1]
        return port

    def _select(self, _: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        # The library's own way would refuse clients that offer none.
        return next((name for name in offered if name in self._subprotocols), None)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for server in self._servers:
            await server.wait_closed()

    async def _serve(self, connection: ServerConnection, tls: bool) -> None:
        request = connection.request
        assert request is not None
        headers = tuple(request.headers.raw_items())
        self.handshakes.append(Handshake(tls, request.path, headers))
        self.open += 1
        try:
            if self.greeting is not None:
                await connection.send(self.greeting)
            async for message in connection:
                self.received.append(message)
                await connection.send(message)
        except ConnectionClosed:
            pass  # what a client does, it may do
        finally:
            self.open -= 1


def server_context(names: Sequence[str], ca_file: Path) -> ssl.SSLContext:
    """The standard library's TLS settings for a server with these names; see :func:`issue`."""
    issued: Any = issue(names, ca_file).context
    # The standard library reads keys from files alone.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write(issued.privateKey.private_bytes(*form))
        file.write(issued.certificate.public_bytes(Encoding.PEM))
        file.flush()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file.name)
    return context


def trusted(file: Path, *authorities: Path) -> Path:
    """Make one file of several CAs' certificates, for a client that shall trust them all."""
    file.write_bytes(b"".join(authority.read_bytes() for authority in authorities))
    return file
