"""The dashboard and its files: who gets them, and what a browser lets them do."""

from __future__ import annotations

import re
import ssl
from http.client import HTTPSConnection
from importlib.resources import files
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import Authority
from tests.gateway.conftest import OPERATOR, Gateway, Policy, port_of
from tests.web_client import Reply
from tortxd.gateway.control import dashboard
from tortxd.gateway.control.page import Address
from tortxd.policy.access import AccessPolicy

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
COOKIE = b"cookie-of-this-process"
SENT = f"Cookie: tortxd-operator={COOKIE.decode()}"
FILES = [endpoint.path for endpoint in dashboard.endpoints()]
SOURCES = {
    one.name: one.read_text("utf-8")
    for one in files("tortxd.gateway.control.dashboard").iterdir()
    if one.name.endswith((".js", ".css", ".html"))
}


@pytest.fixture
def operated(either: Gateway, make_policy: Policy) -> Gateway:
    """A gateway whose operators have a cookie."""
    access = AccessPolicy(operator_token=OPERATOR, operator_cookie=COOKIE)
    either.core.policy = make_policy(access=access)
    return either


def policy_of(reply: Reply) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in reply["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


@ensureDeferred
async def test_its_policy_lets_in_its_own_files_alone(operated: Gateway) -> None:
    """Not even others of its origin: what ``/proxy`` answers has that as well."""
    nonces = set()
    for _ in range(2):
        reply = await operated.ask("/", BROWSER, SENT)
        (nonce,) = set(re.findall(r'nonce="([\w-]{22})"', reply.body.decode()))
        nonces.add(nonce)
        assert policy_of(reply) == {
            "default-src": "'none'",
            "script-src": f"'nonce-{nonce}'",
            "style-src": f"'nonce-{nonce}'",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        for name, value in {
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }.items():
            assert reply.all(name) == [value]
        assert "Refresh" not in reply
    assert len(nonces) == 2


@pytest.mark.parametrize("path", FILES)
@ensureDeferred
async def test_its_files_are_for_operators(operated: Gateway, path: str) -> None:
    reply = await operated.ask(path, SENT, "Sec-Fetch-Site: same-origin")
    assert reply.status == 200
    assert reply.body.decode() == SOURCES[path.rpartition("/")[2]]
    kind = "text/css" if path.endswith("css") else "text/javascript"
    assert reply["Content-Type"] == f"{kind}; charset=utf-8"
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Cross-Origin-Resource-Policy"] == "same-origin"
    assert (await operated.ask(path)).status == 401
    for foreign in ("Sec-Fetch-Site: cross-site", "Origin: http://localhost:8000"):
        assert (await operated.ask(path, SENT, foreign)).status == 403


def test_all_files_are_served_and_all_that_is_loaded_is_there() -> None:
    served = {path.removeprefix("/dashboard/") for path in FILES}
    assert served == SOURCES.keys() - {"dashboard.html"}
    imported = {
        name for text in SOURCES.values() for name in re.findall(r'from "\./([\w.]+)"', text)
    }
    named = set(re.findall(r'"\{folder\}([\w.]+)"', SOURCES["dashboard.html"]))
    assert imported | named == served


def test_nothing_is_read_as_html_or_loaded_from_elsewhere() -> None:
    for name, text in SOURCES.items():
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert sink not in text, name
        urls = set(re.findall(r"https?://[^\s\"'<`]+", text))
        assert urls <= {"http://www.w3.org/2000/svg", "https://example.com/", "https://${url}"}
        assert not re.search(r"\son\w+=|\sstyle=|javascript:|@import|url\(", text), name


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/", "./dashboard/"),
        ("/tools/tor/", "./dashboard/"),
        ("/tools/tor", "./tor/dashboard/"),
        ("/a\"><script>'&", "./a&quot;&gt;&lt;script&gt;&#x27;&amp;/dashboard/"),
    ],
)
def test_its_files_are_beside_it_wherever_it_is_mounted(path: str, folder: str) -> None:
    html, _ = dashboard.page(Address("http://localhost:8000", path))
    assert f'<script type="module" src="{folder}main.js" nonce="'.encode() in html
    assert f'<link rel="stylesheet" href="{folder}dashboard.css" nonce="'.encode() in html


def get_over_tls(port: int, path: str) -> str | None:
    """The cookie that a route sets; this blocks."""
    connection = HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context())
    connection.request("GET", path, headers={"Accept": "text/html"})
    response = connection.getresponse()
    connection.close()
    return response.getheader("Set-Cookie")


@pytest.mark.parametrize("way", ["front", "site"])
@ensureDeferred
async def test_over_tls_the_cookie_stays_there(
    gateway: Gateway, make_policy: Policy, tmp_path: Path, way: str
) -> None:
    access = AccessPolicy(operator_token=OPERATOR, operator_cookie=COOKIE)
    gateway.core.policy = make_policy(access=access)
    path = f"/?token={OPERATOR.decode()}"
    assert "Secure" not in (await gateway.ask(path, BROWSER))["Set-Cookie"].split("; ")
    plain = gateway.factory if way == "front" else gateway.factory.site
    factory = TLSMemoryBIOFactory(Authority(tmp_path).server("localhost"), False, plain)
    port = gateway.reactor.listenTCP(0, factory, interface="127.0.0.1")
    cookie = await deferToThread(get_over_tls, port_of(port), path)
    assert cookie is not None
    assert {"Secure", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    await maybeDeferred(port.stopListening)
