"""``/proxy`` by both ways in."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.gateway.conftest import CIRCUIT, FakeLink, Gateway
from tortxd.errors import ConnectRefused, OriginReset
from tortxd.relay.exchange import Exchange
from tortxd.relay.upstream import Upstream
from tortxd.testing import Canned, pattern
from tortxd.tor.link import Circuit
from tortxd.tor.status import BackingOff, Bootstrapping


@ensureDeferred
async def test_a_page_comes_with_the_circuit_that_carried_it(either: Gateway) -> None:
    reply = await either.fetch("/")
    assert reply.status == 200
    assert b"<!DOCTYPE html>" in reply.body
    assert reply["Tortxd-Circuit"] == "7"
    assert reply["Tortxd-Exit"] == "C" * 40
    assert reply["Tortxd-Exit-Address"] == "192.0.2.7"
    assert reply["Tortxd-Exit-Country"] == "de"
    assert reply["Proxy-Status"] == "tortxd; received-status=200"
    assert "Tortxd-Error" not in reply
    assert "Server" not in reply


@ensureDeferred
async def test_an_unknown_circuit_is_not_named(either: Gateway) -> None:
    either.link.only_circuit = None
    reply = await either.fetch("/")
    assert reply.status == 200
    ours = [name for name, _ in reply.headers if name.lower().startswith(b"tortxd-")]
    assert ours == [b"Tortxd-Attempts"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@ensureDeferred
async def test_every_method_passes_with_its_body(either: Gateway, method: str) -> None:
    body = bytes(range(256)) * 10
    reply = await either.fetch("/echo", "Content-Type: x/y", method=method, body=body)
    assert reply.status == 200
    assert reply.json["method"] == method
    assert reply.json["sha256"] == hashlib.sha256(body).hexdigest()
    assert ["Content-Type", "x/y"] in reply.json["headers"]
    assert ["Content-Length", str(len(body))] in reply.json["headers"]


@ensureDeferred
async def test_a_body_in_the_query_is_not_looked_for(either: Gateway) -> None:
    """Rule 8: the form names another target; the query alone decides, and the body stays as is."""
    body = b"url=http%3A%2F%2Fother.example%2F"
    form = "Content-Type: application/x-www-form-urlencoded"
    reply = await either.fetch("/echo", form, method="POST", body=body)
    assert reply.json["sha256"] == hashlib.sha256(body).hexdigest()
    assert either.socks.served[0].target == ("origin.test.example", 80)


@pytest.mark.parametrize("known", [1, 2, 99])
@pytest.mark.parametrize("path", ["/bytes/3", "/close/200000", "/bytes/100000?cut=5000"])
@ensureDeferred
async def test_the_circuit_is_told_that_was_named_just_now(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str, known: int
) -> None:
    """Tor names it before the destination's first byte, and may be read after that."""
    asked: list[object] = []

    def circuit_of(link: FakeLink, source: object) -> Circuit | None:
        asked.append(source)
        return CIRCUIT if len(asked) > known else None

    monkeypatch.setattr(type(gateway.link), "circuit_of", circuit_of)
    reply = await gateway.fetch(path)
    assert reply.status == 200
    assert reply.whole is ("cut" not in path)
    assert ("Tortxd-Circuit" in reply) is (known < 2)


@ensureDeferred
async def test_a_client_that_leaves_while_it_is_asked_for_leaves_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(gateway.link), "circuit_of", lambda *_: None)
    wire = await gateway.connect()
    left: list[object] = []

    def go_on(exchange: Exchange, upstream: Upstream) -> None:
        left.append(exchange)
        wire.transport.abortConnection()

    monkeypatch.setattr(Exchange, "_go_on", go_on)
    wire.send(f"GET {gateway.path('/bytes/3')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    served = await gateway.socks.asked(1)
    await served.lost
    assert left
    assert not gateway.core.under_way


@pytest.mark.parametrize("size", [0, 1, 1000, 200_000])
@pytest.mark.parametrize("kind", ["bytes", "chunked", "close"])
@ensureDeferred
async def test_bodies_pass_unchanged_however_they_are_framed(
    either: Gateway, kind: str, size: int
) -> None:
    reply = await either.fetch(f"/{kind}/{size}")
    assert reply.whole
    assert reply.body == pattern(size)


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 404, 418, 500, 503])
@ensureDeferred
async def test_every_status_passes(either: Gateway, status: int) -> None:
    reply = await either.fetch(f"/respond?status={status}")
    assert reply.status == status
    assert reply.whole
    assert "Tortxd-Error" not in reply


