"""The gateway as an HTTP proxy for curl, requests and pip, on real circuits."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from collections import deque
from email.parser import BytesParser
from io import BytesIO
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.daemon.arrivals import arrived, mark
from tests.daemon.process import PATIENCE, Daemon, installed
from tests.daemon.programs import Ran, curl, proxied, run_program, run_python
from tests.tor.lone_tor import free_port
from tortxd.testing import Canned, Origin, PrivateNetwork, pattern

MEGABYTE = 1_000_000
BODY = bytes(range(256)) * 300 + b"\r\n\r\n0\r\n\r\n"

# How curl ends (curl(1), "Exit codes").
PARTIAL_FILE = 18
HTTP_ERROR = 22
RECEIVE_ERROR = 56

SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])
HOWEVER = pytest.mark.parametrize(
    ("scheme", "options"),
    [("http", ()), ("http", ("--proxytunnel",)), ("https", ())],
    ids=["absolute-form", "http in CONNECT", "https in CONNECT"],
)


def whole(ran: Ran) -> bytes:
    """What curl was sent, if all was well."""
    assert ran.status == 0, ran
    return ran.out


# --- curl -----------------------------------------------------------------------------------------


@HOWEVER
@ensureDeferred
async def test_get_post_head_and_404(
    daemon: Daemon, tor_origin: Origin, scheme: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    url, trust = getattr(tor_origin, scheme), tor_origin.ca_file
    body = tmp_path / "body"
    body.write_bytes(BODY)
    got = json.loads(whole(await curl(daemon.port, *options, f"{url}/echo?a=%2F", trust=trust)))
    assert (got["method"], got["target"], got["length"]) == ("GET", "/echo?a=%2F", 0)
    assert not [name for name, _ in got["headers"] if name.lower().startswith(("proxy-", "via"))]
    sent = ("--data-binary", f"@{body}", f"{url}/upload")
    told = json.loads(whole(await curl(daemon.port, *options, *sent, trust=trust)))
    assert told == {"length": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    head = whole(await curl(daemon.port, *options, "-I", f"{url}/bytes/12345", trust=trust))
    assert b"Content-Length: 12345\r\n" in head
    # A body that says 404 is the destination's, and is no error of the proxy's.
    code = ("-w", "%{http_code}", f"{url}/status/404")
    assert whole(await curl(daemon.port, *options, *code, trust=trust)) == b"404\n404"
    failing = await curl(daemon.port, *options, "-f", f"{url}/status/404", trust=trust)
    assert failing.status == HTTP_ERROR
    assert tor_origin.requests[-1].tls is (scheme == "https")


@SCHEMES
@ensureDeferred
async def test_a_large_download(daemon: Daemon, tor_origin: Origin, scheme: str) -> None:
    """Rule 15: all of its bytes, whether its end is said, chunked, or the connection's."""
    size = 2 * MEGABYTE
    expected = hashlib.sha256(pattern(size)).hexdigest()
    for route in ("bytes", "chunked", "close"):
        url = f"{getattr(tor_origin, scheme)}/{route}/{size}"
        body = whole(await curl(daemon.port, url, trust=tor_origin.ca_file))
        assert hashlib.sha256(body).hexdigest() == expected, route


@HOWEVER
@pytest.mark.parametrize("route", ["bytes", "chunked", "close"])
@ensureDeferred
async def test_rule_14_truncation_shows(
    daemon: Daemon, tor_origin: Origin, scheme: str, options: tuple[str, ...], route: str
) -> None:
    """curl knows that something is missing, even where the destination was reset without a word on
    how long its body is."""
    # Where the end of the connection is the end of the body, a FIN is a proper end.
    ending = "abort" if route == "close" else "close"
    url = f"{getattr(tor_origin, scheme)}/{route}/300000?cut=150000&ending={ending}"
    ran = await curl(daemon.port, *options, url, trust=tor_origin.ca_file)
    assert ran.status in (PARTIAL_FILE, RECEIVE_ERROR), ran.err
    assert ran.out == pattern(300_000)[: len(ran.out)]


@HOWEVER
@ensureDeferred
async def test_rule_09_a_key_beside_the_proxy_decides_who_shares_a_circuit(
    daemon: Daemon,
    tor_network: PrivateNetwork,
    tor_origin: Origin,
    scheme: str,
    options: tuple[str, ...],
) -> None:
    """Two keys that come as ``--proxy-user tortxd+KEY:`` never share a circuit; requests with one
    of them may, and need not."""
    found: dict[str, set[str]] = {"alice canary": set(), "bob canary": set()}
    told: set[str] = set()
    deadline = installed().seconds() + PATIENCE
    keys = deque([*found] * 2)
    while keys:
        key = keys.popleft()
        user = ("--proxy-user", f"tortxd+{key}:", "-D", "-")
        url = f"{getattr(tor_origin, scheme)}/ip"
        raw = whole(await curl(daemon.port, *options, *user, url, trust=tor_origin.ca_file))
        first, _, rest = raw.partition(b"\r\n\r\n")
        headers = BytesParser().parsebytes(first.partition(b"\r\n")[2])
        ip = json.loads(rest.rpartition(b"\r\n\r\n")[2] or rest)["ip"]
        # What the control port has not told yet is left out, and asked again; what is told is true.
        if "Tortxd-Exit-Address" in headers:
            told.add(key)
            assert headers["Tortxd-Exit-Address"] == ip
        if "Tortxd-Circuit" in headers:
            found[key].add(headers["Tortxd-Circuit"])
        else:
            keys.append(key)
        assert installed().seconds() < deadline
    alice, bob = found.values()
    assert alice.isdisjoint(bob)
    assert told


