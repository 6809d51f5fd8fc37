"""What the daemon lets through, either way: headers, cookies, bodies, and what it says itself."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import gzip
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from tests.daemon.arrivals import arrived, mark
from tests.daemon.process import Daemon, soon
from tortxd.testing import Canned, Origin

ADDED = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-DNS-Prefetch-Control": "off",
    "Cache-Control": "no-store",
}
DANGEROUS = {
    "Set-Cookie": "canary=1",
    "Clear-Site-Data": '"*"',
    "Service-Worker-Allowed": "/",
    "Strict-Transport-Security": "max-age=1",
    "Alt-Svc": 'h3=":443"',
    "Refresh": "0; url=http://a.example/",
    "NEL": "{}",
    "Report-To": "{}",
    "Reporting-Endpoints": 'a="https://a.example/"',
    "Access-Control-Allow-Origin": "*",
    "WWW-Authenticate": "Basic",
    "Link": "<http://a.example/>; rel=preload",
    "Content-Security-Policy": "default-src *",
    "Cache-Control": "max-age=1000",
    "Set-Login": "logged-in",
    "Use-As-Dictionary": 'match="/*"',
    "Activate-Storage-Access": "load",
    "Shared-Storage-Write": "clear",
    "Ad-Auction-Allowed": "?1",
    "Observe-Browsing-Topics": "?1",
    "Supports-Loading-Mode": "credentialed-prerender",
    "Accept-CH": "Device-Memory",
    "Cross-Origin-Opener-Policy-Report-Only": 'same-origin; report-to="a"',
    "Integrity-Policy": "blocked-destinations=(script)",
    "Permissions-Policy": "geolocation=*",
    "Origin-Agent-Cluster": "?1",
    "Sec-Session-Registration": '(ES256);path="/"',
}
FORGED = {
    "Tortxd-Error": "internal",
    "Tortxd-Circuit": "forged",
    "Tortxd-Exit": "forged",
    "Tortxd-Exit-Country": "forged",
    "Tortxd-Attempts": "forged",
    "Proxy-Status": "tortxd; error=forged",
}


def canned(*fields: str, body: bytes = b"canary body") -> Canned:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields, "", ""]
    return Canned("\r\n".join(lines).encode() + body, "keep")


def fields(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


@ensureDeferred
async def test_rule_05_proxied_responses_are_disarmed(daemon: Daemon, tor_origin: Origin) -> None:
    tor_origin.canned[b"/canary-05"] = canned(*fields(DANGEROUS), "Content-Type: text/html")
    for shown, content_type in (("empty", "text/html"), ("document", "text/plain")):
        reply = await daemon.fetch(tor_origin.http + "/canary-05", f"Sec-Fetch-Dest: {shown}")
        for name, value in ADDED.items():
            assert reply.all(name) == [value]
        for name in DANGEROUS.keys() - ADDED.keys():
            assert name not in reply
        assert reply["Content-Type"] == content_type
    tor_origin.canned[b"/canary-05"] = canned()
    untyped = await daemon.fetch(tor_origin.http + "/canary-05")
    assert untyped["Content-Type"] == "application/octet-stream"


SHOWN_AS = {
    "text/plain; charset=utf-8": "text/plain; charset=utf-8",
    "image/png": "image/png",
    "application/json": "text/plain; charset=utf-8",
    "multipart/related; boundary=x": "text/plain",
    "multipart/x-mixed-replace; boundary=x": "text/plain",
    "text/rdf": "text/plain",
    "application/xml-external-parsed-entity": "text/plain",
    "application/http-index-format": "text/plain",
    "message/rfc822": "text/plain",
    "application/pdf": "application/octet-stream",
    "application/signed-exchange;v=b3": "application/octet-stream",
    "application/x-of-tomorrow": "application/octet-stream",
}


@pytest.mark.parametrize(("content_type", "shown"), SHOWN_AS.items())
@ensureDeferred
async def test_rule_05_what_a_browser_may_show_is_a_list(
    daemon: Daemon, tor_origin: Origin, content_type: str, shown: str
) -> None:
    tor_origin.canned[b"/canary-05"] = canned(f"Content-Type: {content_type}")
    url = tor_origin.http + "/canary-05"
    for destination in ("document", "iframe", "frame", "fencedframe", "embed", "object"):
        reply = await daemon.fetch(url, f"Sec-Fetch-Dest: {destination}")
        assert reply.all("Content-Type") == [shown]
    for asked in ((), ("Sec-Fetch-Dest: empty",)):
        assert (await daemon.fetch(url, *asked)).all("Content-Type") == [content_type]


@ensureDeferred
async def test_rule_05_what_the_gateway_says_itself_is_for_nobody_to_run(daemon: Daemon) -> None:
    page = ("Origin: http://localhost:8000", "Access-Control-Request-Method: PUT")
    url = "/proxy?url=" + quote("http://a.example/", safe="")
    replies = [
        await daemon.ask(url, *page, method="OPTIONS"),
        await daemon.ask("/health", *page, method="OPTIONS"),
        await daemon.ask("/health", method="OPTIONS"),
        await daemon.ask("/health", method="PUT"),
        await daemon.ask("/nothing-there"),
        await daemon.say("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", b"OPTIONS"),
    ]
    assert [reply.status for reply in replies] == [204, 204, 204, 405, 404, 200]
    for reply in replies:
        for name, value in ADDED.items():
            assert len(reply.all(name)) == 1
            assert reply[name].startswith(value)


@ensureDeferred
async def test_rule_05_proxy_mode_leaves_responses_alone(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """But for what would be a forgery: there the browser keeps origins apart."""
    tor_origin.canned[b"/canary-05"] = canned(*fields(DANGEROUS), *fields(FORGED))
    url = tor_origin.http + "/canary-05"
    reply = await daemon.say(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n")
    for name, value in DANGEROUS.items():
        assert reply.all(name) == [value]
    assert "Content-Type" not in reply
    assert not [value for _, value in reply.headers if b"forged" in value]


@pytest.mark.parametrize(
    ("to", "link", "redirected"),
    [
        ("/echo?a=1", "{origin}/echo?a=1", False),
        ("echo", "{origin}/echo", False),
        ("http://a.example/x", "http://a.example/x", True),
        ("//a.example/x", "http://a.example/x", True),
        ("{origin}/echo", "{origin}/echo", False),
    ],
)
@ensureDeferred
async def test_rule_05_redirects_stay_inside(
    daemon: Daemon, tor_origin: Origin, to: str, link: str, redirected: bool
) -> None:
    to, link = (text.format(origin=tor_origin.http) for text in (to, link))
    reply = await daemon.fetch(f"{tor_origin.http}/redirect?to={quote(to, safe='')}")
    assert reply["Tortxd-Location"] == to
    marked = "&redirected=1" if redirected else ""
    assert reply["Location"] == f"/proxy?url={quote(link, safe='')}{marked}"


@ensureDeferred
async def test_rule_05_a_redirect_takes_no_credentials_along(
    daemon: Daemon, tor_origin: Origin
) -> None:
    path = f"/proxy?url={quote(tor_origin.http + '/head', safe='')}&redirected=1"
    reply = await daemon.ask(path, "Authorization: Basic canary", "X-Kept: 1")
    assert b"X-Kept" in reply.body
    assert b"canary" not in reply.body
    marked = mark("posted")
    path = f"/proxy?url={quote(f'{tor_origin.http}/head?{marked}', safe='')}&redirected=1"
    for body in (b"canary", b""):
        reply = await daemon.ask(path, method="POST", body=body)
        assert reply.status == (403 if body else 200)
    assert len(arrived(tor_origin, marked)) == 1


IDENTIFYING = {
    "Origin": "http://localhost:8000",
    "Referer": "http://canary.example/",
    "Cookie": "canary=1",
    "Forwarded": "for=canary",
    "X-Forwarded-For": "canary",
    "X-Real-IP": "canary",
    "Via": "1.1 canary",
    "Proxy-Connection": "canary",
    "Proxy-Authorization": "Basic dG9yLWlzbzpjYW5hcnk=",
    "Sec-Fetch-Site": "same-origin",
    "Sec-CH-UA": "canary",
    "Tor-Stream-Isolation": "canary",
    "X-Tor-Stream-Isolation": "canary",
    "Tortxd-Token": "canary",
    "Tortxd-Timeout": "50",
    "Connection": "x-listed",
    "X-Listed": "canary",
    "Keep-Alive": "canary",
    "TE": "trailers",
    "X-Forwarded": "canary",
    "X_Forwarded_For": "canary",
}
OF_THE_USER = {
    "From": "canary@canary.example",
    "Cookie2": "canary",
    "Ping-From": "http://canary.example/",
    "Ping-To": "http://canary.example/",
    "X-Client-IP": "canary",
    "True-Client-IP": "canary",
    "CF-Connecting-IP": "canary",
    "X-Remote-Addr": "canary",
    "Available-Dictionary": ":canary:",
    "Access-Control-Request-Headers": "canary",
    "Save-Data": "canary",
    "X-UIDH": "canary",
    "Remote-Email": "canary",
    "X-Auth-Request-Email": "canary",
    "X-Authenticated-User": "canary",
    "Cf-Access-Jwt-Assertion": "canary",
    "Tailscale-User-Login": "canary",
    "X-MS-Client-Principal-Name": "canary",
    "X-RealIP": "canary",
    "HTTP-X-Forwarded-For": "canary",
    "X-GeoIP-Country": "canary",
    "X-Device-User-Agent": "canary",
}
"""More that does not pass ``/proxy``."""
PASSING = {
    "Authorization": "Bearer mine",
    "Accept": "text/x",
    "Content-Type": "text/x",
    "X-Mine": "1",
    "Range": "bytes=0-5",
    "X-Api-Key": "mine",
    "X-CSRF-Token": "mine",
    "CF-Access-Client-Id": "mine",
    "X-User-Id": "mine",
    "X-Country": "mine",
    "traceparent": "00-1-2-01",
}


@ensureDeferred
async def test_rule_06_headers_that_identify_do_not_leave(
    daemon: Daemon, tor_origin: Origin
) -> None:
    browser = {"User-Agent": "canary/1", "Accept-Language": "de-canary"}
    sent = fields({**IDENTIFYING, **OF_THE_USER, **PASSING, **browser})
    assert (await daemon.fetch(tor_origin.http + "/", *sent)).status == 200
    request = tor_origin.requests[-1]
    arrived = {name.decode(): value.decode() for name, value in request.headers}
    language = arrived.pop("Accept-Language")
    agent = arrived.pop("User-Agent")
    assert arrived == {"Host": f"origin.test.example:{tor_origin.http_port}", **PASSING}
    assert b"canary" not in request.head
    assert "Firefox" in agent
    assert language.startswith("en-US")


@ensureDeferred
async def test_rule_06_in_proxy_mode(daemon: Daemon, tor_origin: Origin) -> None:
    """The browser's own headers are between it and the destination."""
    own = {"Origin", "Referer", "Cookie", "X-Real-IP", "Sec-Fetch-Site", "Sec-CH-UA", *OF_THE_USER}
    lines = "\r\n".join(fields({**IDENTIFYING, **OF_THE_USER, **PASSING}))
    reply = await daemon.say(f"GET {tor_origin.http}/ HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n")
    assert reply.status == 200
    arrived = {name.decode() for name, _ in tor_origin.requests[-1].headers}
    assert arrived == {"Host", *own, *PASSING}