@ensureDeferred
async def test_head_keeps_its_content_length(either: Gateway) -> None:
    """Rule 26."""
    reply = await either.fetch("/bytes/1234", method="HEAD")
    assert reply.status == 200
    assert reply["Content-Length"] == "1234"
    assert reply.body == b""


@ensureDeferred
async def test_compressed_bodies_are_not_touched(either: Gateway) -> None:
    """Rule 15."""
    reply = await either.fetch("/gzip", "Accept-Encoding: gzip")
    assert reply["Content-Encoding"] == "gzip"
    assert b"<!DOCTYPE html>" in gzip.decompress(reply.body)


@pytest.mark.parametrize(
    ("path", "truncated"),
    [
        ("/bytes/100000?cut=5000", True),
        ("/bytes/100000?cut=5000&ending=abort", True),
        ("/chunked/100000?cut=5000", True),
        ("/chunked/100000?cut=5000&ending=abort", True),
        ("/reset", True),
        ("/close/5000", False),
    ],
)
@ensureDeferred
async def test_a_truncated_body_shows(either: Gateway, path: str, truncated: bool) -> None:
    """Rule 14."""
    reply = await either.fetch(path)
    assert reply.status == 200
    assert reply.whole is not truncated


@pytest.mark.parametrize("reason", ["DESTROY", None])
@ensureDeferred
async def test_a_body_until_close_is_whole_only_if_the_control_port_says_so(
    either: Gateway, reason: str | None
) -> None:
    """Rule 14: a FIN looks the same when the circuit died."""
    either.link.reason = reason
    reply = await either.fetch("/close/5000")
    assert reply.status == 200
    assert not reply.whole


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 270_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1001 + b"\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
@ensureDeferred
async def test_malformed_responses_are_bad_responses(either: Gateway, wire: bytes) -> None:
    """Rules 7 and 12, towards destinations."""
    either.origin.canned[b"/odd"] = Canned(wire, "close")
    reply = await either.fetch("/odd")
    assert reply.status == 502
    assert reply.json["code"] == reply["Tortxd-Error"] == "bad_response"
    assert reply["Proxy-Status"] == "tortxd; error=http_protocol_error"


@ensureDeferred
async def test_a_destination_that_hangs_up_is_a_reset(either: Gateway) -> None:
    either.origin.canned[b"/empty"] = Canned(b"", "close")
    reply = await either.fetch("/empty")
    assert reply.status == 502
    assert reply.json["code"] == OriginReset.code
    assert reply.json["retryable"] is True


@ensureDeferred
async def test_a_tor_that_dies_is_not_the_destinations_fault(either: Gateway) -> None:
    either.origin.canned[b"/empty"] = Canned(b"", "close")
    either.link.reason = None
    asking = Deferred.fromCoroutine(either.fetch("/empty"))
    await either.socks.asked()
    either.link.socks_address = None
    either.link.status = BackingOff(1.0, "Tor died.")
    reply = await asking
    assert reply.status == 503
    assert reply["Tortxd-Error"] == "tor_down"


@ensureDeferred
async def test_a_destination_that_says_nothing_is_a_timeout(either: Gateway) -> None:
    reply = await either.fetch("/hang", "Tortxd-Timeout: 0.2")
    assert reply.status == 504
    assert reply["Tortxd-Error"] == "origin_timeout"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (0x01, 502, "connect_failed"),
        (0x02, 502, "exit_policy"),
        (0x04, 502, "resolve_failed"),
        (0x05, 502, ConnectRefused.code),
        (0x06, 504, "tor_timeout"),
        (0x07, 500, "internal"),
        (0xF0, 502, "onion_unreachable"),
        (0xF4, 403, "onion_auth_required"),
        (0xF6, 400, "bad_url"),
    ],
)
@ensureDeferred
async def test_what_tor_replies_is_what_the_client_reads(
    either: Gateway, code: int, status: int, error: str
) -> None:
    either.socks.code = code
    reply = await either.fetch("/")
    assert reply.status == status
    assert reply["Tortxd-Error"] == reply.json["code"] == error
    assert "origin.test.example" not in reply.body.decode()


@ensureDeferred
async def test_a_tor_that_does_not_answer_is_a_timeout(either: Gateway) -> None:
    either.socks.held = True
    reply = await either.fetch("/", "Tortxd-Timeout: 0.2")
    assert reply.status == 504
    assert reply["Tortxd-Error"] == "tor_timeout"


