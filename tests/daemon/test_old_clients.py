"""Clients of the gateway that this one replaces work unchanged."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
import json
import shutil
import sys
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue

from tests.daemon.process import Daemon, installed, soon
from tortxd.testing import Origin

PAGE = "http://localhost:8080"
BODY = {"title": "Grüße", "list": [1, 2.5, None, True]}

NODE = r"""
const [gateway, url, body, page] = process.argv.slice(1);
const headers = {'Content-Type': 'application/json', Origin: page};
(async () => {
  const proxy = `${gateway}/proxy?url=${encodeURIComponent(url)}`;
  const asked = {Origin: page, 'Access-Control-Request-Method': 'POST',
                 'Access-Control-Request-Headers': 'content-type'};
  const preflight = await fetch(proxy, {method: 'OPTIONS', headers: asked});
  const answer = await fetch(proxy, {method: 'POST', headers, body});
  console.log(JSON.stringify({
    health: await (await fetch(`${gateway}/health`)).json(),
    verify: await (await fetch(`${gateway}/verify-tor`)).json(),
    preflight: [preflight.status, Object.fromEntries(preflight.headers)],
    ok: answer.ok,
    allowed: answer.headers.get('access-control-allow-origin'),
    answer: await answer.json(),
  }));
})();
"""

PYTHON = r"""
import json, sys
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener
gateway, url, body, page = sys.argv[1:]
fetch = build_opener(ProxyHandler({})).open
proxy = f"{gateway}/proxy?url={quote(url, safe='')}"
asked = {"Origin": page, "Access-Control-Request-Method": "POST",
         "Access-Control-Request-Headers": "content-type"}
preflight = fetch(Request(proxy, method="OPTIONS", headers=asked))
headers = {"Content-Type": "application/json", "Origin": page}
answer = fetch(Request(proxy, method="POST", headers=headers, data=body.encode()))
print(json.dumps({
    "health": json.load(fetch(f"{gateway}/health")),
    "verify": json.load(fetch(f"{gateway}/verify-tor")),
    "preflight": [preflight.status, {k.lower(): v for k, v in preflight.headers.items()}],
    "ok": answer.status == 200,
    "allowed": answer.headers["access-control-allow-origin"],
    "answer": json.load(answer),
}))
"""

CLIENTS = {
    "urllib": (sys.executable, "-c", PYTHON),
    # Node 18 takes the first address of localhost only, and the daemon of the tests has no [::1].
    "fetch": ("node", "--dns-result-order=ipv4first", "-e", NODE),
}


async def talk(client: tuple[str, ...], daemon: Daemon, url: str) -> Any:
    """Let a client ask for what the old ones asked for, and give what it got."""
    program = shutil.which(client[0])
    assert program is not None, f"{client[0]} is not installed"
    words = [f"http://localhost:{daemon.port}", url, json.dumps(BODY), PAGE]
    out, err, status = await soon(
        getProcessOutputAndValue(
            program, [*client[1:], *words], env={}, path="/", reactor=installed()
        )
    )
    assert status == 0, err.decode()
    return json.loads(out)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", CLIENTS)
@ensureDeferred
async def test_an_old_client(daemon: Daemon, tor_origin: Origin, name: str, scheme: str) -> None:
    told = await talk(CLIENTS[name], daemon, getattr(tor_origin, scheme) + "/echo?q=a+b&c=%26")
    assert told["health"]["status"] == "ok"
    assert told["health"]["tor"] == f"socks5h://127.0.0.1:{daemon.socks}"
    assert told["verify"]["isTor"] is True
    assert told["verify"]["exitIp"]
    assert told["verify"]["proxyUrl"] == told["health"]["tor"]
    status, headers = told["preflight"]
    assert status == 204
    assert headers["access-control-allow-origin"] == PAGE
    assert "POST" in headers["access-control-allow-methods"]
    assert "content-type" in headers["access-control-allow-headers"].lower()
    assert told["ok"] is True
    assert told["allowed"] == PAGE
    echoed = told["answer"]
    assert (echoed["method"], echoed["target"]) == ("POST", "/echo?q=a+b&c=%26")
    assert json.loads(base64.b64decode(echoed["body"])) == BODY
    sent = {name.lower(): value for name, value in echoed["headers"]}
    assert sent["content-type"] == "application/json"
    assert "origin" not in sent