@pytest.mark.parametrize("coding", ["gzip", "br"])
@ensureDeferred
async def test_rule_15_bytes_are_not_touched(
    daemon: Daemon, tor_origin: Origin, coding: str
) -> None:
    body = gzip.compress(b"canary" * 1000) if coding == "gzip" else bytes(range(256)) * 40
    tor_origin.canned[b"/canary-15"] = canned(f"Content-Encoding: {coding}", body=body)
    for asked in ("Accept: x", "Accept-Encoding: identity", "Accept-Encoding: gzip, br"):
        reply = await daemon.fetch(tor_origin.http + "/canary-15", asked)
        assert reply["Content-Encoding"] == coding
        assert bytes(reply.body) == body
        assert tor_origin.requests[-1].header(b"Accept-Encoding") == (
            asked.partition(": ")[2].encode() if "Encoding" in asked else None
        )


@ensureDeferred
async def test_rule_16_expect_continue(daemon: Daemon, tor_origin: Origin) -> None:
    """The body is asked for once it can be passed on, and trailers are no body."""
    wire = await daemon.connect()
    url = quote(tor_origin.http + "/echo", safe="")
    head = f"POST /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    wire.send((head + "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n").encode())
    await soon(wire.when_came(b"HTTP/1.1 100 Continue\r\n\r\n"))
    wire.send(b"6\r\ncanary\r\n0\r\nX-T: canary\r\nHost: evil.example\r\n\r\n")
    reply = await soon(wire.reply(b"POST"))
    assert reply.status == 200, reply.body
    assert reply.json["length"] == 6
    arrived = dict(reply.json["headers"])
    assert "X-T" not in arrived
    assert arrived["Host"].startswith("origin.test.example:")
    wire.transport.abortConnection()


