"""Who may ask the daemon, and for what: the rules on Host, Origin, open proxies, targets and
parameters."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

from pytest_twisted import ensureDeferred

from tests.daemon.arrivals import arrivals, arrived, mark
from tests.daemon.process import Daemon, Launcher
from tests.daemon.programs import run_program
from tests.tor.lone_tor import free_port
from tortxd.testing import Origin

FOREIGN = "http://evil.example"
ALLOWED = "http://localhost:8000"


# --- who may ask ----------------------------------------------------------------------------------


@ensureDeferred
async def test_rule_02_a_rebound_name_reaches_nothing(daemon: Daemon, tor_origin: Origin) -> None:
    """A page whose own name resolves to this machine sends that name as its Host."""
    marked = mark("canary")
    url = quote(f"{tor_origin.http}/{marked}", safe="")
    for path in ("/health", "/ip", "/circuits", "/", f"/proxy?url={url}"):
        for host in ("evil.example", "evil.example:3080", "localhost.evil.example", "127.0.0.1.x"):
            reply = await daemon.ask(path, host=host)
            assert (reply.status, reply.json["code"]) == (403, "forbidden_host"), (path, host)
        assert (await daemon.say(f"GET {path} HTTP/1.1\r\n\r\n")).status == 400
        doubled = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
        assert (await daemon.say(doubled)).status == 400
    for host in ("localhost", "127.0.0.1:1", "127.99.0.3", "[::1]:3080", "LOCALHOST"):
        assert (await daemon.ask("/health", host=host)).status == 200
    assert not arrived(tor_origin, marked)


@ensureDeferred
async def test_rule_04_other_sites_reach_nothing(daemon: Daemon, tor_origin: Origin) -> None:
    """Whatever a page makes a browser send: fetches, forms, images, frames."""
    marked = mark("canary")
    url = quote(f"{tor_origin.http}/{marked}", safe="")
    tainted = [
        (f"Origin: {FOREIGN}",),
        ("Origin: null",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
        ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
        (f"Origin: {FOREIGN}", "Access-Control-Request-Method: PUT"),
    ]
    for path in ("/health", "/ip", "/identity/new", "/circuits", f"/proxy?url={url}"):
        for headers in tainted:
            for method in ("GET", "POST", "OPTIONS"):
                reply = await daemon.ask(path, *headers, method=method, body=b"")
                assert (reply.status, reply.json["code"]) == (403, "forbidden_origin")
                assert "Access-Control-Allow-Origin" not in reply
    assert not arrived(tor_origin, marked)


@ensureDeferred
async def test_rule_04_allowed_pages_reach_what_is_for_clients(
    daemon: Daemon, tor_origin: Origin
) -> None:
    page = f"Origin: {ALLOWED}"
    reply = await daemon.fetch(tor_origin.http + "/", page, "Sec-Fetch-Site: same-site")
    assert reply.status == 200
    assert reply["Access-Control-Allow-Origin"] == ALLOWED
    assert {"Tortxd-Exit", "Tortxd-Error"} <= set(
        reply["Access-Control-Expose-Headers"].split(", ")
    )
    asked = ("Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: tortxd-token")
    preflight = await daemon.fetch(tor_origin.http + "/", page, *asked, method="OPTIONS")
    assert (preflight.status, preflight["Access-Control-Allow-Methods"]) == (204, "PATCH")
    for path in ("/circuits", "/streams"):
        token = f"Tortxd-Token: {daemon.token}"
        assert (await daemon.ask(path, page, token)).status == 403
        assert (await daemon.ask(path, page, *asked, method="OPTIONS")).status == 403


@ensureDeferred
async def test_rule_11_an_open_proxy_needs_to_be_asked_for(
    launch: Launcher, tmp_path: Path
) -> None:
    ports = {free_port(): "0.0.0.0", free_port(): "\\:\\:"}
    endpoints = [f"--http=tcp:{port}:interface={ports[port]}" for port in ports]
    for refused in [launch(endpoint) for endpoint in endpoints]:
        assert await refused.when_ended() > 0
        assert "--token-file" in refused.lines[-1]
    token = tmp_path / "token"
    token.write_text("canary-token\n")
    served = launch(*endpoints, f"--token-file={token}")
    await served.when_listening()
    for port in ports:
        served.port = port
        assert (await served.ask("/health")).status == 401
        assert (await served.ask("/health", "Tortxd-Token: canary-token")).status in (200, 503)


# --- what may be asked for ------------------------------------------------------------------------

FORBIDDEN = [
    "http://127.0.0.1/",
    "http://localhost:3080/circuits",
    "http://LOCALHOST./",
    "http://0/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1%25lo]/",
    "http://[fd00::1]/",
    "http://１２７.0.0.1/",
    "http://printer/",
    "http://printer.local/",
    "http://router.lan/",
    "http://ROUTER.Lan./",
    "http://router。ｌan/",
    "http://wiki.corp/",
    "http://nas.home.arpa/",
    "http://db.internal/",
    "http://app.test/",
    "http://nothing.invalid/",
    "http://www.example.exit/",
    "http://user:secret@www.example/",
    "http://www.example%2f@evil.example/",
    "http://www.example:0/",
    "http://www.example:65536/",
    "ftp://www.example/",
    "file:///etc/passwd",
    "ws://www.example/",
]
MALFORMED = [
    "http:///www.example/",
    "http:\\\\www.example/",
    "http://www.exa\tmple/",
    "http://www.example\r\nX: 1/",
    "//www.example/",
    "www.example",
    "http://",
]


async def stream_number(daemon: Daemon, origin: Origin) -> int:
    """The number of a stream that is opened now; Tor counts them."""
    marked = mark("canary")
    url = f"{origin.http}/hang?{marked}"
    wire = await daemon.get_unread(url, "Tor-Stream-Isolation: canary")
    await arrivals(origin, marked)
    streams = (await daemon.told("/streams"))["streams"]
    wire.transport.abortConnection()
    return max(int(stream["id"]) for stream in streams)


@ensureDeferred
async def test_rule_03_forbidden_targets(daemon: Daemon, tor_origin: Origin) -> None:
    """In ``url`` and in proxy mode; Tor hears of none."""
    before = await stream_number(daemon, tor_origin)
    asked = 0
    for url in FORBIDDEN + MALFORMED:
        reply = await daemon.fetch(url)
        expected = (403, "target_forbidden") if url in FORBIDDEN else (400, "bad_url")
        assert (reply.status, reply.json["code"]) == expected, url
        asked += 1
        scheme, _, rest = url.partition("://")
        authority = rest.partition("/")[0]
        if scheme != "http" or url in MALFORMED or not url.isascii():
            continue
        absolute = await daemon.say(f"GET {url} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
        assert absolute.status == 403, url
        port = "" if authority.rpartition("]")[2].rpartition(":")[1] else ":80"
        tunnel = await daemon.say(f"CONNECT {authority}{port} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert tunnel.status == 403, url
        asked += 2
    # Tor opens a few streams for itself.
    assert await stream_number(daemon, tor_origin) - before < asked / 4


@ensureDeferred
async def test_rule_03_redirects_lead_nowhere_else(daemon: Daemon, tor_origin: Origin) -> None:
    for to in (
        *("http://127.0.0.1:3080/circuits", "http://10.0.0.1/", "http://[::1]/", "file:///x"),
        *("http://router.lan/", "//wiki.corp/", "http://nas.home.arpa./", "http://APP.test/"),
    ):
        reply = await daemon.fetch(f"{tor_origin.http}/redirect?to={quote(to, safe='')}")
        assert reply.status == 302
        followed = await daemon.ask(reply["Location"])
        assert (followed.status, followed.json["code"]) == (403, "target_forbidden")


@ensureDeferred
async def test_rule_03_local_names_are_for_aliases(launch: Launcher, tor_origin: Origin) -> None:
    """Nobody else can say what they stand for, and the error says that an alias can."""
    daemon = launch(f"--alias=router.lan=origin.test.example:{tor_origin.http_port}")
    await daemon.when_ready()
    marked = mark("alias")
    reply = await daemon.fetch(f"http://ROUTER.lan./echo?{marked}")
    assert (reply.status, len(arrived(tor_origin, marked))) == (200, 1)
    for other in ("http://printer.lan/", "http://router.test/", "http://x.router.lan/"):
        refused = await daemon.fetch(other)
        assert (refused.status, refused.json["code"]) == (403, "target_forbidden")
        assert "--alias" in refused.json["error"]
        assert other.split("/")[2] not in refused.json["error"]


@ensureDeferred
async def test_rule_08_the_target_comes_from_the_query_alone(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """With curl, as the rule has it."""
    url = quote(tor_origin.http + "/echo", safe="")
    ran = await run_program(
        "curl",
        *("-q", "-sS", "--max-time", "30", "-d", "url=http://b.example/"),
        f"http://127.0.0.1:{daemon.port}/proxy?url={url}",
    )
    told = json.loads(ran.out)
    assert told["target"] == "/echo"
    assert base64.b64decode(told["body"]) == b"url=http://b.example/"
    for twice in (f"?url={url}&url={url}", f"?url={url}&u%72l=x"):
        assert (await daemon.ask("/proxy" + twice)).json["code"] == "bad_request"
    missing = await daemon.ask("/proxy", method="POST", body=b"url=http://b.example/")
    assert missing.json["error"] == "Missing url query parameter"