# --- while Tor is not ready ---------------------------------------------------------------------


@ensureDeferred
async def test_a_request_waits_for_the_socks_port(either: Gateway) -> None:
    address, either.link.socks_address = either.link.socks_address, None
    either.link.status = Bootstrapping(10, "conn", "Connecting")
    reply = Deferred.fromCoroutine(either.fetch("/"))
    while not either.link.waiting:
        turn: Deferred[None] = Deferred()
        either.reactor.callLater(0, turn.callback, None)
        await turn
    assert address is not None
    either.link.waiting[0].callback(address)
    assert (await reply).status == 200


@ensureDeferred
async def test_a_request_that_waited_too_long_reads_the_progress(either: Gateway) -> None:
    either.link.socks_address = None
    either.link.status = Bootstrapping(40, "loading_keys", "Loading authority key certs")
    reply = await either.fetch("/", "Tortxd-Timeout: 0.1")
    assert reply.status == 503
    assert reply["Tortxd-Error"] == "tor_not_ready"
    assert reply.json["bootstrap"]["progress"] == 40
    assert int(reply["Retry-After"]) > 0


@ensureDeferred
async def test_what_tor_holds_while_it_bootstraps_is_not_ready_either(either: Gateway) -> None:
    either.socks.held = True
    either.link.status = Bootstrapping(75, "enough_dirinfo", "Loaded enough directory info")
    reply = await either.fetch("/", "Tortxd-Timeout: 0.1")
    assert reply.status == 503
    assert reply["Tortxd-Error"] == "tor_not_ready"


@ensureDeferred
async def test_a_dead_tor_is_not_waited_for(either: Gateway) -> None:
    either.link.socks_address = None
    either.link.status = BackingOff(4.0, "Tor died.")
    reply = await either.fetch("/")
    assert reply.status == 503
    assert reply["Tortxd-Error"] == "tor_down"


# --- what is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/proxy", 400, "bad_request"),
        ("/proxy?url=", 400, "bad_request"),
        ("/proxy?url=http%3A%2F%2Fa.example%2F&url=http%3A%2F%2Fb.example%2F", 400, "bad_request"),
        ("/proxy?url=nonsense", 400, "bad_url"),
        ("/proxy?url=a.example%3A443", 400, "bad_url"),
        ("/proxy?url=http%3A%2F%2Fxn--a.example%2F", 400, "bad_url"),
        ("/proxy?url=http%3A%2F%2Fa.example%5C%40b.example%2F", 400, "bad_url"),
        ("/proxy?url=http%3A%2F%2Fa.example%2F%0d%0aX:%20y", 400, "bad_url"),
        ("/proxy?url=ftp%3A%2F%2Fa.example%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2Flocalhost%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2F127.0.0.1%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2F0x7f000001%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2F10.0.0.1%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2F%5B%3A%3A1%5D%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2Fu%3Ap%40a.example%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2Fa.example%3A0%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2Fprinter%2F", 403, "target_forbidden"),
        ("/proxy?url=http%3A%2F%2Fa.exit%2F", 403, "target_forbidden"),
    ],
)
@ensureDeferred
async def test_bad_targets_are_refused_before_tor_sees_them(
    either: Gateway, path: str, status: int, code: str
) -> None:
    """Rules 3 and 7."""
    reply = await either.ask(path)
    assert reply.status == status
    assert reply.json["code"] == code
    assert not either.socks.served


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/x/../echo?a'b c", "/echo?a%27b%20c"),
        ("/x/%2e%2E/./echo", "/echo"),
        ("\\".join(("/x", "..", "echo")), "/echo"),
        ("/übung?☃", "/%C3%BCbung?%E2%98%83"),
        ("/a;b=c/[d]|e?{f}|`g^", "/a;b=c/[d]|e?{f}|`g^"),
        ("?x", "/?x"),
    ],
)
@ensureDeferred
async def test_path_and_query_are_those_that_a_browser_would_ask_for(
    either: Gateway, url: str, target: str
) -> None:
    either.origin.canned[target.encode()] = Canned(b"HTTP/1.1 204 No Content\r\n\r\n", "keep")
    reply = await either.fetch("http://origin.test.example" + url)
    assert reply.status == 204


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("☃.example", "xn--n3h.example"),
        ("FAß.de", "xn--fa-hia.de"),
        ("ｗww。☃．example.", "www.xn--n3h.example"),
        ("xn--n3h.example", "xn--n3h.example"),
    ],
)
@ensureDeferred
async def test_international_names(either: Gateway, host: str, name: str) -> None:
    """What is judged is what Tor is asked for, and what the destination reads."""
    reply = await either.fetch(f"http://{host}/echo")
    assert either.socks.served[0].target == (name, 80)
    assert ["Host", name] in reply.json["headers"]


