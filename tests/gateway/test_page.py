"""The page at ``/``: what it says to whom, and that nothing in it can do harm."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve, field
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.gateway.conftest import OPERATOR, Gateway, Policy, port_of
from tests.web_client import Reply
from tortxd.gateway.control.page import (
    Address,
    View,
    commands,
    error_page,
    page,
)
from tortxd.policy.access import AccessPolicy
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
)

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
TYPED = ("Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
CROSS_SITE = ("Sec-Fetch-Site: cross-site", *TYPED[1:])
COOKIE = b"cookie-of-this-process"
SENT = f"Cookie: tortxd-operator={COOKIE.decode()}"
TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"
HOSTILE = (
    "</title></style><script>alert(1)</script><img src=//evil.example onerror='x'>\u202e\0&lt;"
)
VIEW = View(
    Address("http://localhost:3080"),
    Ready(),
    "public",
    "https://check.example/api/ip",
    wants_token=False,
    has_operators=True,
)
VOID = {"meta", "br"}


@define
class Document(HTMLParser):
    """A page as a browser takes it apart."""

    text: str = ""
    tags: list[str] = field(factory=list)
    attributes: list[tuple[str, str, str | None]] = field(factory=list)
    code: list[str] = field(factory=list)
    _open: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "code":
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        if "code" in self._open:
            self.code[-1] += data

    def values(self, name: str) -> list[str | None]:
        return [value for _, attribute, value in self.attributes if attribute == name]

    def has(self, words: str) -> bool:
        return words in " ".join(self.text.split())


def read(html: bytes | bytearray) -> Document:
    """Take a page apart, and see that it is well-formed, whole, and cannot do a thing."""
    document = Document()
    document.feed(html.decode())
    document.close()
    assert html.startswith(b'<!DOCTYPE html>\n<html lang="en">')
    assert not document._open
    for tag in ("html", "title", "h1", "main"):
        assert document.tags.count(tag) == 1, tag
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form", "svg"} & set(
        document.tags
    )
    names = {name for _, name, _ in document.attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not names & {"src", "style", "srcset", "action", "ping", "target", "http-equiv"}
    for reference in document.values("href"):
        assert reference is not None
        assert re.fullmatch(r"\./([a-z%0-9:.]+/)?[a-z-]+", reference)
    for tag, name, _ in document.attributes:
        assert name != "scope" or tag == "th"
    assert document.tags.count("th") == len(document.values("scope"))
    labels = [value for _, name, value in document.attributes if name == "aria-labelledby"]
    assert labels == document.values("id")
    return document


# --- what it says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words", "renews"),
    [
        (Ready(), ["Tor is ready", "Requests are served."], False),
        (
            Degraded(("The clock is off.", "The disk is full.")),
            ["Tor is ready, but something is wrong", "The clock is off.", "The disk is full."],
            False,
        ),
        (Launching(), ["Tor is starting"], True),
        (Bootstrapping(45, "x", "Asking for descriptors"), ["Tor is 45 % ready", "Asking"], True),
        (
            Bootstrapping(5, "x", "Connecting", "A guard refused."),
            ["5 % ready", "It does not get on: A guard refused."],
            True,
        ),
        (BackingOff(4.2, "Tor died."), ["Tor is down", "Tor died.", "tried again in 4 s."], True),
        (BackingOff(0.0, "Tor died."), ["tried again at once."], True),
        (Failed("There is no tor."), ["Tor cannot run", "There is no tor."], True),
        (Stopped(), ["Tor is stopped"], True),
    ],
)
@ensureDeferred
async def test_what_tor_does(
    either: Gateway, status: Status, words: list[str], renews: bool
) -> None:
    either.link.status = status
    reply = await either.ask("/", BROWSER, *TYPED)
    assert reply.status == 200
    document = read(reply.body)
    for sentence in words:
        assert document.has(sentence), document.text
    assert document.has("This page renews itself") is renews
    assert reply.all("Refresh") == (["2"] if renews else [])
    progress = re.findall(rb'<progress max="100" value="(\d+)"', reply.body)
    assert progress == ([b"%d" % status.progress] if isinstance(status, Bootstrapping) else [])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("public", "Network: the public Tor network."),
        ("private", "A private test network: no anonymity."),
        ("unknown", "Network: not known yet."),
    ],
)
def test_the_network(network: str, words: str) -> None:
    html = page(evolve(VIEW, network=network))
    assert read(html).has(words)
    assert (b'class="loud"' in html) is (network == "private")


def test_commands_are_ready_to_paste() -> None:
    assert list(commands(VIEW).values()) == [
        "curl http://localhost:3080/health",
        "curl 'http://localhost:3080/proxy?url=https%3A%2F%2Fcheck.example%2Fapi%2Fip'",
        "curl -x http://localhost:3080 https://check.example/api/ip",
    ]
    ipv6 = commands(evolve(VIEW, address=Address("http://[::1]:3080")))
    assert ipv6["Is it ready?"] == "curl 'http://[::1]:3080/health'"
    odd = evolve(VIEW, address=Address("http://a$(b)'c;d"), destination="http://x/;`y`$z")
    for command in commands(odd).values():
        assert shlex.split(command)[0] == "curl"
        assert not re.search(r"[$`;]", re.sub(r"'[^']*'|\"'\"", "", command))
    assert read(page(odd)).code[: len(commands(odd))] == list(commands(odd).values())


def test_commands_have_a_place_for_the_token_where_one_is_set() -> None:
    view = evolve(VIEW, wants_token=True)
    assert list(commands(view).values()) == [
        "curl -H 'Tortxd-Token: TOKEN' http://localhost:3080/health",
        "curl -H 'Tortxd-Token: TOKEN' "
        "'http://localhost:3080/proxy?url=https%3A%2F%2Fcheck.example%2Fapi%2Fip'",
        "curl -x http://tortxd:TOKEN@localhost:3080 https://check.example/api/ip",
    ]
    assert read(page(view)).has("in the place of TOKEN")
    assert not read(page(VIEW)).has("in the place of TOKEN")


def test_certificates_are_passed_over_on_a_test_network_alone() -> None:
    private = evolve(VIEW, network="private")
    proxied = "The same, as an HTTP proxy:"
    assert "-k" in commands(private)[proxied]
    assert "-k" not in commands(evolve(private, destination="http://a.example/"))[proxied]
    for network in ("public", "unknown"):
        assert "-k" not in commands(evolve(VIEW, network=network))[proxied]


def test_who_is_no_operator_is_told_how_to_become_one() -> None:
    document = read(page(VIEW))
    assert "http://localhost:3080/?token=TOKEN" in document.code
    assert "operator-token" in document.code
    assert not read(page(evolve(VIEW, has_operators=False))).has("operators")


def test_what_comes_from_tor_is_text() -> None:
    statuses: list[Status] = [
        Degraded((HOSTILE,)),
        Bootstrapping(1, HOSTILE, HOSTILE, HOSTILE),
        BackingOff(1.0, HOSTILE),
        Failed(HOSTILE),
    ]
    plain = read(page(VIEW)).tags
    for status in statuses:
        view = evolve(VIEW, status=status, network=HOSTILE, destination=HOSTILE)
        html = page(view)
        document = read(html)
        assert "<script>alert(1)</script>" in document.text
        assert set(document.tags) <= {*plain, "progress"}
        assert "\u202e" not in html.decode()
        assert b"\0" not in html
    assert "<script>" in read(error_page(HOSTILE, HOSTILE)).text


# --- who gets it ----------------------------------------------------------------------------------


@pytest.fixture
def operated(either: Gateway, make_policy: Policy) -> Gateway:
    """A gateway whose operators have a cookie."""
    access = AccessPolicy(operator_token=OPERATOR, operator_cookie=COOKIE)
    either.core.policy = make_policy(access=access)
    return either


@pytest.fixture
def guarded(either: Gateway, make_policy: Policy) -> Gateway:
    """One that wants a token as well."""
    access = AccessPolicy(token=b"clients", operator_token=OPERATOR, operator_cookie=COOKIE)
    either.core.policy = make_policy(access=access)
    return either


def shows_operators(reply: Reply) -> bool:
    """Whether a page is the dashboard, which is for operators alone."""
    shows = b"/main.js" in reply.body
    assert (b"<noscript>" in reply.body) is shows
    assert (b"operator-token" in reply.body) is not shows
    if not shows:
        read(reply.body)
    return shows


@pytest.mark.parametrize(
    ("headers", "operator"),
    [
        ((), False),
        (TYPED, False),
        ((*TYPED, SENT), True),
        ((TOKEN,), True),
        ((f"Authorization: Bearer {OPERATOR.decode()}",), True),
        (("Tortxd-Token: wrong",), False),
        (("Cookie: tortxd-operator=wrong",), False),
        # By a link from elsewhere, with which the browser sends no cookie that is SameSite=Strict.
        (CROSS_SITE, False),
        (("Origin: http://localhost:3080", SENT), True),
        # A page of an allowed origin is a client, whatever it brings.
        (("Origin: http://localhost:8000", SENT), False),
        (("Origin: http://localhost:8000", TOKEN), False),
    ],
)
@ensureDeferred
async def test_operators_alone_see_more(
    operated: Gateway, headers: tuple[str, ...], operator: bool
) -> None:
    reply = await operated.ask("/", BROWSER, *headers)
    assert reply.status == 200
    assert shows_operators(reply) is operator


@pytest.mark.parametrize(
    "headers",
    [
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: embed"),
        (*TYPED, "Sec-Purpose: prefetch"),
        (*CROSS_SITE, "Sec-Purpose: prefetch;prerender"),
        ("Origin: http://evil.example",),
        ("Origin: null",),
    ],
)
@ensureDeferred
async def test_other_sites_get_nothing_of_it(operated: Gateway, headers: tuple[str, ...]) -> None:
    """Rule 4: a link may lead there, and nothing else."""
    reply = await operated.ask("/", BROWSER, *headers, SENT)
    assert (reply.status, reply["Tortxd-Error"]) == (403, "forbidden_origin")
    assert "Access-Control-Allow-Origin" not in reply
    assert b"/main.js" not in reply.body


@ensureDeferred
async def test_another_origin_cannot_become_an_operator(operated: Gateway) -> None:
    reply = await operated.ask(f"/?token={OPERATOR.decode()}", "Origin: http://localhost:8000")
    assert reply.status == 403
    assert "Set-Cookie" not in reply


@ensureDeferred
async def test_where_a_token_is_set(guarded: Gateway) -> None:
    for headers in ((), TYPED, CROSS_SITE, ("Tortxd-Token: wrong",)):
        reply = await guarded.ask("/", BROWSER, *headers)
        assert (reply.status, reply["Tortxd-Error"]) == (401, "unauthorized")
        assert reply["WWW-Authenticate"].startswith("Bearer")
        assert reply["Content-Type"] == "text/html; charset=utf-8"
        document = read(reply.body)
        assert document.has("A token is needed.")
        assert document.has("?token=TOKEN")
        assert not document.has("Tor is ready")
        told = await guarded.ask("/", *headers)
        assert (told.status, told.json["code"]) == (401, "unauthorized")
        assert document.has(told.json["error"])
    for headers in ((TOKEN,), (SENT,)):
        reply = await guarded.ask("/", BROWSER, *headers)
        assert reply.status == 200
        assert shows_operators(reply)
    reply = await guarded.ask("/", BROWSER, "Tortxd-Token: clients")
    assert reply.status == 200
    assert not shows_operators(reply)
    assert read(reply.body).code[1].startswith("curl -H 'Tortxd-Token: TOKEN' http://")


@ensureDeferred
async def test_a_wrong_token_in_the_address(operated: Gateway) -> None:
    for headers in ((), (SENT,)):
        reply = await operated.ask("/?token=canary", BROWSER, *TYPED, *headers)
        assert (reply.status, reply["Tortxd-Error"]) == (401, "unauthorized")
        assert read(reply.body).has("This is not the operator token.")
        assert b"canary" not in reply.body


# --- how it goes out ------------------------------------------------------------------------------


def directives(reply: Reply) -> dict[str, str]:
    """What its Content-Security-Policy says."""
    parts = (part.strip().partition(" ") for part in reply["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("localhost:3080", (), 401),
        ("evil.example", (), 403),
        ("localhost:3080", ("Tortxd-Token: clients",), 200),
    ],
)
@ensureDeferred
async def test_a_page_may_nothing(
    guarded: Gateway, host: str, headers: tuple[str, ...], status: int
) -> None:
    reply = await guarded.ask("/", BROWSER, *headers, host=host)
    assert reply.status == status
    read(reply.body)
    style = directives(reply).pop("style-src")
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", style)
    assert directives(reply) == {
        "default-src": "'none'",
        "style-src": style,
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Referrer-Policy"] == "no-referrer"
    assert reply["Cache-Control"] == "no-store"
    assert reply["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ((), False),
        (("Accept: */*",), False),
        (("Accept: application/json",), False),
        (("Accept: text/html;q=0, application/json",), False),
        (("Accept: text/html; level=1;q=0.0",), False),
        (("Accept: text/plain",), False),
        ((BROWSER,), True),
        (("Accept: TEXT/HTML",), True),
        (("Accept: text/html;q=0.1",), True),
        (("Accept: application/json", "Accept: text/html"), True),
    ],
)
@ensureDeferred
async def test_programs_get_json(either: Gateway, accept: tuple[str, ...], html: bool) -> None:
    either.link.status = Bootstrapping(45, "x", "y")
    reply = await either.ask("/", *accept)
    assert reply.status == 200
    assert reply["Vary"] == "Accept"
    assert reply["Content-Type"].startswith("text/html" if html else "application/json")
    assert ("Refresh" in reply) is html
    if html:
        return
    assert reply.json["status"] == "bootstrapping"
    assert reply.json["version"]
    assert "GET /health" in reply.json["routes"]
    assert bytes(reply.body).startswith(b"{\n" if accept[:1] == ("Accept: */*",) else b"{")


@ensureDeferred
async def test_the_answer_to_a_head(either: Gateway) -> None:
    reply = await either.ask("/", BROWSER, method="HEAD")
    assert (reply.status, bytes(reply.body)) == (200, b"")
    assert reply["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost:3080", "http://localhost:3080"),
        ("[::1]:3080", "'http://[::1]:3080"),
        ("192.0.2.1", "http://192.0.2.1"),
    ],
)
@ensureDeferred
async def test_commands_name_the_address_that_was_asked(
    gateway: Gateway, host: str, url: str
) -> None:
    first, second, third = read((await gateway.ask("/", BROWSER, host=host)).body).code[:3]
    assert first.startswith(f"curl {url}/health")
    assert "/proxy?url=http%3A%2F%2Forigin.test.example%2Fapi%2Fip" in second
    assert third.endswith(" http://origin.test.example/api/ip")


@ensureDeferred
async def test_http_1_0_without_a_host(either: Gateway) -> None:
    wire = await either.connect()
    wire.send(f"GET / HTTP/1.0\r\n{BROWSER}\r\n\r\n".encode())
    assert read((await wire.reply()).body).code[0] == f"curl http://localhost:{either.port}/health"


# --- in a Site of somebody else's -----------------------------------------------------------------


@pytest_twisted.async_yield_fixture
async def mounted(gateway: Gateway, make_policy: Policy) -> AsyncIterator[Gateway]:
    """The gateway below ``/tools/tor`` of a ``Site``."""
    access = AccessPolicy(operator_token=OPERATOR, operator_cookie=COOKIE)
    gateway.core.policy = make_policy(access=access)
    api: Any = gateway.factory.control
    root, tools = Resource(), Resource()
    root.putChild(b"tools", tools)
    tools.putChild(b"tor", api.resource())
    tools.putChild(b"t\xc3\xb6r", api.resource())
    port = gateway.reactor.listenTCP(0, Site(root), interface="127.0.0.1")
    gateway.ports["mounted"] = port_of(port)
    gateway.way = "mounted"
    yield gateway
    await maybeDeferred(port.stopListening)


@pytest.mark.parametrize(
    ("path", "links"), [("/tools/tor/", "./"), ("/tools/tor", "./tor/"), ("/tools/tor/?x=1", "./")]
)
@ensureDeferred
async def test_mounted(mounted: Gateway, path: str, links: str) -> None:
    reply = await mounted.ask(path, BROWSER, *CROSS_SITE)
    assert reply.status == 200
    document = read(reply.body)
    assert document.values("href") == [
        f"{links}{route}" for route in ("health", "ip", "verify-tor")
    ]
    # A Site of twisted.web is no HTTP proxy.
    assert [command.split("?")[0].strip("'") for command in document.code[:2]] == [
        "curl http://localhost:3080/tools/tor/health",
        "curl 'http://localhost:3080/tools/tor/proxy",
    ]
    assert "http://localhost:3080/tools/tor/?token=TOKEN" in document.code
    assert not document.has("HTTP proxy")
    assert (await mounted.ask("/tools/tor/health")).status == 200
    described = (await mounted.ask("/tools/tor/openapi.json")).json["servers"]
    assert described == [{"url": "http://localhost:3080/tools/tor"}]


@pytest.mark.parametrize("slash", ["", "/"])
@ensureDeferred
async def test_the_token_becomes_a_cookie_where_it_is_mounted(mounted: Gateway, slash: str) -> None:
    reply = await mounted.ask(f"/tools/tor{slash}?token={OPERATOR.decode()}", BROWSER, *TYPED)
    assert (reply.status, reply["Location"]) == (303, "/tools/tor/")
    assert "; Path=/tools/tor/; " in reply["Set-Cookie"]
    assert shows_operators(await mounted.ask("/tools/tor/", BROWSER, *TYPED, SENT))
    assert (await mounted.ask("/tools/tor/?token=wrong", BROWSER)).status == 401


@ensureDeferred
async def test_where_it_is_mounted_may_be_any_path(mounted: Gateway) -> None:
    path = "/tools/t%C3%B6r/"
    assert (await mounted.ask(path, BROWSER)).status == 200
    reply = await mounted.ask(f"{path}?token={OPERATOR.decode()}", BROWSER, *TYPED)
    assert (reply.status, reply["Location"]) == (303, path)
