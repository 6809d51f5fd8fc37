"""Who may ask (rules 2 and 4, tokens)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadRequest, ForbiddenHost, ForbiddenOrigin, TortxdError, Unauthorized
from tortxd.policy.access import AccessPolicy, Audience, Caller
from tortxd.policy.request import gateway_fields

PROXY, CLIENT, OPERATOR = Audience.PROXY, Audience.CLIENT, Audience.OPERATOR
TO_PAGE = Audience.PAGE
OPERATOR_TOKEN = b"operators-token"
POLICY = AccessPolicy(
    allow_hosts=frozenset({b"gw.example", b"[2001:db8::5]"}),
    allow_origins=frozenset({b"https://app.example"}),
    operator_token=OPERATOR_TOKEN,
)
WITH_TOKEN = AccessPolicy(token=b"clients-token", operator_token=OPERATOR_TOKEN)

HOST = (b"Host", b"localhost:3080")
OWN = (b"Origin", b"http://localhost:3080")
APP = (b"Origin", b"https://app.example")
AS_OPERATOR = (b"Tortxd-Token", OPERATOR_TOKEN)


def admit(
    *headers: tuple[bytes, bytes],
    policy: AccessPolicy = POLICY,
    method: bytes = b"GET",
    kind: Audience = PROXY,
    minor: int = 1,
    given: bytes | None = None,
) -> Caller:
    fields = gateway_fields(headers)
    return policy.admit(fields, method=method, audience=kind, minor=minor, page_token=given)


# --- Host -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:3080",
        b"127.0.0.1:3080",
        b"127.255.1.250",
        b"[::1]:3080",
        b"[::1]",
        b"GW.Example:80",
        b"[2001:DB8::5]:3080",
        b"localhost:",
        # Where no name was looked up, none was rebound.
        b"10.244.0.5:3080",
        b"192.168.0.1",
        b"93.184.216.34:80",
        b"[fd00:10:244::5]:3080",
        b"[FE80::1]",
        b"[2606:4700::1]:3080",
        b"[0:0:0:0:0:0:0:1]",
        b"[fd00:0::05]",
        b"[::102:304]",
    ],
)
def test_hosts_of_the_gateway(host: bytes) -> None:
    assert admit((b"host", host)) == Caller()


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"localhost.evil.example",
        b"evil.localhost",
        b"localhost.",
        b"127.0.0.1.evil.example",
        b"127.1",
        b"127.0.0.256",
        b"2130706433",
        b"0x7f.0.0.1",
        b"0177.0.0.1",
        b"10.0.0",
        b"10.0.0.01",
        b"10.0.0.1.",
        b"1.2.3.4.5",
        # They lead to this machine, and no browser says that a foreign page asks there.
        b"0.0.0.0",
        b"0.0.0.0:3080",
        b"[::]",
        b"[::]:3080",
        b"[::ffff:127.0.0.1]",
        b"[::ffff:7f00:1]",
        b"[::ffff:1.2.3.4]",
        b"[::ffff:102:304]",
        b"[1::2::3]",
        b"[1.2.3.4]",
        b"[12345::]",
        b"gw.example.:80",
        b"x" * 400,
    ],
)
def test_hosts_of_others(host: bytes) -> None:
    with pytest.raises(ForbiddenHost):
        admit((b"Host", host))


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b""],
        [b"localhost", b"localhost"],
        [b"localhost", b"evil.example"],
        [b"localhost:x"],
        [b"x@localhost"],
        [b"localhost/"],
        [b"[::1"],
        [b"::1"],
        [b"local host"],
        [b"localhost, localhost"],
        [b"[fe80::1%eth0]"],
        [b"[fe80::1%25eth0]:3080"],
        [b"10.0.0.1", b"10.0.0.1"],
        [b"\xff"],
    ],
)
def test_missing_doubled_and_malformed_hosts(hosts: list[bytes]) -> None:
    with pytest.raises(BadRequest):
        admit(*((b"Host", host) for host in hosts))


def test_a_probe_of_http_1_0_need_not_name_a_host() -> None:
    for kind in (PROXY, CLIENT):
        assert admit(kind=kind, minor=0) == Caller()
    assert admit(AS_OPERATOR, kind=OPERATOR, minor=0).token == OPERATOR_TOKEN
    for hosts in ([b""], [b"localhost", b"localhost"]):
        with pytest.raises(BadRequest):
            admit(*((b"Host", host) for host in hosts), minor=0)
    with pytest.raises(ForbiddenHost):
        admit((b"Host", b"evil.example"), minor=0)
    assert POLICY.admit_options({}, 0) == Caller()
    with pytest.raises(BadRequest):
        POLICY.admit_options({})


@pytest.mark.parametrize("origin", [b"http://", b"https://", b"null", b""])
def test_without_a_host_no_origin_is_the_own_one(origin: bytes) -> None:
    for kind in Audience:
        with pytest.raises(ForbiddenOrigin):
            admit((b"Origin", origin), AS_OPERATOR, kind=kind, minor=0)


@pytest.mark.parametrize("kind", Audience)
def test_the_host_counts_on_every_route(kind: Audience) -> None:
    with pytest.raises(ForbiddenHost):
        admit((b"Host", b"evil.example"), AS_OPERATOR, kind=kind)


# --- Origin and Sec-Fetch-Site --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PROXY, CLIENT])
@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost",
        b"http://localhost:5173",
        b"https://localhost:8443",
        b"http://127.0.0.1:8000",
        b"http://127.9.8.7",
        b"http://[::1]:1",
        b"https://app.example",
    ],
)
@pytest.mark.parametrize("site", [None, b"same-site", b"cross-site", b"same-origin"])
def test_allowed_origins(kind: Audience, origin: bytes, site: bytes | None) -> None:
    headers = [HOST, (b"Origin", origin)] + ([(b"Sec-Fetch-Site", site)] if site else [])
    admission = admit(*headers, kind=kind, method=b"POST")
    assert admission.origin == origin
    cors = dict(admission.cors([(b"X-Own", b"1"), (b"ETag", b"2"), (b"X-Own", b"3")]))
    assert cors[b"Access-Control-Allow-Origin"] == origin
    assert cors[b"Vary"] == b"Origin"
    exposed = cors[b"Access-Control-Expose-Headers"].split(b", ")
    assert {b"Tortxd-Circuit", b"Tortxd-Error", b"X-Own", b"ETag"} < set(exposed)
    assert exposed.count(b"X-Own") == 1
    assert b"Access-Control-Allow-Credentials" not in cors
    assert admission.preflight is None


FOREIGN = [
    b"null",
    b"",
    b"*",
    b"https://evil.example",
    b"http://app.example",
    b"https://app.example:8443",
    b"https://app.example.evil.example",
    b"http://localhost.evil.example",
    b"http://evil.localhost",
    b"http://localhost@evil.example",
    b"http://localhost:5173/",
    b"http://localhost:",
    b"http://localhost http://evil.example",
    b"file://",
    b"ftp://localhost",
    b"http://127.0.0.1.evil.example",
    b"http://127.1",
    b"chrome-extension://abcdef",
    b"http://[::ffff:127.0.0.1]",
]


@pytest.mark.parametrize("kind", Audience)
@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("site", [None, b"same-origin", b"none"])
def test_foreign_origins(kind: Audience, origin: bytes, site: bytes | None) -> None:
    headers = [HOST, AS_OPERATOR, (b"Origin", origin)]
    headers += [(b"Sec-Fetch-Site", site)] if site else []
    with pytest.raises(ForbiddenOrigin):
        admit(*headers, kind=kind)
    assert POLICY.cors(gateway_fields(headers), []) == ()


NULL = AccessPolicy(allow_origins=frozenset({b"null"}), operator_token=OPERATOR_TOKEN)


def test_null_may_call_where_it_was_written_out() -> None:
    """Pages in a sandbox, and from files; any page can be such a one."""
    sandboxed = [HOST, (b"Origin", b"null"), (b"Sec-Fetch-Site", b"cross-site")]
    for kind in (PROXY, CLIENT):
        admission = admit(*sandboxed, policy=NULL, kind=kind, method=b"POST")
        assert admission.origin == b"null"
        assert (b"Access-Control-Allow-Origin", b"null") in admission.cors([])
    with pytest.raises(ForbiddenOrigin):
        admit(*sandboxed, AS_OPERATOR, policy=NULL, kind=OPERATOR)
    preflight = admit(*sandboxed, PREFLIGHT[2], policy=NULL, method=b"OPTIONS").preflight
    assert preflight is not None and (b"Access-Control-Allow-Origin", b"null") in preflight
    with pytest.raises(ForbiddenOrigin):
        admit(HOST, (b"Origin", b"https://app.example"), policy=NULL)


def test_two_origins_are_none() -> None:
    with pytest.raises(BadRequest):
        admit(HOST, OWN, (b"Origin", b"https://evil.example"))
    assert POLICY.cors(gateway_fields([OWN, APP]), []) == ()


@pytest.mark.parametrize("kind", [PROXY, CLIENT, OPERATOR])
@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"", b"Same-Origin", b"whatever"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_other_sites_without_an_origin(kind: Audience, site: bytes, method: bytes) -> None:
    """Images, forms and navigations of hostile pages; on those to the page, see below."""
    with pytest.raises(ForbiddenOrigin):
        admit(
            HOST,
            AS_OPERATOR,
            (b"Sec-Fetch-Site", site),
            (b"Sec-Fetch-Mode", b"navigate"),
            (b"Sec-Fetch-Dest", b"document"),
            kind=kind,
            method=method,
        )


@pytest.mark.parametrize("site", [b"same-origin", b"none"])
def test_what_the_user_types_passes(site: bytes) -> None:
    assert admit(HOST, (b"Sec-Fetch-Site", site)) == Caller()
    with pytest.raises(ForbiddenOrigin):
        admit(HOST, (b"Sec-Fetch-Site", site), (b"Sec-Fetch-Site", b"cross-site"))


@pytest.mark.parametrize("kind", Audience)
@pytest.mark.parametrize("site", [b"none", b"same-origin", b"cross-site", None])
def test_what_is_fetched_ahead_may_be_any_pages(kind: Audience, site: bytes | None) -> None:
    """A page's speculation rules make Chromium say that the user typed the address."""
    headers = [HOST, AS_OPERATOR, (b"Sec-Purpose", b"prefetch")]
    headers += [(b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document")]
    headers += [(b"Sec-Fetch-Site", site)] if site else []
    with pytest.raises(ForbiddenOrigin):
        admit(*headers, kind=kind)
    with pytest.raises(ForbiddenOrigin):
        POLICY.admit_options(gateway_fields(headers))


def navigate(
    *headers: tuple[bytes, bytes],
    kind: Audience = TO_PAGE,
    method: bytes = b"GET",
    mode: bytes = b"navigate",
    dest: bytes = b"document",
) -> Caller:
    fetched = [(b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", mode)]
    return admit(HOST, *fetched, (b"Sec-Fetch-Dest", dest), *headers, kind=kind, method=method)


def test_links_lead_to_the_page_and_no_further() -> None:
    """Whoever comes by one sees what clients do, unless the browser itself brings the cookie."""
    assert navigate() == Caller()
    assert navigate(AS_OPERATOR).operator
    for change in (
        {"mode": b"no-cors"},
        {"dest": b"iframe"},
        {"dest": b"embed"},
        {"method": b"POST"},
        {"method": b"HEAD"},
    ):
        with pytest.raises(ForbiddenOrigin):
            navigate(AS_OPERATOR, **change)  # type: ignore[arg-type]
    for kind in (PROXY, CLIENT, OPERATOR):
        with pytest.raises(ForbiddenOrigin):
            navigate(AS_OPERATOR, kind=kind)


# --- the page -------------------------------------------------------------------------------------


def test_the_page_is_for_clients() -> None:
    assert admit(HOST, kind=TO_PAGE) == Caller()
    assert admit(HOST, APP, kind=TO_PAGE) == Caller(APP[1])
    client = (b"Authorization", b"Bearer clients-token")
    admission = admit(HOST, client, kind=TO_PAGE, policy=WITH_TOKEN)
    assert admission == Caller(token=b"clients-token")
    for headers in ([], [(b"Tortxd-Token", b"wrong")]):
        with pytest.raises(Unauthorized, match=r"once with \?token=TOKEN"):
            admit(HOST, *headers, kind=TO_PAGE, policy=WITH_TOKEN)
    with pytest.raises(ForbiddenOrigin):
        admit(HOST, (b"Origin", b"https://evil.example"), kind=TO_PAGE)


@pytest.mark.parametrize("policy", [POLICY, WITH_TOKEN])
def test_operators_are_known_on_the_page(policy: AccessPolicy) -> None:
    for headers in ([], [OWN]):
        admission = admit(HOST, AS_OPERATOR, *headers, kind=TO_PAGE, policy=policy)
        assert admission.operator
        assert admission.token == OPERATOR_TOKEN
        assert admit(HOST, *headers, kind=TO_PAGE, policy=policy, given=OPERATOR_TOKEN).operator
    assert not admit(HOST, AS_OPERATOR, kind=CLIENT, policy=policy).operator


@pytest.mark.parametrize("given", [b"wrong", b"", b"clients-token"])
def test_a_token_in_its_address_must_be_an_operators(given: bytes) -> None:
    """Whatever else is presented."""
    for policy in (POLICY, WITH_TOKEN, AccessPolicy()):
        with pytest.raises(Unauthorized, match="not the operator token"):
            admit(HOST, AS_OPERATOR, kind=TO_PAGE, policy=policy, given=given)


def test_another_origin_is_never_an_operator_on_the_page() -> None:
    """Not even with the token: rule 4."""
    assert admit(HOST, APP, AS_OPERATOR, kind=TO_PAGE) == Caller(APP[1])
    with pytest.raises(ForbiddenOrigin, match="routes for operators"):
        admit(HOST, APP, kind=TO_PAGE, given=OPERATOR_TOKEN)


def test_where_nobody_is_an_operator() -> None:
    assert admit(HOST, AS_OPERATOR, kind=TO_PAGE, policy=AccessPolicy()) == Caller()


# --- routes for operators -------------------------------------------------------------------------


def test_operator_routes_answer_their_own_origin_alone() -> None:
    def ask(*headers: tuple[bytes, bytes]) -> Caller:
        return admit(HOST, AS_OPERATOR, *headers, kind=OPERATOR, method=b"POST")

    assert ask().token == OPERATOR_TOKEN
    assert ask(OWN).origin == OWN[1]
    assert ask(OWN, (b"Sec-Fetch-Site", b"same-origin")).origin == OWN[1]
    for headers in (
        [APP],
        [(b"Origin", b"http://localhost:5173")],
        [(b"Origin", b"http://127.0.0.1:3080")],
        [OWN, (b"Sec-Fetch-Site", b"cross-site")],
    ):
        with pytest.raises(ForbiddenOrigin):
            ask(*headers)


def test_the_own_origin_of_an_allowed_name_is_allowed() -> None:
    admission = admit((b"Host", b"GW.example:3080"), (b"Origin", b"http://gw.example:3080"))
    assert admission.origin == b"http://gw.example:3080"


@pytest.mark.parametrize("host", [b"10.244.0.5:3080", b"[fd00::5]:3080", b"93.184.216.34"])
@pytest.mark.parametrize("kind", Audience)
def test_the_own_origin_of_an_address_is_the_gateways(host: bytes, kind: Audience) -> None:
    own = b"http://" + host
    assert admit((b"Host", host), (b"Origin", own), AS_OPERATOR, kind=kind).origin == own
    for other in (
        b"http://10.244.0.5:3081",
        b"http://10.244.0.6:3080",
        b"http://evil.example:3080",  # which has rebound its name
        b"http://evil.example",
        b"http://[fd00:0::5]:3080",
    ):
        with pytest.raises(ForbiddenOrigin):
            admit((b"Host", host), (b"Origin", other), AS_OPERATOR, kind=kind)


def test_errors_can_be_read_by_allowed_origins() -> None:
    cors = dict(POLICY.cors(gateway_fields([APP]), [(b"X-Mine", b"1")]))
    assert cors[b"Access-Control-Allow-Origin"] == APP[1]
    assert b"X-Mine" in cors[b"Access-Control-Expose-Headers"]
    assert POLICY.cors({}, []) == ()


# --- preflights -----------------------------------------------------------------------------------

PREFLIGHT = [
    HOST,
    APP,
    (b"Access-Control-Request-Method", b"PURGE"),
    (b"Access-Control-Request-Headers", b"content-type,tortxd-token"),
]


def test_preflights_are_answered_without_a_token() -> None:
    policy = AccessPolicy(allow_origins=frozenset({APP[1]}), token=b"secret")
    admission = admit(*PREFLIGHT, policy=policy, method=b"OPTIONS")
    assert admission.preflight is not None
    assert dict(admission.preflight) == {
        b"Access-Control-Allow-Origin": APP[1],
        b"Access-Control-Allow-Methods": b"PURGE",
        b"Access-Control-Allow-Headers": b"content-type,tortxd-token",
        b"Access-Control-Max-Age": b"600",
        b"Vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_preflights_for_private_networks() -> None:
    ask = (b"Access-Control-Request-Private-Network", b"true")
    admission = admit(HOST, APP, PREFLIGHT[2], ask, method=b"OPTIONS")
    assert admission.preflight is not None
    assert (b"Access-Control-Allow-Private-Network", b"true") in admission.preflight
    assert b"Access-Control-Allow-Headers" not in dict(admission.preflight)


@pytest.mark.parametrize(
    ("headers", "kind", "error"),
    [
        ([HOST, (b"Origin", b"https://evil.example"), PREFLIGHT[2]], PROXY, ForbiddenOrigin),
        ([HOST, (b"Origin", b"null"), PREFLIGHT[2]], CLIENT, ForbiddenOrigin),
        (PREFLIGHT, OPERATOR, ForbiddenOrigin),
        ([HOST, APP, (b"Access-Control-Request-Method", b"GET, x")], PROXY, BadRequest),
        ([*PREFLIGHT, (b"Access-Control-Request-Headers", b"a:b")], PROXY, BadRequest),
    ],
)
def test_refused_preflights(
    headers: list[tuple[bytes, bytes]], kind: Audience, error: type[TortxdError]
) -> None:
    with pytest.raises(error):
        admit(*headers, kind=kind, method=b"OPTIONS")


def test_other_options_are_requests() -> None:
    assert admit(HOST, APP, method=b"OPTIONS").preflight is None
    assert admit(HOST, PREFLIGHT[2], method=b"OPTIONS") == Caller()


def test_what_a_route_takes_is_no_secret() -> None:
    """HAProxy asks OPTIONS / whether a server is there. To a destination it is a request."""
    for kind in (CLIENT, OPERATOR):
        assert admit(HOST, policy=WITH_TOKEN, method=b"OPTIONS", kind=kind) == Caller()
        for headers in ([(b"Host", b"evil.example")], [HOST, (b"Sec-Fetch-Site", b"cross-site")]):
            with pytest.raises((ForbiddenHost, ForbiddenOrigin)):
                admit(*headers, policy=WITH_TOKEN, method=b"OPTIONS", kind=kind)
    with pytest.raises(Unauthorized):
        admit(HOST, policy=WITH_TOKEN, method=b"OPTIONS")


# --- tokens ---------------------------------------------------------------------------------------

RIGHT = b"clients-token"


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        (PROXY, (b"Tortxd-Token", RIGHT)),
        (CLIENT, (b"tortxd-token", RIGHT)),
        (CLIENT, (b"Authorization", b"Bearer " + RIGHT)),
        (CLIENT, (b"Authorization", b"bearer  " + RIGHT)),
        (OPERATOR, (b"Authorization", b"Bearer " + OPERATOR_TOKEN)),
        (OPERATOR, AS_OPERATOR),
        (CLIENT, AS_OPERATOR),
        (PROXY, AS_OPERATOR),
    ],
)
def test_right_tokens(kind: Audience, header: tuple[bytes, bytes]) -> None:
    token = admit(HOST, header, policy=WITH_TOKEN, kind=kind).token
    assert token in (RIGHT, OPERATOR_TOKEN)
    assert header[1].endswith(token)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        (PROXY, []),
        (CLIENT, []),
        (OPERATOR, []),
        (PROXY, [(b"Authorization", b"Bearer " + RIGHT)]),
        (PROXY, [(b"Tortxd-Token", b"")]),
        (PROXY, [(b"Tortxd-Token", RIGHT[:-1])]),
        (PROXY, [(b"Tortxd-Token", RIGHT + b"x")]),
        (PROXY, [(b"Tortxd-Token", b"\xff")]),
        (CLIENT, [(b"Authorization", b"Basic " + RIGHT)]),
        (CLIENT, [(b"Authorization", RIGHT)]),
        (OPERATOR, [(b"Tortxd-Token", RIGHT)]),
    ],
)
def test_wrong_tokens(kind: Audience, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthorized) as caught:
        admit(HOST, *headers, policy=WITH_TOKEN, kind=kind)
    assert caught.value.status == 401


def test_without_an_operator_token_nobody_is_an_operator() -> None:
    policy = AccessPolicy()
    for token in (b"", b"None", OPERATOR_TOKEN):
        with pytest.raises(Unauthorized):
            admit(HOST, (b"Tortxd-Token", token), policy=policy, kind=OPERATOR)


def test_a_token_is_no_caller_where_none_is_set() -> None:
    assert admit(HOST, (b"Tortxd-Token", b"whatever")) == Caller()


def test_reprs_do_not_show_tokens() -> None:
    shown = repr(WITH_TOKEN) + repr(admit(HOST, AS_OPERATOR, policy=WITH_TOKEN))
    assert "clients-token" not in shown
    assert "operators-token" not in shown


VALUES = st.sampled_from(
    [b"localhost", b"http://localhost", b"null", b"cross-site", b"none", b"evil.example", b"GET"]
) | st.binary(max_size=12)
NAMES = st.sampled_from(
    [
        b"Host",
        b"Origin",
        b"Sec-Fetch-Site",
        b"Sec-Fetch-Mode",
        b"Tortxd-Token",
        b"Authorization",
        b"Access-Control-Request-Method",
    ]
)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.sampled_from([b"GET", b"OPTIONS"]),
    st.sampled_from(Audience),
)
def test_whoever_is_admitted_may_ask(
    headers: list[tuple[bytes, bytes]], method: bytes, kind: Audience
) -> None:
    try:
        admission = admit(*headers, policy=WITH_TOKEN, method=method, kind=kind)
    except TortxdError as error:
        assert error.status in (400, 401, 403)
        return
    assert [v for n, v in headers if n == b"Host"] in ([b"localhost"],)
    assert b"null" not in [v for n, v in headers if n == b"Origin"]
    if kind is PROXY or method != b"OPTIONS":
        assert admission.preflight is not None or admission.token in (RIGHT, OPERATOR_TOKEN)