@ensureDeferred
async def test_rule_19_there_is_no_cookie_jar(daemon: Daemon, tor_origin: Origin) -> None:
    """On the same connection to the same destination, even."""
    tor_origin.canned[b"/canary-19"] = canned("Set-Cookie: canary=1; Path=/")
    for url in (tor_origin.http, tor_origin.https):
        assert "Set-Cookie" not in await daemon.fetch(url + "/canary-19")
        await daemon.fetch(url + "/echo")
        assert tor_origin.requests[-1].header(b"Cookie") is None
    address = b'{"ip": "192.0.2.1", "IsTor": true, "IP": "192.0.2.1"}'
    for route, target in (("/ip", b"/ip"), ("/verify-tor", b"/api/ip")):
        tor_origin.canned[target] = canned("Set-Cookie: canary=1; Path=/", body=address)
        for _ in range(2):
            assert (await daemon.ask(route)).json["exitIp"] == "192.0.2.1"
            assert tor_origin.requests[-1].header(b"Cookie") is None
        del tor_origin.canned[target]


@ensureDeferred
async def test_rule_27_errors_cannot_be_forged(daemon: Daemon, tor_origin: Origin) -> None:
    tor_origin.canned[b"/canary-27"] = canned(*fields(FORGED))
    reply = await daemon.fetch(tor_origin.http + "/canary-27")
    assert "Tortxd-Error" not in reply
    assert reply["Proxy-Status"] == "tortxd; received-status=200"
    assert not [value for _, value in reply.headers if b"forged" in value]
    theirs = await daemon.fetch(tor_origin.http + "/status/502")
    assert (theirs.status, "Tortxd-Error" in theirs) == (502, False)
    ours = await daemon.fetch("http://nowhere.canary.example/")
    assert (ours.status, ours["Tortxd-Error"]) == (502, "resolve_failed")
