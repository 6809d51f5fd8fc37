"""Who may ask, by both ways in (rules 2 and 4)."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import OPERATOR, Gateway, Policy
from tests.web_client import Reply
from tortxd.gateway.answers import OWN_HEADERS
from tortxd.policy.access import AccessPolicy
from tortxd.testing import Canned

PAGE = "Origin: http://localhost:8000"
FOREIGN = "Origin: https://evil.example"


@pytest.mark.parametrize("path", ["/health", "/proxy?url=http%3A%2F%2Fa.example%2F", "/circuits"])
@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]
)
@ensureDeferred
async def test_rebinding(either: Gateway, path: str, host: str) -> None:
    reply = await either.ask(path, host=host)
    assert reply.status == 403
    assert reply["Tortxd-Error"] == "forbidden_host"
    assert not either.socks.served


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:3080", "127.0.0.1:1", "127.9.9.9", "[::1]:3080"]
)
@ensureDeferred
async def test_loopback_names_are_ours(either: Gateway, host: str) -> None:
    assert (await either.ask("/health", host=host)).status == 200


@pytest.mark.parametrize("host", ["10.244.0.5:3080", "[fd00::5]:3080", "93.184.216.34"])
@ensureDeferred
async def test_addresses_are_ours(either: Gateway, host: str) -> None:
    """A name is needed to rebind; probes of orchestrators know the pod's address alone."""
    assert (await either.ask("/health", host=host)).status == 200
    assert (await either.ask(either.path("/bytes/1"), host=host)).status == 200
    assert (await either.ask("/nope", host=host)).status == 404
    assert (await either.ask("/health", f"Origin: http://{host}", host=host)).status == 200
    for name in ("evil.example", "10.244.0.6:3080"):
        reply = await either.ask("/health", f"Origin: http://{name}", host=host)
        assert reply["Tortxd-Error"] == "forbidden_origin"


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0:3080", "[::]:3080", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "127.1"],
)
@ensureDeferred
async def test_addresses_that_browsers_do_not_know_for_ours(either: Gateway, host: str) -> None:
    for path in ("/health", either.path("/")):
        assert (await either.ask(path, host=host))["Tortxd-Error"] == "forbidden_host"
    assert not either.socks.served


PROBES = {
    "kubelet": "GET /health HTTP/1.1\r\nHost: 10.244.0.5:3080\r\nUser-Agent: kube-probe/1.29\r\n"
    "Accept: */*\r\nConnection: close\r\n\r\n",
    "option httpchk": "OPTIONS / HTTP/1.0\r\n\r\n",
    "option httpchk GET /health": "GET /health HTTP/1.0\r\n\r\n",
    "option httpchk HEAD /health": "HEAD /health HTTP/1.0\r\n\r\n",
    "HEAD": "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "OPTIONS": "OPTIONS /health HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
@ensureDeferred
async def test_probes(either: Gateway, probe: str) -> None:
    """As kubelet and HAProxy send them."""
    wire = await either.connect()
    wire.send(probe.encode())
    method = probe.partition(" ")[0].encode()
    reply = await wire.reply(method)
    assert reply.status == (204 if method == b"OPTIONS" else 200)
    if "Connection: close" in probe or "HTTP/1.0" in probe:
        await wire.lost


@ensureDeferred
async def test_options_tell_what_a_route_takes_without_a_token(
    either: Gateway, make_policy: Policy
) -> None:
    either.core.policy = make_policy(access=AccessPolicy(token=b"clients-token"))
    for path, allowed in (("/", "GET, HEAD, OPTIONS"), ("/identity/new", "POST, OPTIONS")):
        reply = await either.ask(path, method="OPTIONS")
        assert (reply.status, reply["Allow"]) == (204, allowed)
        assert (await either.ask(path, FOREIGN, method="OPTIONS")).status == 403
    assert (await either.fetch("/", method="OPTIONS")).status == 401


@pytest.mark.parametrize(
    "path",
    ["/health", "/nope", "/circuits", "/proxy?url=http%3A%2F%2Forigin.test.example%2Fbytes%2F1"],
)
@ensureDeferred
async def test_http_1_0_need_not_name_a_host(either: Gateway, path: str) -> None:
    token = f"Tortxd-Token: {OPERATOR.decode()}\r\n"
    for headers, status in (
        ("", 404 if path == "/nope" else 200),
        ("Host: evil.example\r\n", 403),
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: http://\r\n", 403),
        ("Host: \r\n", 400),
        ("Host: localhost\r\nHost: localhost\r\n", 400),
    ):
        wire = await either.connect()
        wire.send(f"GET {path} HTTP/1.0\r\n{headers}{token}\r\n".encode())
        assert (await wire.reply()).status == status


@pytest.mark.parametrize("path", ["/health", "/", "/proxy?url=http%3A%2F%2Fa.example%2F", "/nope"])
@ensureDeferred
async def test_a_host_that_is_not_ascii(either: Gateway, path: str) -> None:
    wire = await either.connect()
    wire.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\xa0\r\n\r\n".encode("latin-1"))
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert "Server" not in reply


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "xn--a\u0300.localhost", "[::1"])
@ensureDeferred
async def test_odd_hosts(either: Gateway, host: str) -> None:
    reply = await either.ask("/health", host=host)
    assert reply.status in (400, 403)
    assert "Tortxd-Error" in reply