@ensureDeferred
async def test_the_sentence_for_a_missing_url_is_the_old_one(either: Gateway) -> None:
    reply = await either.ask("/proxy")
    assert reply.json["error"] == "Missing url query parameter"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("url=http://canary.example/a?b=1&c=2", "`c` is not"),
        ("url=http%3A%2F%2Fcanary.example%2F&URL=x", "`URL` is not"),
        ("url=http%3A%2F%2Fcanary.example%2F&canary.example%2Fcanary=x", "One of the parameters"),
    ],
)
@ensureDeferred
async def test_a_target_that_is_not_encoded_is_not_cut(
    either: Gateway, query: str, name: str
) -> None:
    reply = await either.ask(f"/proxy?{query}")
    assert (reply.status, reply["Tortxd-Error"]) == (400, "bad_request")
    assert reply.json["error"].startswith(name)
    assert "encodeURIComponent" in reply.json["error"]
    assert b"canary" not in reply.body
    assert not either.socks.served


@ensureDeferred
async def test_a_key_may_be_a_parameter(either: Gateway) -> None:
    """Rule 9: it is the same key as in the header."""
    url = either.path("/bytes/1").partition("?")[2]
    header = "Tor-Stream-Isolation: alice"
    for path, *headers in (
        (f"/proxy?{url}&isolation=alice",),
        (f"/proxy?isolation=%61lice&{url}",),
        (f"/proxy?&{url}&&isolation=alice&", header),
        (f"/proxy?{url}", header),
    ):
        assert (await either.ask(path, *headers)).status == 200
    assert len(either.socks.served) == 1
    for path, *headers in ((f"/proxy?{url}&isolation=bob",), (f"/proxy?{url}",)):
        assert (await either.ask(path, *headers)).status == 200
    assert len({served.username for served in either.socks.served}) == 3
    for path, *headers in (
        (f"/proxy?{url}&isolation=bob", header),
        (f"/proxy?{url}&isolation=bob&isolation=bob",),
        (f"/proxy?{url}&isolation=",),
        (f"/proxy?{url}&isolation=" + "k" * 257,),
    ):
        reply = await either.ask(path, *headers)
        assert (reply.status, reply["Tortxd-Error"]) == (400, "bad_request")
    assert len(either.socks.served) == 3


@ensureDeferred
async def test_a_key_that_was_a_parameter_goes_along_with_redirects(either: Gateway) -> None:
    reply = await either.ask(either.path("/redirect?to=/next") + "&isolation=a%26b")
    link = "/proxy?url=http%3A%2F%2Forigin.test.example%2Fnext&isolation=a%26b"
    assert reply["Location"] == link


# --- headers ------------------------------------------------------------------------------------


@ensureDeferred
async def test_nothing_that_identifies_leaves(either: Gateway) -> None:
    """Rule 6."""
    reply = await either.fetch(
        "/echo",
        "Origin: http://localhost:8000",
        "Referer: http://localhost:8000/secret",
        "Cookie: session=1",
        "X-Forwarded-For: 10.1.2.3",
        "Via: 1.1 inside",
        "Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==",
        "Sec-Fetch-Site: same-site",
        "Sec-CH-UA: x",
        "Tor-Stream-Isolation: key",
        "Tortxd-Timeout: 5",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "User-Agent: Mozilla/5.0 (X11; Linux; Odd)",
        "Accept-Language: eo",
        "Authorization: Bearer theirs",
        "X-Mine: stays",
    )
    sent = {name.lower(): value for name, value in reply.json["headers"]}
    assert set(sent) == {"host", "user-agent", "accept-language", "authorization", "x-mine"}
    assert sent["host"] == "origin.test.example"
    assert "Odd" not in sent["user-agent"]
    assert sent["accept-language"] == "en-US,en;q=0.5"
    assert sent["authorization"] == "Bearer theirs"


