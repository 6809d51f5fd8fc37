"""What actors do: each act ends in an :class:`~tests.soak.ledger.Outcome`, or in a Violation."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, cast
from urllib.parse import quote

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater

from tests.daemon.process import Daemon, installed
from tests.soak.canaries import Canaries
from tests.soak.destinations import Destinations, body, digest
from tests.soak.ledger import Ledger, Outcome, Violation
from tests.soak.plan import Step
from tests.soak.wires import Lost, SoakWire, dial, frame, messages
from tests.tor.lone_tor import free_port
from tests.web_client import Reply
from tortxd import Config, TorHttpClient
from tortxd.errors import TortxdError

TIMEOUT = 20
"""The daemon's ``--timeout``, in seconds."""
IDLE = 15
"""Its ``--idle-timeout``."""
LATE = 10.0
"""Seconds by which an answer may be late on a busy machine."""
CODES = {
    *("bad_request", "bad_url", "unauthorized", "forbidden_host", "target_forbidden", "not_found"),
    *("method_not_allowed", "request_timeout", "too_large", "not_implemented", "connect_failed"),
    *("connect_refused", "resolve_failed", "exit_policy", "onion_unreachable", "origin_reset"),
    *("bad_response", "tls_failed", "tor_not_ready", "tor_down", "overloaded", "exit_unavailable"),
    *("tor_timeout", "origin_timeout"),
}
"""Those of the contract's table that may come of anything that is done here."""
Doing = Coroutine[Deferred[Any], Any, Outcome]
RIGHT = Outcome()
LEFT = Outcome("left")