@ensureDeferred
async def test_operators_errors_are_not_for_other_origins(either: Gateway) -> None:
    reply = await either.ask("/circuits", PAGE)
    assert reply.status == 403
    assert "Access-Control-Allow-Origin" not in reply


@pytest.mark.parametrize("path", ["/health", "/proxy?url=http%3A%2F%2Fa.example%2F"])
@pytest.mark.parametrize("hosts", ["", "Host: localhost\r\nHost: localhost\r\n"])
@ensureDeferred
async def test_a_missing_or_doubled_host(gateway: Gateway, path: str, hosts: str) -> None:
    wire = await gateway.connect()
    wire.send(f"GET {path} HTTP/1.1\r\n{hosts}\r\n".encode())
    assert (await wire.reply()).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        (FOREIGN,),
        ("Origin: null",),
        ("Origin: file://",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/health", "/proxy?url=http%3A%2F%2Fa.example%2F", "/identity/new"]
)
@ensureDeferred
async def test_hostile_pages(either: Gateway, path: str, headers: tuple[str, ...]) -> None:
    for method in ("GET", "POST"):
        reply = await either.ask(path, *headers, method=method, body=b"")
        assert reply.status == 403
        assert reply["Tortxd-Error"] == "forbidden_origin"
        assert "Access-Control-Allow-Origin" not in reply
    assert not either.socks.served


@ensureDeferred
async def test_allowed_pages_can_read(either: Gateway) -> None:
    reply = await either.fetch("/", PAGE, "Sec-Fetch-Site: same-site")
    assert reply.status == 200
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"
    assert "Tortxd-Exit-Country" in reply["Access-Control-Expose-Headers"]
    assert "Origin" in reply.all("Vary")
    assert unreadable(reply) == set()
    for path, status in (("/health", 200), ("/proxy", 400), ("/nope", 404)):
        reply = await either.ask(path, PAGE)
        assert reply.status == status
        assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"
        assert unreadable(reply) == set()
    reply = await either.ask("/health", PAGE, method="DELETE")
    assert (reply.status, reply["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert unreadable(reply) == set()


@ensureDeferred
async def test_allowed_pages_can_read_every_header(either: Gateway) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Own: 1\r\nX-Own: 2\r\nETag: a\r\nDate: b\r\n"
    dropped = "Set-Cookie: a=b\r\nAccess-Control-Expose-Headers: X-Forged\r\n"
    either.origin.canned[b"/headers"] = Canned(f"{head}{dropped}\r\nok".encode(), "keep")
    reply = await either.fetch("/headers", PAGE)
    assert unreadable(reply) == set()
    exposed = reply["Access-Control-Expose-Headers"].lower().split(", ")
    assert {"x-own", "etag", "date"} < set(exposed)
    assert exposed.count("x-own") == 1
    assert {"set-cookie", "x-forged", "*"}.isdisjoint(exposed)
    assert "Access-Control-Expose-Headers" not in await either.fetch("/headers")


@ensureDeferred
async def test_allowed_pages_can_read_that_their_key_has_another_exit(either: Gateway) -> None:
    sticky = ("Tor-Stream-Isolation: k", "Tortxd-Sticky: 600")
    either.link.exits = {"D" * 40: "de", "F" * 40: "fr"}
    await either.fetch("/", PAGE, *sticky)
    del either.link.exits["D" * 40]
    reply = await either.fetch("/", PAGE, *sticky)
    assert (reply["Tortxd-Exit-Changed"], reply["Tortxd-Attempts"]) == ("1", "1")
    assert unreadable(reply) == set()


def unreadable(reply: Reply) -> set[str]:
    """The names of a response's headers that a page on another origin cannot read (Fetch,
    "CORS-safelisted response-header name"), but for those that are about the connection or for the
    browser itself."""
    names = {name.decode().lower() for name, _ in reply.headers}
    exposed = set(reply["Access-Control-Expose-Headers"].lower().split(", "))
    safe = {"cache-control", "content-language", "content-length", "content-type"}
    safe |= {"expires", "last-modified", "pragma", "connection", "transfer-encoding", "vary"}
    return {one for one in names - exposed - safe if not one.startswith("access-control-")}


@ensureDeferred
async def test_null_may_call_where_it_was_written_out(either: Gateway, make_policy: Policy) -> None:
    access = AccessPolicy(allow_origins=frozenset({b"null"}), operator_token=OPERATOR)
    either.core.policy = make_policy(access=access)
    headers = ("Origin: null", "Sec-Fetch-Site: cross-site")
    for path in ("/health", either.path("/bytes/1")):
        reply = await either.ask(path, *headers)
        assert (reply.status, reply["Access-Control-Allow-Origin"]) == (200, "null")
    reply = await either.ask("/circuits", *headers, f"Tortxd-Token: {OPERATOR.decode()}")
    assert reply["Tortxd-Error"] == "forbidden_origin"


@pytest.mark.parametrize("path", ["/proxy?url=http%3A%2F%2Fa.example%2F", "/health"])
@ensureDeferred
async def test_preflights(either: Gateway, path: str) -> None:
    asked = (
        "Access-Control-Request-Method: PUT",
        "Access-Control-Request-Headers: x-a, tortxd-token",
    )
    reply = await either.ask(path, PAGE, *asked, method="OPTIONS")
    assert reply.status == 204
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"
    assert reply["Access-Control-Allow-Methods"] == "PUT"
    assert reply["Access-Control-Allow-Headers"] == "x-a, tortxd-token"
    for name, value in OWN_HEADERS:
        assert reply.all(name.decode()) == [value.decode()]
    assert (await either.ask(path, FOREIGN, *asked, method="OPTIONS")).status == 403
    assert not either.socks.served


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("OPTIONS", "/health", 204),
        ("OPTIONS", "/identity/new", 204),
        ("OPTIONS", "/nope", 404),
        ("PUT", "/health", 405),
        ("GET", "/identity/new", 405),
    ],
)
@ensureDeferred
async def test_rule_05_every_answer_of_the_gateways_own_is_for_nobody_to_run(
    either: Gateway, method: str, path: str, status: int
) -> None:
    reply = await either.ask(path, method=method)
    assert reply.status == status
    for name, value in OWN_HEADERS:
        assert reply.all(name.decode()) == [value.decode()]