@ensureDeferred
async def test_what_could_run_or_reach_the_network_does_not_come_back(either: Gateway) -> None:
    """Rules 5, 19 and 27."""
    given = [
        "Set-Cookie: a=b", "Clear-Site-Data: *", "Service-Worker-Allowed: /", "Alt-Svc: h3",
        "Strict-Transport-Security: max-age=1", "Refresh: 0", "NEL: {}", "Report-To: {}",
        "Reporting-Endpoints: a", "Access-Control-Allow-Origin: *", "WWW-Authenticate: Basic",
        "Link: <http://x>; rel=preconnect", "Proxy-Status: forged", "Tortxd-Error: forged",
        "Tortxd-Exit: forged", "Content-Security-Policy: default-src *", "Cache-Control: public",
        "ETag: \"kept\"", "Connection: X-Hop", "X-Hop: 1",
    ]  # fmt: skip
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + "\r\n".join([*given, "", ""]).encode()
    either.origin.canned[b"/forger"] = Canned(head + b"ok", "keep")
    reply = await either.fetch("/forger", "Sec-Fetch-Site: none")
    assert reply["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Referrer-Policy"] == "no-referrer"
    assert reply["X-DNS-Prefetch-Control"] == "off"
    assert reply["Cache-Control"] == "no-store"
    assert reply["Content-Type"] == "application/octet-stream"
    assert reply["ETag"] == '"kept"'
    assert reply["Tortxd-Exit"] == "C" * 40
    assert reply["Proxy-Status"] == "tortxd; received-status=200"
    for name in (
        "Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Alt-Svc", "Refresh", "NEL",
        "Strict-Transport-Security", "Report-To", "Reporting-Endpoints", "WWW-Authenticate",
        "Access-Control-Allow-Origin", "Link", "Tortxd-Error", "X-Hop",
    ):  # fmt: skip
        assert name not in reply


@pytest.mark.parametrize(
    "headers",
    [("Origin: http://localhost",), ("Sec-Fetch-Site: none",), ("Sec-Fetch-Dest: image",)],
)
@ensureDeferred
async def test_links_pass_where_no_browser_would_follow_them(
    either: Gateway, headers: tuple[str, ...]
) -> None:
    link = '</next?page=2>; rel="next"'
    head = f"HTTP/1.1 204 No Content\r\nLink: {link}\r\n\r\n"
    either.origin.canned[b"/list"] = Canned(head.encode(), "keep")
    assert (await either.fetch("/list"))["Link"] == link
    assert "Link" not in await either.fetch("/list", *headers)


@pytest.mark.parametrize("dest", ["document", "iframe", "embed", "object", "frame"])
@ensureDeferred
async def test_markup_is_text_where_it_would_be_a_document(either: Gateway, dest: str) -> None:
    """Rule 5."""
    reply = await either.fetch("/", "Sec-Fetch-Site: none", f"Sec-Fetch-Dest: {dest}")
    assert reply["Content-Type"] == "text/plain; charset=utf-8"


@ensureDeferred
async def test_redirects_lead_through_the_gateway(either: Gateway) -> None:
    """Rule 5."""
    reply = await either.fetch("/redirect?to=/next")
    assert reply.status == 302
    assert reply["Location"] == "/proxy?url=http%3A%2F%2Forigin.test.example%2Fnext"
    assert reply["Tortxd-Location"] == "/next"
    reply = await either.fetch("/redirect?to=https://other.example/")
    assert reply["Location"] == "/proxy?url=https%3A%2F%2Fother.example%2F&redirected=1"


@ensureDeferred
async def test_a_redirect_to_another_origin_takes_nothing_along(either: Gateway) -> None:
    """Rule 5."""
    path = either.path("/echo") + "&redirected=1"
    reply = await either.ask(path, "Authorization: Bearer theirs")
    assert "authorization" not in [name.lower() for name, _ in reply.json["headers"]]
    reply = await either.ask(path, method="POST", body=b"secret")
    assert reply.status == 403
    assert reply.json["code"] == "redirect_forbidden"


@ensureDeferred
async def test_a_client_that_leaves_in_the_middle(either: Gateway) -> None:
    """Rule 13; nothing of it is a fault of ours (the fixture looks at the log)."""
    wire = await either.connect()
    path = either.path("/bytes/50000000")
    wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await wire.when_came(b"\r\n\r\n")
    wire.transport.pauseProducing()
    wire.transport.abortConnection()
    await either.origin.when_closed(1).addTimeout(2.0, either.reactor)
