"""How a browser becomes an operator's: the token in the dashboard's address, then a cookie."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import OPERATOR, Gateway, Policy
from tortxd.policy.access import AccessPolicy

COOKIE = b"cookie-of-this-process"
OWN = "Origin: http://localhost:3080"
SENT = f"Cookie: theme=dark; tortxd-operator={COOKIE.decode()}; other=1"


@pytest.fixture
def operated(either: Gateway, make_policy: Policy) -> Gateway:
    """A gateway whose operators have a cookie."""
    access = AccessPolicy(operator_token=OPERATOR, operator_cookie=COOKIE)
    either.core.policy = make_policy(access=access)
    return either


@ensureDeferred
async def test_the_token_becomes_a_cookie(operated: Gateway) -> None:
    typed = ("Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    reply = await operated.ask(f"/?token={OPERATOR.decode()}", *typed)
    assert reply.status == 303
    # Without the token: an address stays in the browser's history.
    assert reply["Location"] == "/"
    value, *attributes = reply["Set-Cookie"].split("; ")
    assert value == f"tortxd-operator={COOKIE.decode()}"
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert reply["Referrer-Policy"] == "no-referrer"
    assert reply["Cache-Control"] == "no-store"
    assert OPERATOR.decode() not in repr(reply.headers)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?token=wrong", 401),
        ("?token=", 401),
        ("?token=a&token=b", 400),
        ("", 200),
        ("?Token=" + OPERATOR.decode(), 200),
    ],
)
@ensureDeferred
async def test_no_token_no_cookie(operated: Gateway, query: str, status: int) -> None:
    for headers in ((), (SENT,), (f"Tortxd-Token: {OPERATOR.decode()}",)):
        reply = await operated.ask("/" + query, *headers)
        assert reply.status == status
        assert "Set-Cookie" not in reply


@ensureDeferred
async def test_the_token_counts_in_that_address_alone(operated: Gateway) -> None:
    for path in ("/circuits", "/streams", "/events"):
        assert (await operated.ask(f"{path}?token={OPERATOR.decode()}")).status == 401


@pytest.mark.parametrize("headers", [(), (OWN,), (OWN, "Sec-Fetch-Site: same-origin")])
@ensureDeferred
async def test_the_cookie_makes_an_operator(operated: Gateway, headers: tuple[str, ...]) -> None:
    assert (await operated.ask("/circuits", SENT, *headers)).status == 200
    body = b"{}"
    reply = await operated.ask("/identity/new", SENT, *headers, method="POST", body=body)
    assert reply.json["renewed"] == "all"


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://localhost:8000",),
        ("Origin: http://localhost:8000", "Sec-Fetch-Site: same-site"),
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site",),
        ("Origin: null",),
    ],
)
@ensureDeferred
async def test_on_the_gateways_own_origin_alone(
    operated: Gateway, headers: tuple[str, ...]
) -> None:
    """To a browser, services on other ports of this host are the same site (SameSite)."""
    assert (await operated.ask("/circuits", SENT, *headers)).status == 403
    reply = await operated.ask("/identity/new", SENT, *headers, method="POST", body=b"{}")
    assert reply.status == 403
    assert operated.link.renewed == 0


@ensureDeferred
async def test_another_origin_does_not_ride_on_it(operated: Gateway, make_policy: Policy) -> None:
    """Where clients need a token, an allowed page needs it too, whatever cookie it brings."""
    access = AccessPolicy(token=b"clients", operator_token=OPERATOR, operator_cookie=COOKIE)
    operated.core.policy = make_policy(access=access)
    assert (await operated.ask("/health", SENT, "Origin: http://localhost:8000")).status == 401
    assert (await operated.ask("/health", SENT, OWN)).status == 200


@pytest.mark.parametrize(
    "cookie",
    [
        "tortxd-operator=wrong",
        "tortxd-operator=",
        "tortxd-operator",
        f"Tortxd-Operator={COOKIE.decode()}",
        f"x-tortxd-operator={COOKIE.decode()}",
        f'tortxd-operator="{COOKIE.decode()}"',
        f"tortxd-operator={OPERATOR.decode()}",
    ],
)
@ensureDeferred
async def test_other_cookies_are_none(operated: Gateway, cookie: str) -> None:
    assert (await operated.ask("/circuits", f"Cookie: {cookie}")).status == 401


@ensureDeferred
async def test_a_page_on_another_port_cannot_shadow_it(operated: Gateway) -> None:
    """Cookies know no ports: another service may have set one of the same name."""
    sent = f"Cookie: tortxd-operator=theirs; tortxd-operator={COOKIE.decode()}"
    assert (await operated.ask("/circuits", sent)).status == 200


@ensureDeferred
async def test_the_cookies_of_other_services_are_no_burden(operated: Gateway) -> None:
    sent = SENT + "".join(f"; c{n}={'x' * 500}" for n in range(28))
    assert (await operated.ask("/circuits", sent)).status == 200


@ensureDeferred
async def test_it_neither_leaves_nor_counts_on_proxy(
    operated: Gateway, make_policy: Policy
) -> None:
    reply = await operated.fetch("/echo", SENT)
    assert COOKIE.decode() not in reply.body.decode()
    access = AccessPolicy(token=b"clients", operator_token=OPERATOR, operator_cookie=COOKIE)
    operated.core.policy = make_policy(access=access)
    assert (await operated.fetch("/echo", SENT)).status == 401