@ensureDeferred
async def test_rule_05_options_of_the_proxy_are_for_nobody_to_run(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reply = await wire.reply(b"OPTIONS")
    assert reply.status == 200
    for name, value in OWN_HEADERS:
        assert reply.all(name.decode()) == [value.decode()]


@ensureDeferred
async def test_operator_routes_want_the_operators_token(either: Gateway) -> None:
    token = OPERATOR.decode()
    assert (await either.ask("/circuits")).status == 401
    assert (await either.ask("/circuits", "Tortxd-Token: wrong")).status == 401
    assert (await either.ask("/circuits", f"Tortxd-Token: {token}")).status == 200
    assert (await either.ask("/streams", f"Authorization: Bearer {token}")).status == 200
    reply = await either.ask("/circuits", f"Tortxd-Token: {token}", PAGE)
    assert reply.status == 403


@ensureDeferred
async def test_where_a_token_is_set_clients_present_it(
    either: Gateway, make_policy: Policy
) -> None:
    either.core.policy = make_policy(access=AccessPolicy(token=b"clients-token"))
    for path in ("/health", either.path("/")):
        reply = await either.ask(path)
        assert reply.status == 401
        assert reply["Tortxd-Error"] == "unauthorized"
        assert (await either.ask(path, "Tortxd-Token: clients-token")).status == 200
    assert (await either.ask("/health", "Authorization: Bearer clients-token")).status == 200
    assert (await either.fetch("/", "Authorization: Bearer clients-token")).status == 401


@ensureDeferred
async def test_the_access_token_does_not_leave(either: Gateway, make_policy: Policy) -> None:
    either.core.policy = make_policy(access=AccessPolicy(token=b"clients-token"))
    reply = await either.fetch("/echo", "Tortxd-Token: clients-token")
    assert "clients-token" not in reply.body.decode()


@ensureDeferred
async def test_what_is_remembered_of_a_head_is_of_its_method(either: Gateway) -> None:
    """The same header section is a preflight's with OPTIONS alone."""
    asked = (PAGE, "Access-Control-Request-Method: GET")
    methods = ("GET", "OPTIONS", "GET")
    replies = [await either.fetch("/bytes/1", *asked, method=method) for method in methods]
    assert [reply.status for reply in replies] == [200, 204, 200]


@ensureDeferred
async def test_what_is_remembered_of_a_head_goes_with_the_policy(
    either: Gateway, make_policy: Policy
) -> None:
    """The daemon learns its operator token after it listens."""
    assert (await either.fetch("/bytes/1", PAGE)).status == 200
    either.core.policy = make_policy(access=AccessPolicy(token=b"canary"))
    assert (await either.fetch("/bytes/1", PAGE)).status == 401
    assert (await either.fetch("/bytes/1", PAGE, "Tortxd-Token: canary")).status == 200
    assert (await either.fetch("/bytes/1", PAGE)).status == 401