# --- headers that nobody knows --------------------------------------------------------------------

UNKNOWN = (b"Tortxd-Isolation", b"alice")
JUDGED_BEFORE: list[tuple[list[tuple[bytes, bytes]], type[TortxdError]]] = [
    ([(b"Host", b"evil.example")], ForbiddenHost),
    ([HOST, (b"Origin", b"https://evil.example")], ForbiddenOrigin),
    ([HOST, (b"Sec-Fetch-Site", b"cross-site")], ForbiddenOrigin),
]


@pytest.mark.parametrize("kind", Audience)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_a_header_that_nobody_knows_is_refused_everywhere(kind: Audience, method: bytes) -> None:
    with pytest.raises(BadRequest, match=r"Did you mean Tor-Stream-Isolation\?"):
        admit(HOST, UNKNOWN, AS_OPERATOR, kind=kind, method=method)
    with pytest.raises(BadRequest, match="Tortxd-Isolation is not"):
        POLICY.admit_proxy_mode(gateway_fields([HOST, UNKNOWN]))
    with pytest.raises(BadRequest, match="Tortxd-Isolation is not"):
        POLICY.admit_options(gateway_fields([HOST, UNKNOWN]))


@pytest.mark.parametrize(("headers", "error"), JUDGED_BEFORE)
def test_foreign_callers_are_told_that_they_are(
    headers: list[tuple[bytes, bytes]], error: type[TortxdError]
) -> None:
    with pytest.raises(error):
        admit(*headers, UNKNOWN)


def test_a_mistyped_token_is_named_rather_than_missed() -> None:
    with pytest.raises(BadRequest, match=r"Did you mean Tortxd-Token\?"):
        admit(HOST, (b"Tortxd-Tokn", b"clients-token"), policy=WITH_TOKEN)


def test_a_preflight_may_list_one() -> None:
    """The request that follows is told."""
    listed = (b"Access-Control-Request-Headers", b"tortxd-isolation")
    asked = (b"Access-Control-Request-Method", b"GET")
    admission = admit(HOST, APP, asked, listed, method=b"OPTIONS")
    assert admission.preflight is not None
    assert (b"Access-Control-Allow-Headers", b"tortxd-isolation") in admission.preflight