@define
class Acts:
    """What there is to do. Canaries are wherever one can be put."""

    daemon: Daemon
    there: Destinations
    canaries: Canaries
    ledger: Ledger
    calm: Callable[[], bool]
    """Whether Tor is one and the same since the step that asks began, or so."""
    library: TorHttpClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        config = Config(f"127.0.0.1:{self.daemon.socks}", timeout=float(TIMEOUT), verify_tls=False)
        self.library = TorHttpClient(config, installed())

    def of(self, step: Step) -> tuple[str, Doing]:
        """Do it; the name of the way in, and what will have come of it."""
        act: Callable[[Step], Doing] = getattr(self, f"do_{step.act}")
        way = step.words.get("way", step.act)
        return (str(way) if step.act == "download" else f"{step.act}"), act(step)

    # --- saying what is wanted --------------------------------------------------------------------

    @property
    def host(self) -> str:
        return self.canaries.host

    def key(self, step: Step) -> str:
        return f"{self.canaries.key}-{step['key']}"

    def url(self, step: Step, path: str, query: str = "") -> str:
        """A URL of the origin, with canaries in it."""
        base = self.there.origin.https if step["scheme"] == "https" else self.there.origin.http
        return f"{base}{path}/{self.canaries.path}?{query}&x={self.canaries.query}"

    def head(
        self, step: Step, url: str, *further: str, method: str = "GET", token: str = ""
    ) -> bytes:
        """A request's head by the step's way."""
        token = token or self.canaries.token
        if step.words.get("way") == "absolute-form":
            user = f"tortxd+{self.key(step)}"
            for name, word in (("exit-country", "country"), ("sticky", "sticky")):
                if word in step.words:
                    user += f";{name}={step[word]}"
            if "retry" in step.words:
                further = (*further, f"Tortxd-Retry: {step['retry']}")
            login = base64.b64encode(f"{user}:{token}".encode()).decode()
            lines = [f"{method} {url} HTTP/1.1", f"Host: {self.host}"]
            lines.append(f"Proxy-Authorization: Basic {login}")
        else:
            lines = [f"{method} /proxy?url={quote(url, safe='')} HTTP/1.1", "Host: localhost:3080"]
            lines += [f"Tortxd-Token: {token}", f"Tor-Stream-Isolation: {self.key(step)}"]
            for name, word in (
                ("Exit-Country", "country"),
                ("Sticky", "sticky"),
                ("Retry", "retry"),
            ):
                if word in step.words:
                    lines.append(f"Tortxd-{name}: {step[word]}")
        return "\r\n".join((*lines, *further, "", "")).encode()

    # --- hearing what came ------------------------------------------------------------------------

    async def dial(self) -> SoakWire:
        try:
            return await dial("127.0.0.1", self.daemon.port)
        except ConnectError as error:
            raise Violation(f"the gateway cannot be connected to: {type(error).__name__}") from None

    async def reply(self, wire: SoakWire, method: str = "GET") -> Reply:
        """The next response. Raises Violation when none begins, or it takes too long."""
        head = installed().callLater(TIMEOUT + LATE, self._is_late, wire)
        try:
            return await wire.reply(method.encode())
        except AssertionError:
            if not wire.raw:
                raise Violation("an empty reply, or none in time") from None
            raise Violation(f"no whole head: {bytes(wire.raw[:60])!r}") from None
        finally:
            if head.active():
                head.cancel()
            wire.transport.abortConnection()

    def _is_late(self, wire: SoakWire) -> None:
        if b"\r\n\r\n" not in wire.raw:
            wire.transport.abortConnection()

    def own(self, reply: Reply, *wanted: str) -> Outcome | None:
        """What an error of the gateway's own says; None: it is the destination's response."""
        if "Tortxd-Error" not in reply:
            return None
        if found := self.canaries.among(reply.body + repr(reply.headers).encode()):
            raise Violation(f"{found} in an error")
        code = reply["Tortxd-Error"]
        if not reply.whole or reply.json["code"] != code or code not in CODES:
            raise Violation(f"an error that is none: {code} {bytes(reply.body)!r}")
        return Outcome("failed", code, wanted=code in wanted)

    def judge(self, step: Step, reply: Reply, expected: bytes, *wanted: str) -> Outcome:
        """Compare a response with the body that it should have."""
        if (own := self.own(reply, *wanted)) is not None:
            return own
        if reply.status != 200:
            raise Violation(f"status {reply.status}")
        self._on_circuit(step, reply)
        if reply.whole:
            if digest(reply.body) != digest(expected):
                raise Violation(
                    f"a whole body of {len(reply.body)} bytes that is another than the "
                    f"{len(expected)} that were sent"
                )
            return RIGHT
        if not expected.startswith(reply.body):
            raise Violation("wrong bytes in a body that broke off")
        return Outcome("failed", "truncated", wanted="truncated" in wanted)

    def _on_circuit(self, step: Step, reply: Reply) -> None:
        if "Tortxd-Circuit" in reply and "key" in step.words and self.calm():
            circuit, key = reply["Tortxd-Circuit"], str(step["key"])
            if other := self.ledger.on_circuit(self.daemon.tor_pid, circuit, key):
                raise Violation(f"keys {key} and {other} share circuit {circuit}")

    # --- requests ---------------------------------------------------------------------------------

    def _wanted(self, step: Step, size: int) -> tuple[str, bytes]:
        framing = step.words.get("framing", "length")
        return f"/soak/{framing}/{step.number}/{size}", body(step.number, size)

    async def do_download(self, step: Step) -> Outcome:
        path, expected = self._wanted(step, cast(int, step["size"]))
        wire = await self.dial()
        wire.send(self.head(step, self.url(step, path)))
        return self.judge(step, await self.reply(wire), expected)

    async def do_slow(self, step: Step) -> Outcome:
        """Read a piece, and then nothing for a while, again and again."""
        path, expected = self._wanted(step, cast(int, step["size"]))
        wire = await self.dial()
        wire.send(self.head(step, self.url(step, path)))
        replying = Deferred.fromCoroutine(self.reply(wire))
        for number in range(cast(int, step["pauses"])):
            try:
                await wire.when_size(1 + number * 50_000)
            except Lost:
                break
            wire.transport.pauseProducing()
            await deferLater(installed(), 1.5)
            if not wire.transport.connected or wire.closed is not None:
                break
            wire.transport.resumeProducing()
        return self.judge(step, await replying, expected)

    async def do_upload(self, step: Step) -> Outcome:
        sent = body(step.number, cast(int, step["size"]))
        chunked = step["framing"] == "chunked"
        lines = ["Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(sent)}"]
        if step["expect"]:
            lines.append("Expect: 100-continue")
        wire = await self.dial()
        url = self.url(step, f"/take/{step.number}")
        wire.send(self.head(step, url, *lines, method="POST"))
        replying = Deferred.fromCoroutine(self.reply(wire, "POST"))
        if step["expect"]:
            try:
                await wire.until(b"\r\n\r\n")
            except Lost:
                return self.judge(step, await replying, b"")
        if not step["expect"] or b" 100 " in wire.raw[:40]:
            pieces = [sent[at : at + 30_000] for at in range(0, len(sent), 30_000)]
            for piece in pieces:
                wire.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                wire.send(b"0\r\n\r\n")
        reply = await replying
        if (own := self.own(reply)) is not None:
            return own
        if not reply.whole:
            return Outcome("failed", "truncated")
        if reply.status != 200 or reply.json != {"length": len(sent), "sha256": digest(sent)}:
            raise Violation(f"an upload arrived otherwise than it was sent: {reply.body!r}")
        return RIGHT

    async def do_library(self, step: Step) -> Outcome:
        path, expected = self._wanted(step, cast(int, step["size"]))
        try:
            client = self.library.isolated(self.key(step) + " of the library")
            # Its own connections in waiting would look like streams that are left.
            response = await client.get(self.url(step, path, "last=1"))
            content = await response.content()
        except TortxdError as error:
            if self.canaries.among(str(error).encode()):
                raise Violation(f"a canary in the library's error: {error.code}") from None
            return Outcome("failed", error.code)
        if response.code != 200 or digest(content) != digest(expected):
            raise Violation(f"the library got {len(content)} other bytes, status {response.code}")
        return RIGHT

    async def do_socks(self, step: Step) -> Outcome:
        """Tor's own SOCKS port (RFC 1928), with no word of tortxd's."""
        path, expected = self._wanted(step, cast(int, step["size"]))
        try:
            wire = await dial("127.0.0.1", self.daemon.socks)
        except ConnectError:
            return Outcome("failed", "tor_down")
        name, port = self.host.encode(), self.there.origin.http_port
        limit = installed().callLater(2 * TIMEOUT + IDLE, wire.transport.abortConnection)
        try:
            wire.send(b"\x05\x01\x00")
            await wire.when_size(2)
            wire.send(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + struct.pack(">H", port))
            await wire.when_size(4)
            if wire.raw[3]:
                return Outcome("failed", "connect_failed")
            await wire.when_size(12)
            wire.skip(12)
            wire.send(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
            reply = await wire.reply()
        except Lost:
            return Outcome("failed", "connect_failed")
        except AssertionError:
            return Outcome("failed", "truncated")
        finally:
            if limit.active():
                limit.cancel()
            wire.transport.abortConnection()
        return self.judge(step, reply, expected)

    # --- tunnels and WebSockets -------------------------------------------------------------------

    async def open(self, step: Step, authority: str) -> tuple[SoakWire, int | Outcome]:
        """A CONNECT; the length of its answer, or what came of it instead."""
        wire = await self.dial()
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        lines += [f"Proxy-Authorization: Bearer {self.canaries.token}"]
        lines += [f"Tor-Stream-Isolation: {self.key(step)}", "", ""]
        wire.send("\r\n".join(lines).encode())
        late = installed().callLater(TIMEOUT + LATE, self._is_late, wire)
        try:
            await wire.until(b"\r\n\r\n")
        except Lost:
            raise Violation("an empty reply to CONNECT, or none in time") from None
        finally:
            if late.active():
                late.cancel()
        if wire.raw.startswith(b"HTTP/1.1 200 "):
            return wire, wire.raw.index(b"\r\n\r\n") + 4
        outcome = self.own(await self.reply(wire))
        if outcome is None:
            raise Violation(f"an answer to CONNECT that is none: {bytes(wire.raw)!r}")
        return wire, outcome

    async def do_tunnel(self, step: Step) -> Outcome:
        within_tls = step["inside"] == "tls"
        port = self.there.origin.https_port if within_tls else self.there.echo_port
        wire, opened = await self.open(step, f"{self.host}:{port}")
        if isinstance(opened, Outcome):
            return opened
        limit = installed().callLater(4 * TIMEOUT, wire.transport.abortConnection)
        try:
            if within_tls:
                return await self._inside_tls(step, wire, opened)
            sent = body(step.number, cast(int, step["size"]))
            wire.send(sent)
            try:
                await wire.when_size(opened + len(sent))
            except Lost:
                if not sent.startswith(wire.raw[opened:]):
                    raise Violation("wrong bytes in a tunnel that broke off") from None
                return Outcome("failed", "truncated")
            if digest(wire.raw[opened:]) != digest(sent):
                raise Violation("wrong bytes in a tunnel")
            return RIGHT
        finally:
            if limit.active():
                limit.cancel()
            wire.transport.abortConnection()

    async def _inside_tls(self, step: Step, wire: SoakWire, opened: int) -> Outcome:
        path, expected = self._wanted(step, cast(int, step["size"]))
        wire.skip(opened)
        wire.transport.startTLS(self.there.tls(self.host))
        lines = f"GET {path}/{self.canaries.path} HTTP/1.1", f"Host: {self.host}", "", ""
        wire.send("\r\n".join(lines).encode())
        try:
            reply = await wire.reply()
        except AssertionError:
            return Outcome("failed", "truncated")
        return self.judge(step, reply, expected)

    async def do_websocket(self, step: Step) -> Outcome:
        secure = step["scheme"] == "wss" and step["way"] != "connect"
        uri = self.there.websockets.wss if secure else self.there.websockets.ws
        target = f"{uri}/{self.canaries.path}?x={self.canaries.query}"
        ask = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        ask += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        start = 0
        if step["way"] == "connect":
            wire, opened = await self.open(step, uri.partition("//")[2])
            if isinstance(opened, Outcome):
                return opened
            start = opened
            lines = [f"GET /{self.canaries.path} HTTP/1.1", f"Host: {self.host}", *ask, "", ""]
            wire.send("\r\n".join(lines).encode())
        else:
            wire = await self.dial()
            wire.send(self.head(step, target, *ask))
        limit = installed().callLater(4 * TIMEOUT, wire.transport.abortConnection)
        try:
            return await self._converse(step, wire, start)
        finally:
            if limit.active():
                limit.cancel()
            wire.transport.abortConnection()

    async def _converse(self, step: Step, wire: SoakWire, start: int) -> Outcome:
        in_tunnel = step["way"] == "connect"
        try:
            await wire.until(b"\r\n\r\n", start)
        except Lost:
            if in_tunnel:
                return Outcome("failed", "truncated")
            raise Violation("an empty reply to a handshake, or none in time") from None
        if not wire.raw[start:].startswith(b"HTTP/1.1 101 "):
            outcome = self.own(await self.reply(wire))
            if outcome is None:
                raise Violation(f"a handshake is answered with {bytes(wire.raw[start:])!r}")
            return outcome
        start = wire.raw.index(b"\r\n\r\n", start) + 4
        count = cast(int, step["messages"])
        sent = [body(step.number * 10 + n, cast(int, step["size"])) for n in range(count)]
        came: list[bytes] = []
        try:
            for number, message in enumerate(sent):
                wire.send(frame(2, message))
                while len(came := messages(bytes(wire.raw[start:]))) <= number:
                    await wire.when_size(len(wire.raw) + 1)
        except Lost:
            if came != sent[: len(came)]:
                raise Violation("other messages than were sent") from None
            return Outcome("failed", "truncated")
        if came != sent:
            raise Violation("other messages than were sent")
        wire.send(frame(8))
        return RIGHT

    # --- those who do not behave ------------------------------------------------------------------

    async def do_leave(self, step: Step) -> Outcome:
        """Go away in some phase of a request."""
        phase = step["phase"]
        path, _ = self._wanted(step, 1_000_000)
        if phase == "tunnel":
            wire, opened = await self.open(step, f"{self.host}:{self.there.echo_port}")
            if isinstance(opened, Outcome):
                return opened
            wire.send(body(step.number, 100_000))
        else:
            wire = await self.dial()
        head = self.head(step, self.url(step, path))
        if phase == "half-head":
            wire.send(head[: len(head) // 2])
        elif phase == "uploading":
            url = self.url(step, f"/hang/{step.number}")
            wire.send(self.head(step, url, "Content-Length: 900000", method="POST"))
            wire.send(bytes(200_000))
        elif phase in ("asked", "answered"):
            wire.send(head)
        late = installed().callLater(TIMEOUT + LATE, self._is_late, wire)
        try:
            if phase == "answered":
                await wire.when_size(1)
            else:
                await deferLater(installed(), 0.1 + step.number % 7 / 10)
        except Lost:
            raise Violation("an empty reply, or none in time") from None
        finally:
            if late.active():
                late.cancel()
            wire.transport.abortConnection()
        return LEFT

    async def do_broken(self, step: Step) -> Outcome:
        """Ask for what the destination breaks."""
        how, further = step["how"], ["Tortxd-Timeout: 3"] if step["how"] == "hang" else []
        expected = body(step.number, 100_000)
        wanted: tuple[str, ...] = ("truncated",)
        url = self.url(step, f"/soak/length/{step.number}/100000", "cut=40000")
        if how == "cut-chunked":
            url = self.url(step, f"/soak/chunked/{step.number}/100000", "cut=40000")
        elif how == "reset":
            url, expected = self.url(step, "/reset"), body(0, 100_000)[3:]
            wanted = ("truncated", "origin_reset")
        elif how == "hang":
            url, wanted = self.url(step, "/hang"), ("origin_timeout", "tor_timeout")
        elif how == "raw":
            url, wanted = self.url(step, "/raw"), ("bad_response",)
        elif how == "refused":
            url = f"http://{self.host}:{free_port()}/{self.canaries.path}"
            wanted = ("connect_refused", "connect_failed")
        wire = await self.dial()
        wire.send(self.head(step, url, *further))
        outcome = self.judge(step, await self.reply(wire), expected, *wanted)
        if outcome.kind == "right":
            raise Violation("a destination that breaks off gave a whole body")
        return outcome

    async def do_garbage(self, step: Step) -> Outcome:
        """Send what is no request, or none that may be served."""
        what, noise = step["what"], Random(str(step["noise"]))
        url = f"http://{self.host}/{self.canaries.path}"
        token = f"Tortxd-Token: {self.canaries.token}"
        local = "Host: localhost", token
        proxy = f"/proxy?url={url}"
        wrong_token = f"Tortxd-Token: {self.canaries.wrong_token}"
        lines: Sequence[str] = {
            "no-host": ("GET /health HTTP/1.1", token),
            "two-lengths": (
                *(f"POST {proxy} HTTP/1.1", *local, "Content-Length: 1", "Content-Length: 2"),
            ),
            "bad-url": (f"GET /proxy?url=http://{self.canaries.path}:0x/ HTTP/1.1", *local),
            "forbidden": (f"GET /proxy?url=http://127.0.0.1/{self.canaries.path} HTTP/1.1", *local),
            "parameter": (f"GET {proxy}&a=%00&{self.canaries.query} HTTP/1.1", *local),
            "no-token": (f"GET {proxy} HTTP/1.1", "Host: localhost"),
            "wrong-token": (f"GET {proxy} HTTP/1.1", "Host: localhost", wrong_token),
        }.get(str(what), ())
        data = "\r\n".join((*lines, "", "")).encode()
        if what == "noise":
            data = noise.randbytes(300) + f"{self.canaries.query}\r\n\r\n".encode()
        elif what == "tls":
            data = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise.randbytes(506)
        wire = await self.dial()
        wire.send(data)
        outcome = self.own(await self.reply(wire))
        if outcome is None:
            raise Violation("garbage that is no error")
        return Outcome("failed", outcome.code, wanted=True)

    # --- operators --------------------------------------------------------------------------------

    async def ask(
        self, path: str, *further: str, method: str = "GET", data: bytes | None = None
    ) -> tuple[Reply, SoakWire]:
        """Ask the gateway itself, as an operator."""
        wire = await self.dial()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"Tortxd-Token: {self.daemon.token}", *further]
        if data is not None:
            lines += [f"Content-Length: {len(data)}", "Content-Type: application/json"]
        wire.send("\r\n".join((*lines, "", "")).encode() + (data or b""))
        return await self.reply(wire, method), wire

    async def do_page(self, step: Step) -> Outcome:
        path = str(step["path"])
        reply, wire = await self.ask(path)
        if found := self.canaries.among(wire.raw, streams=path == "/streams"):
            raise Violation(f"{found} in the answer to {path}")
        if not reply.whole:
            raise Violation(f"half an answer to {path}")
        if "Tortxd-Error" in reply:
            return cast(Outcome, self.own(reply))
        if path == "/health":
            return RIGHT if reply.status == 200 else Outcome("failed", "tor_not_ready")
        if reply.status != 200:
            raise Violation(f"status {reply.status} of {path}")
        return RIGHT

    async def do_events(self, step: Step) -> Outcome:
        """Read events for a while, or do not read them."""
        wire = await self.dial()
        lines = ["GET /events HTTP/1.1", "Host: localhost", f"Tortxd-Token: {self.daemon.token}"]
        wire.send("\r\n".join((*lines, "", "")).encode())
        if not step["reads"]:
            wire.transport.pauseProducing()
        await deferLater(installed(), cast(float, step["seconds"]))
        if wire.transport.connected:
            wire.transport.resumeProducing()
        wire.transport.abortConnection()
        if step["reads"] and not wire.raw.startswith(b"HTTP/1.1 200 "):
            if b"Tortxd-Error: overloaded" in wire.raw:
                return Outcome("failed", "overloaded")
            raise Violation(f"no events: {bytes(wire.raw[:80])!r}")
        if found := self.canaries.among(wire.raw, streams=True):
            raise Violation(f"{found} in the events")
        return RIGHT

    async def do_identity(self, step: Step) -> Outcome:
        data = b""
        if step["key"] != "all":
            data = json.dumps({"isolation": self.key(step)}).encode()
        reply, _ = await self.ask("/identity/new", method="POST", data=data)
        if (own := self.own(reply)) is not None:
            return own
        if reply.status != 200 or reply.json["renewed"] not in ("all", "key"):
            raise Violation(f"a new identity is answered with {reply.status}")
        return RIGHT

    async def do_close(self, step: Step) -> Outcome:
        """Close the circuit of a download of one's own, or its stream."""
        own = Step(step.number, step.at, step.actor, step.act, _OWN | {"key": f"c{step.number}"})
        path, expected = self._wanted(own, 8_000_000)
        wire = await self.dial()
        wire.send(self.head(own, self.url(own, path)))
        replying = Deferred.fromCoroutine(self.reply(wire))
        try:
            await wire.when_size(20_000)
        except Lost:
            return self.judge(own, await replying, expected)
        wire.transport.pauseProducing()  # so that it lasts
        head, _, _ = bytes(wire.raw).partition(b"\r\n\r\n")
        circuit = next(
            (line[16:] for line in head.decode().split("\r\n") if line[:15] == "Tortxd-Circuit:"),
            None,
        )
        try:
            if circuit is not None:
                await self._close(step, circuit)
        finally:
            if wire.closed is None:
                wire.transport.resumeProducing()
        return self.judge(own, await replying, expected, "truncated")

    async def _close(self, step: Step, circuit: str) -> None:
        path = f"/circuits/{circuit}/close"
        if step["what"] == "stream":
            reply, _ = await self.ask("/streams")
            streams: list[Any] = [] if self.own(reply) else reply.json["streams"]
            mine = [one["id"] for one in streams if one["circuit"] == circuit]
            if not mine:
                return
            path = f"/streams/{mine[0]}/close"
        reply, _ = await self.ask(path, method="POST")
        if reply.status not in (200, 404):
            self.own(reply)


_OWN: dict[str, object] = {"way": "proxy", "scheme": "http", "framing": "chunked"}
