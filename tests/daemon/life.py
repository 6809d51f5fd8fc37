"""A busy life for a daemon: every way in, what succeeds, fails and is refused, and Tor's death."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.process import Daemon, installed, soon
from tests.tor.lone_tor import free_port
from tests.web_client import Reply, Wire
from tests.websocket_server import WebSocketServer
from tortxd.testing import Origin

CANARY = "canary"
KEY = f"Tor-Stream-Isolation: {CANARY}-key"
SOON = "Tortxd-Timeout: 2"
"""For what may never be reached."""
NOWHERE = (502, 504)
"""What is said of that: Tor's own refusal, or that it took too long, as on a busy machine."""


@frozen
class Life:
    """What there is to ask for. Canaries are wherever one can be put."""

    daemon: Daemon
    origin: Origin
    websockets: WebSocketServer
    socks: tuple[str, int]
    """Tor's own SOCKS port."""

    async def until_tor_dies(self, kill_tor: Callable[[], Awaitable[object]]) -> None:
        """Ask before Tor is up, while it is, and when ``kill_tor`` has killed it, which is done
        when the daemon knows."""
        await self.without_tor(200, 404, 503, 504)
        await self.daemon.when_ready()
        await self.everything()
        await kill_tor()
        await self.without_tor(503)

    async def without_tor(self, *statuses: int) -> None:
        """Ask for something by every way in, with little patience."""
        url, hurry = f"{self.origin.http}/{CANARY}", (KEY, "Tortxd-Timeout: 0.2")
        authority = f"{self.origin.names[0]}:{self.origin.http_port}"
        for reply in (
            await self.daemon.fetch(url, *hurry),
            await self.daemon.ask(url, *hurry),
            await self.connect(authority, *hurry),
            await self.daemon.ask("/ip", *hurry),
            await self.daemon.ask("/verify-tor", *hurry),
        ):
            assert reply.status in statuses, reply
            self.check_words(reply)

    async def everything(self) -> None:
        await self.requests()
        await self.tunnels()
        await self.talk()
        await self.own_routes()
        await self.through_socks()

    # --- requests ---------------------------------------------------------------------------------

    def wanted(self) -> dict[str, int]:
        """URLs, and the statuses that they have, by whatever way."""
        origin, host = self.origin, self.origin.names[0]
        return {
            f"{origin.http}/{CANARY}": 404,
            f"{origin.https}/{CANARY}": 404,
            f"{origin.http}/redirect?to=http://{CANARY}.example/": 302,
            f"http://{host}:{free_port()}/{CANARY}": 502,
            f"https://{host}:{free_port()}/{CANARY}": 502,
            f"http://{CANARY}.nowhere.example/": 502,
            f"https://{CANARY}.nowhere.example/": 502,
            f"http://{CANARY}.local/": 403,
            "http://127.0.0.1/": 403,
            "http://[::1]/": 403,
            f"http://user:{CANARY}@{host}/": 403,
            f"ftp://{CANARY}.example/": 403,
            f"{origin.http}/raw?{CANARY}%0D%0A": 502,
            f"{origin.https}/status/500?{CANARY}": 500,
        }

    async def requests(self) -> None:
        """``/proxy`` and absolute-form."""
        token = f"Tortxd-Token: {CANARY}-token"
        for url, status in self.wanted().items():
            for method, body in (("GET", None), ("POST", CANARY.encode())):
                sent = {"method": method, "body": body}
                for reply in (
                    await self.daemon.fetch(url, KEY, token, **sent),
                    await self.daemon.ask(url, KEY, token, host="any.example", **sent),
                ):
                    assert reply.status == status, (url, reply)
                    self.check_words(reply)
        for address in ("93.184.215.14", "[2606:4700:4700::1111]"):
            for reply in (
                await self.daemon.fetch(f"http://{address}/{CANARY}", KEY, SOON),
                await self.daemon.ask(f"https://{address}/{CANARY}", KEY, SOON),
            ):
                assert reply.status in NOWHERE, (address, reply)
                self.check_words(reply)
        marked = mark(CANARY)
        leaving = await self.daemon.get_unread(f"{self.origin.http}/hang?{marked}", KEY)
        await arrivals(self.origin, marked)
        leaving.transport.abortConnection()

    def check_words(self, reply: Reply) -> None:
        """Whether an error of the gateway's own says nothing of the target."""
        if "Tortxd-Error" in reply:
            assert CANARY.encode() not in reply.body
            assert self.origin.names[0].encode() not in reply.body

    # --- tunnels and WebSockets -------------------------------------------------------------------

    async def connect(self, authority: str, *headers: str) -> Reply:
        """The answer to a CONNECT, which is then given up."""
        wire, reply = await self.open(authority, *headers)
        wire.transport.abortConnection()
        return reply

    async def open(self, authority: str, *headers: str) -> tuple[Wire, Reply]:
        """A CONNECT, and its answer."""
        wire = await self.daemon.connect()
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *headers, "", ""]
        wire.send("\r\n".join(lines).encode())
        await soon(wire.when_came(b"\r\n\r\n"))
        # Like that to a HEAD, a tunnel's answer ends with its head.
        is_open = wire.raw.startswith(b"HTTP/1.1 200 ")
        return wire, await soon(wire.reply(b"HEAD" if is_open else b"GET"))

    async def tunnels(self) -> None:
        """CONNECT to names and to addresses of both kinds."""
        host, port = self.origin.names[0], self.origin.http_port
        wire, reply = await self.open(f"{host}:{port}", KEY)
        assert reply.status == 200
        wire.send(f"GET /{CANARY} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await soon(wire.reply())).status == 404
        wire.transport.abortConnection()
        for authority, status in (
            (f"{host}:{free_port()}", 502),
            (f"{CANARY}.nowhere.example:443", 502),
            (f"{CANARY}.local:443", 403),
            ("localhost:443", 403),
            ("10.0.0.1:443", 403),
            ("[fe80::1]:443", 403),
        ):
            reply = await self.connect(authority, KEY)
            assert reply.status == status, (authority, reply)
            self.check_words(reply)
        for authority in ("93.184.215.14:443", "[2606:4700:4700::1111]:443"):
            reply = await self.connect(authority, KEY, SOON)
            assert reply.status in NOWHERE, (authority, reply)

    async def talk(self) -> None:
        """WebSockets by ``/proxy``, in absolute-form and inside CONNECT."""
        for url in (self.websockets.ws, self.websockets.wss):
            await self.say(await self.daemon.connect(), f"/proxy?url={url}/{CANARY}", "localhost")
            await self.say(await self.daemon.connect(), f"{url}/{CANARY}", "any.example")
        authority = self.websockets.ws.removeprefix("ws://")
        wire, _ = await self.open(authority, KEY)
        await self.say(wire, f"/{CANARY}", authority)

    async def say(self, wire: Wire, target: str, host: str) -> None:
        """A handshake, a message, and its echo."""
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", KEY]
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        wire.send("\r\n".join(lines).encode())
        await soon(wire.when_came(b" 101 "))
        message = f"{CANARY} message".encode()
        # A text frame whose mask is all zeros (RFC 6455, section 5.2).
        wire.send(bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message)
        await soon(wire.when_came(message))
        wire.transport.abortConnection()

    # --- what else there is -----------------------------------------------------------------------

    async def own_routes(self) -> None:
        daemon, token = self.daemon, f"Tortxd-Token: {self.daemon.token}"
        for path in ("/ip", "/verify-tor", "/health", "/circuits", "/streams", f"/{CANARY}"):
            assert (await daemon.ask(path, token, KEY)).status in (200, 404), path
        assert (await daemon.ask("*", method="OPTIONS")).status == 200
        for body in (b"", f'{{"isolation": "{CANARY}-key"}}'.encode()):
            kind = "Content-Type: application/json"
            reply = await daemon.ask("/identity/new", token, kind, method="POST", body=body)
            assert reply.status == 200, reply
        rebound = await daemon.ask(f"/health?{CANARY}", host=f"{CANARY}.example")
        assert rebound.status == 403
        strange = await daemon.connect()
        request = f"GET /proxy?url={self.origin.http}/{CANARY} HTTP/1.1\r\n{CANARY}\r\n\r\n"
        strange.send(request.encode())
        assert (await soon(strange.reply())).status == 400

    async def through_socks(self) -> None:
        """Tor's own SOCKS port (RFC 1928), with a name, an address and one that is refused."""
        name = self.origin.names[0].encode()
        for address, came in (
            (b"\x03" + bytes((len(name),)) + name, b"\x05\x00\x00"),
            (b"\x01" + socket.inet_aton("10.0.0.1"), b"\x05"),
        ):
            endpoint = TCP4ClientEndpoint(installed(), *self.socks)
            wire = await connectProtocol(endpoint, Wire())
            wire.send(b"\x05\x01\x00")
            await soon(wire.when_came(b"\x05\x00"))
            wire.raw.clear()
            wire.send(b"\x05\x01\x00" + address + struct.pack(">H", self.origin.http_port))
            await soon(wire.when_came(came))
            wire.transport.abortConnection()
