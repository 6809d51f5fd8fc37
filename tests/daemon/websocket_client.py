"""Somebody else's WebSocket client, as a process."""

from __future__ import annotations

import json

from tests.daemon.process import until
from tests.daemon.programs import run_python
from tests.websocket_server import WebSocketServer

CLIENT = """\
import json, ssl, sys
from websockets.sync.client import connect

uri, proxy, ca_file = sys.argv[1:4]
context = ssl.create_default_context(cafile=ca_file) if uri.startswith("wss:") else None
told = {}
with connect(
    uri, ssl=context, proxy=proxy or None, open_timeout=60, subprotocols=["chat"],
    origin="http://localhost:8000", additional_headers={"Cookie": "canary=1"},
) as socket:
    told["first"] = socket.recv(60)
    told["subprotocol"] = socket.subprotocol
    socket.send("text")
    told["text"] = socket.recv(60)
    big = bytes(range(256)) * 2000
    socket.send(big)
    told["big"] = socket.recv(60) == big
    told["ping"] = socket.ping().wait(60)
    headers = socket.response.headers
    told["headers"] = sorted(name.lower() for name in headers)
json.dump(told, sys.stdout)
"""
"""Speaks to the server, and tells what it was told."""


async def speak(server: WebSocketServer, uri: str, proxy: str = "") -> list[str]:
    """Have a client speak to the server; the names of the headers that answered its handshake."""
    ran = await run_python(CLIENT, uri, proxy, str(server.ca_file))
    assert ran.status == 0, ran.err.decode()
    told = json.loads(ran.out)
    names: list[str] = told.pop("headers")
    assert told == {
        "first": "server first",
        "subprotocol": "chat",
        "text": "text",
        "big": True,
        "ping": True,
    }
    # The client closes properly, and the server hears of it.
    await until(lambda: not server.open)
    return names