# --- what curl is told when there is nothing ------------------------------------------------------


def told_of(ran: Ran) -> tuple[int, str]:
    """The status that curl saw, the tunnel's or the response's, and the code in the body."""
    connect, status = ran.out.rsplit(b"\n", 1)[1].split()
    headers = BytesParser().parsebytes(ran.out.partition(b"\r\n")[2])
    return int(connect) or int(status), str(headers["Tortxd-Error"])


@pytest.mark.parametrize("tunnel", [False, True], ids=["absolute-form", "CONNECT"])
@pytest.mark.parametrize(
    ("authority", "status", "codes"),
    [
        ("canary.nowhere.example", 502, ("resolve_failed",)),
        # The exits of tor 0.4.9 say MISC where the kernel refuses at once, as on loopback.
        ("origin.test.example:{closed}", 502, ("connect_refused", "connect_failed")),
        ("localhost", 403, ("target_forbidden",)),
        ("10.0.0.1", 403, ("target_forbidden",)),
        ("127.1", 403, ("target_forbidden",)),
        ("[::1]:8080", 403, ("target_forbidden",)),
        ("printer.local", 403, ("target_forbidden",)),
        ("{gateway}", 403, ("target_forbidden",)),
    ],
)
@ensureDeferred
async def test_rule_03_where_nothing_leads(
    daemon: Daemon, authority: str, status: int, codes: tuple[str, ...], tunnel: bool
) -> None:
    """Forbidden targets are refused in CONNECT and absolute-form alike; and what cannot be reached
    is an error that curl shows with its status."""
    authority = authority.format(closed=free_port(), gateway=f"127.0.0.1:{daemon.port}")
    options = ("--proxytunnel",) if tunnel else ()
    asked = ("-D", "-", "-w", "\n%{http_connect} %{http_code}", f"http://{authority}/canary")
    ran = await curl(daemon.port, *options, *asked)
    told, code = told_of(ran)
    assert told == status, ran
    assert code in codes
    assert b"canary" not in ran.out
    if tunnel:
        assert ran.status == RECEIVE_ERROR
        assert f"response {status}".encode() in ran.err
    else:
        assert ran.status == 0
        failing = await curl(daemon.port, "-f", f"http://{authority}/canary")
        assert failing.status == HTTP_ERROR


# --- requests -------------------------------------------------------------------------------------

REQUESTS = """\
import hashlib, json, sys
import requests
session, told = requests.Session(), []
mark, *urls = sys.argv[1:]
for url in urls:
    reply = session.get(f"{url}/bytes/500000?{mark}", timeout=60)
    posted = session.post(f"{url}/echo?{mark}", json={"a": 1}, timeout=60)
    missing = session.get(f"{url}/status/404?{mark}", timeout=60)
    told.append([
        hashlib.sha256(reply.content).hexdigest(), posted.json()["body"], missing.status_code,
    ])
try:
    session.get("https://canary.nowhere.example/", timeout=60)
except requests.exceptions.ProxyError as error:
    told.append(str(error))
json.dump(told, sys.stdout)
"""


@ensureDeferred
async def test_requests(daemon: Daemon, tor_origin: Origin) -> None:
    environ = proxied(daemon.port, tor_origin.ca_file)
    marked = mark("requests")
    ran = await run_python(REQUESTS, marked, tor_origin.http, tor_origin.https, environ=environ)
    assert ran.status == 0, ran.err.decode()
    plain, secure, failed = json.loads(ran.out)
    assert plain == secure
    digest, body, status = plain
    assert digest == hashlib.sha256(pattern(500_000)).hexdigest()
    assert json.loads(base64.b64decode(body)) == {"a": 1}
    assert status == 404
    assert "Tunnel connection failed: 502" in failed
    asked = arrived(tor_origin, marked)
    assert [request.tls for request in asked] == [False] * 3 + [True] * 3
    # A session keeps its connection.
    connections = [(request.tls, request.connection) for request in asked]
    assert len(set(connections)) == 2, connections


# --- pip ------------------------------------------------------------------------------------------

WHEEL = "demo-1.0-py3-none-any.whl"


def wheel() -> bytes:
    """The smallest package that there is."""
    info = "demo-1.0.dist-info"
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("demo.py", "DEMO = True\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"demo.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    return file.getvalue()


def canned(kind: str, body: bytes) -> Canned:
    lines = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return Canned(f"{lines}Connection: close\r\n\r\n".encode() + body, "close")


@ensureDeferred
async def test_pip(daemon: Daemon, tor_origin: Origin, tmp_path: Path) -> None:
    made = wheel()
    digest = hashlib.sha256(made).hexdigest()
    link = f'<!DOCTYPE html><a href="/files/{WHEEL}#sha256={digest}">{WHEEL}</a>'
    pages = {
        b"/simple/demo/": canned("text/html", link.encode()),
        f"/files/{WHEEL}".encode(): canned("application/octet-stream", made),
    }
    tor_origin.canned.update(pages)
    try:
        ran = await run_program(
            sys.executable,
            *("-m", "pip", "download", "--no-deps", "--no-cache-dir"),
            *("--disable-pip-version-check", "--retries=0", "--timeout=60"),
            *(f"--index-url={tor_origin.https}/simple/", f"--dest={tmp_path}", "demo"),
            environ=proxied(daemon.port, tor_origin.ca_file),
        )
    finally:
        for target in pages:
            del tor_origin.canned[target]
    assert ran.status == 0, ran
    assert (tmp_path / WHEEL).read_bytes() == made
    asked = [request for request in tor_origin.requests if request.target in pages]
    assert {request.target for request in asked} == set(pages)
    assert all(request.tls for request in asked)
