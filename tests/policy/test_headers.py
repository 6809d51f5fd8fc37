"""What leaves, what comes back (rules 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadResponse
from tortxd.policy.documents import shown_as
from tortxd.policy.headers import (
    TOR_BROWSER_LANGUAGE,
    TOR_BROWSER_USER_AGENT,
    UserAgent,
    incoming,
    incoming_proxy_mode,
    outgoing,
    outgoing_proxy_mode,
)
from tortxd.policy.target import TargetPolicy

Pairs = list[tuple[bytes, bytes]]

KEEP = UserAgent.of("keep")
POLICY = TargetPolicy()
TARGET = POLICY.parse("https://origin.test.example/dir/page?q")

HOP_BY_HOP = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
    b"HTTP2-Settings",
]
FRAMING = [*HOP_BY_HOP, b"Content-Length", b"Expect"]
NEVER_SENT = [
    *FRAMING,
    b"Host",
    b"Forwarded",
    b"X-Forwarded",
    b"X-Forwarded-For",
    b"X_Forwarded_For",
    b"X-Forwarded-Proto",
    b"Via",
    b"Proxy-Authorization",
    b"Proxy-Anything",
    b"Tor-Stream-Isolation",
    b"X-Tor-Stream-Isolation",
    b"X-Tor-Else",
    b"Tor-Anything",
    b"Tortxd-Token",
    b"Tortxd-Anything",
]
OF_USERS = [
    b"X-Auth-Request-Email",
    b"X-Auth-Request-User",
    b"Cf-Access-Authenticated-User-Email",
    b"Cf-Access-Jwt-Assertion",
    b"Tailscale-User-Login",
    b"Tailscale-User-Name",
    b"X-Goog-Authenticated-User-Email",
    b"X-Goog-IAP-JWT-Assertion",
    b"X-MS-Client-Principal",
    b"X-MS-Client-Principal-Name",
    b"X-MS-Token-AAD-Id-Token",
    b"X-Amzn-Oidc-Identity",
    b"Remote-Email",
    b"Remote-Name",
    b"Remote-Groups",
    b"REMOTE_USER",
    b"X-Remote-User",
    b"X-Remote-Group",
    b"X-Authenticated-User",
    b"X-WebAuth-User",
    b"X-Pomerium-Claim-Email",
    b"X-Pomerium-Jwt-Assertion",
    b"X-Vouch-User",
    b"X-Vouch-IdP-Claims-Email",
    b"X-Authentik-Username",
    b"Shib-Session-ID",
    b"X-Device-User-Agent",
    b"X-OperaMini-Phone-UA",
]
"""What proxies that log users in, and networks of telephones, say of whom they serve."""
OF_THE_WAY = [
    b"X-RealIP",
    b"X-RemoteIP",
    b"X-RemoteAddr",
    b"X-Source-IP",
    b"X-UserIP",
    b"X-User-IP",
    b"X-IP-Addr",
    b"HTTP-X-Forwarded-For",
    b"Z-Forwarded-For",
    b"X-IMForwards",
    b"X-Bluecoat-Via",
    b"X-Client-Geo-Location",
    b"X-GeoIP-Country",
    b"X-Geo-City",
    b"X-NF-Geo",
    b"X-Akamai-Edgescape",
    b"CDN-RequestCountryCode",
]
"""Where the client is, as proxies and CDNs say."""
IDENTIFYING = [
    b"Origin",
    b"Referer",
    b"Cookie",
    b"X-Real-IP",
    b"Sec-Fetch-Site",
    b"Sec-CH-UA",
    b"Sec-GPC",
    b"Sec-WebSocket-Key",
    # What else browsers say by themselves.
    b"Cookie2",
    b"Set-Cookie",
    b"Access-Control-Request-Method",
    b"Access-Control-Request-Headers",
    b"Access-Control-Request-Private-Network",
    b"Ping-From",
    b"Ping-To",
    b"Available-Dictionary",
    b"Dictionary-ID",
    b"X-Client-Data",
    b"Device-Memory",
    b"DPR",
    b"Viewport-Width",
    b"Save-Data",
    # What stands between the user and the gateway.
    b"From",
    b"Forwarded-For",
    b"X-Forward-For",
    b"Client-IP",
    b"X-Client-IP",
    b"True-Client-IP",
    b"Fastly-Client-IP",
    b"CF-Connecting-IP",
    b"CF-Connecting-IPv6",
    b"CF-IPCountry",
    b"X-Cluster-Client-IP",
    b"X-Azure-ClientIP",
    b"X-Azure-SocketIP",
    b"WL-Proxy-Client-IP",
    b"X-ProxyUser-IP",
    b"X-Originating-IP",
    b"X-Remote-IP",
    b"X-Remote-Addr",
    b"X-Envoy-External-Address",
    b"CloudFront-Viewer-Address",
    b"X-Original-Forwarded-For",
    b"X-Original-Host",
    b"X_Real_IP",
    b"HTTP_CLIENT_IP",
    b"Remote-User",
    b"Client-Cert",
    b"X-SSL-Client-S-DN",
    b"CDN-Loop",
    b"X-MSISDN",
    b"X-Up-Calling-Line-ID",
    b"X-UIDH",
    b"X-Wap-Profile",
    *OF_USERS,
    *OF_THE_WAY,
]
PASSING = [
    b"Authorization",
    b"Content-Type",
    b"Content-Encoding",
    b"Accept",
    b"Accept-Encoding",
    b"Range",
    b"If-None-Match",
    b"X-Api-Key",
    b"X-Requested-With",
    b"DNT",
    b"Security-Token",
    b"Torrent",
    b"Viaduct",
    b"apikey",
    b"X-CSRF-Token",
    b"Idempotency-Key",
    b"Prefer",
    b"Accept-Charset",
    b"Last-Event-ID",
    b"X-HTTP-Method-Override",
    b"X-User-Agent",
    b"X-Goog-Api-Client",
    b"traceparent",
    b"X-Request-ID",
    b"CF-Access-Client-Id",
    b"CF-Access-Client-Secret",
    b"CF-Turnstile-Response",
    b"Fastly-Key",
    b"X-Client-Id",
    b"X-Client-Version",
    b"X-Device-Id",
    b"X-Original-Filename",
    b"X-Wallet-Address",
    b"X-User-Id",
    b"X-Zip",
    b"X-Ownership",
    b"X-Relationship",
    b"Fromage",
    b"Widths",
    # Credentials of the program's own, at services whose proxies say who the user is.
    b"CF-Access-Token",
    b"X-Vouch-Token",
    b"X-Pomerium-Authorization",
    b"X-Auth-Token",
    b"X-Auth-User",
    b"X-Auth-Email",
    b"X-Auth-Key",
    # Parameters of apps, whose names are like those of proxies.
    b"X-Source-Id",
    b"X-Source",
    b"X-User-Email",
    b"X-User-Address",
    b"X-Country",
    b"X-Country-Code",
    b"X-City",
    b"X-Oxylabs-Geo-Location",
    b"X-MS-Client-Request-Id",
    b"X-MS-Version",
    b"X-Goog-AuthUser",
    b"X-Goog-User-Project",
    b"X-Amz-Date",
    b"X-Amz-Source-Identity",
    b"X-WebAuthn-Challenge",
    b"X-Geometry",
    b"X-Report",
    b"X-Image-Source",
    b"Akamai-BM-Telemetry",
    b"HTTP-Referer",
    b"Tailscale-Webhook-Signature",
    b"Authentication",
    b"X-Authentication-Method",
]


@pytest.mark.parametrize("spelled", [bytes, bytes.lower, lambda name: name.replace(b"-", b"_")])
def test_every_name_that_identifies_stays_behind_and_no_other(
    spelled: Callable[[bytes], bytes],
) -> None:
    sent = [(spelled(name), b"value") for name in (*NEVER_SENT, *IDENTIFYING, *PASSING)]
    passed = [name for name, _ in outgoing(sent, user_agent=KEEP)]
    assert passed == [spelled(name) for name in PASSING]


def names_of(headers: Pairs) -> list[bytes]:
    return [name.lower() for name, _ in headers]


def cased(name: bytes, upper: int) -> bytes:
    """The name with its n-th letter in upper case where the n-th bit is set."""
    return bytes(
        ord(chr(c).upper() if upper >> n & 1 else chr(c).lower()) for n, c in enumerate(name)
    )


def headers_of(names: list[bytes]) -> st.SearchStrategy[Pairs]:
    upper = st.integers(0, (1 << max(map(len, names))) - 1)
    anyone = st.builds(cased, st.sampled_from(names), upper)
    return st.lists(st.tuples(anyone, st.binary(max_size=4)), max_size=15)


@given(headers_of([*NEVER_SENT, *IDENTIFYING, *PASSING]))
def test_nothing_identifying_leaves_in_any_case_and_order_stays(headers: Pairs) -> None:
    headers = [(n, b"close" if n.lower() == b"connection" else v) for n, v in headers]
    passing = {name.lower() for name in PASSING}
    kept = [(name, value) for name, value in headers if name.lower() in passing]
    assert outgoing(headers, user_agent=KEEP) == kept


@given(headers_of([*NEVER_SENT, *IDENTIFYING, *PASSING]))
def test_proxy_mode_leaves_the_rest_alone(headers: Pairs) -> None:
    headers = [(n, b"keep-alive" if n.lower() == b"connection" else v) for n, v in headers]
    passing = {name.lower() for name in PASSING + IDENTIFYING}
    kept = [(name, value) for name, value in headers if name.lower() in passing]
    assert outgoing_proxy_mode(headers) == kept


def test_nothing_is_added() -> None:
    for setting in ("auto", "tor-browser", "keep", "mine/1.0"):
        assert outgoing([], user_agent=UserAgent.of(setting)) == []
    assert outgoing_proxy_mode([]) == []


@pytest.mark.parametrize("send", [lambda h: outgoing(h, user_agent=KEEP), outgoing_proxy_mode])
def test_what_connection_lists_is_dropped_wherever_it_stands(send) -> None:  # type: ignore[no-untyped-def]
    headers = [
        (b"X-One", b"1"),
        (b"Connection", b"close, x-ONE ,\tX-Two"),
        (b"X-Two", b"2"),
        (b"X-Three", b"3"),
        (b"connection", b"X-Four"),
        (b"X-Four", b"4"),
    ]
    assert send(headers) == [(b"X-Three", b"3")]
    assert incoming_proxy_mode(headers) == [(b"X-Three", b"3")]


def test_an_upgrade_keeps_its_websocket_headers() -> None:
    headers = [
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", b"k"),
        (b"SEC-WEBSOCKET-PROTOCOL", b"p"),
        (b"Sec-Fetch-Mode", b"websocket"),
        (b"Origin", b"http://localhost"),
    ]
    assert outgoing(headers, user_agent=KEEP, websocket=True) == headers[1:3]


CLIENT = [(b"user-agent", b"mine"), (b"Accept", b"*/*"), (b"Accept-Language", b"de")]
DISGUISED = [
    (b"user-agent", TOR_BROWSER_USER_AGENT),
    (b"Accept", b"*/*"),
    (b"Accept-Language", TOR_BROWSER_LANGUAGE),
]


@pytest.mark.parametrize(
    ("setting", "browser", "expected"),
    [
        ("auto", [], CLIENT),
        ("auto", [(b"Origin", b"http://localhost:5173")], DISGUISED),
        ("auto", [(b"SEC-FETCH-SITE", b"none")], DISGUISED),
        ("tor-browser", [], DISGUISED),
        ("keep", [(b"Origin", b"http://localhost:5173")], CLIENT),
        ("own/1", [], [(b"user-agent", b"own/1"), *DISGUISED[1:]]),
    ],
)
def test_user_agent(setting: str, browser: Pairs, expected: Pairs) -> None:
    user_agent = UserAgent.of(setting)
    assert outgoing(CLIENT + browser, user_agent=user_agent) == expected
    assert outgoing(browser + CLIENT, user_agent=user_agent) == expected
    assert outgoing(browser, user_agent=user_agent) == []


# --- responses ------------------------------------------------------------------------------------

SAFETY = [
    (b"Content-Security-Policy", b"sandbox; default-src 'none'"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
    (b"Cache-Control", b"no-store"),
]
NEVER_RETURNED = [
    *HOP_BY_HOP,
    b"Content-Length",
    b"Set-Cookie",
    b"Set-Cookie2",
    b"Clear-Site-Data",
    b"Service-Worker-Allowed",
    b"Strict-Transport-Security",
    b"Alt-Svc",
    b"Refresh",
    b"NEL",
    b"Report-To",
    b"Reporting-Endpoints",
    b"Access-Control-Allow-Origin",
    b"Access-Control-Anything",
    b"WWW-Authenticate",
    b"Proxy-Authenticate",
    b"Link",
    b"Proxy-Status",
    b"Tortxd-Error",
    b"Tortxd-Exit",
    b"Tor-Request-Failed",
    b"Speculation-Rules",
    b"SourceMap",
    b"Content-Security-Policy",
    b"Content-Security-Policy-Report-Only",
    b"X-Content-Type-Options",
    b"Referrer-Policy",
    b"Cache-Control",
    b"Set-Login",
    b"Set-Anything",
    b"Use-As-Dictionary",
    b"Activate-Storage-Access",
    b"Shared-Storage-Write",
    b"Ad-Auction-Allowed",
    b"Ad-Auction-Anything",
    b"Observe-Browsing-Topics",
    b"Supports-Loading-Mode",
    b"No-Vary-Search",
    b"Accept-CH",
    b"Critical-CH",
    b"Document-Policy",
    b"Document-Policy-Report-Only",
    b"Document-Isolation-Policy",
    b"Feature-Policy",
    b"Permissions-Policy",
    b"Integrity-Policy",
    b"Integrity-Policy-Report-Only",
    b"Cross-Origin-Opener-Policy",
    b"Cross-Origin-Opener-Policy-Report-Only",
    b"Cross-Origin-Embedder-Policy",
    b"Cross-Origin-Resource-Policy",
    b"Connection-Allowlist",
    b"A-Policy-Of-Tomorrow-Report-Only",
    b"Tomorrows-Policy",
    b"Expect-CT",
    b"Public-Key-Pins",
    b"Public-Key-Pins-Report-Only",
    b"Timing-Allow-Origin",
    b"Origin-Trial",
    b"Origin-Agent-Cluster",
    b"P3P",
    b"Sec-Session-Registration",
    b"Secure-Session-Registration",
    b"Sec-Anything",
    b"Attribution-Reporting-Register-Source",
    b"On-Prefetch-Activation",
    b"Allow-CSP-From",
    b"X-XSS-Protection",
]
RETURNED = [
    b"Server",
    b"Date",
    b"ETag",
    b"Vary",
    b"Content-Encoding",
    b"X-Powered-By",
    b"Linkage",
    b"Allow",
    b"Content-Disposition",
    b"Content-Language",
    b"Server-Timing",
    b"Retry-After",
    b"RateLimit",
    b"RateLimit-Policy",
    b"X-RateLimit-Remaining",
    b"X-Retention-Policy",
    b"X-Total-Count",
    b"X-Frame-Options",
    b"X-Request-Id",
    b"Sec-WebSocket-Accept",
]


def back(headers: Pairs, status: int = 200, dest: bytes | None = None) -> Pairs:
    return incoming(headers, status=status, sec_fetch_dest=dest, target=TARGET, policy=POLICY)


@given(headers_of([*NEVER_RETURNED, *RETURNED]))
def test_nothing_dangerous_comes_back_in_any_case_and_order_stays(headers: Pairs) -> None:
    headers = [(n, b"close" if n.lower() == b"connection" else v) for n, v in headers]
    passing = {name.lower() for name in RETURNED}
    kept = [(name, value) for name, value in headers if name.lower() in passing]
    assert back(headers, 204) == kept + SAFETY


@given(headers_of([*NEVER_RETURNED, *RETURNED]))
def test_proxy_mode_drops_little(headers: Pairs) -> None:
    headers = [(n, b"close" if n.lower() == b"connection" else v) for n, v in headers]
    dropped = {n.lower() for n in HOP_BY_HOP} | {b"content-length"}
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and not name.lower().startswith((b"proxy-", b"tortxd-"))
    ]
    assert incoming_proxy_mode(headers) == kept


@pytest.mark.parametrize(
    ("status", "added"), [(200, True), (404, True), (301, True), (204, False), (304, False)]
)
def test_a_missing_type_is_opaque(status: int, added: bool) -> None:
    expected = [(b"Content-Type", b"application/octet-stream")] if added else []
    assert back([], status) == expected + SAFETY


def test_a_type_that_connection_takes_away_is_missing() -> None:
    headers = [(b"Content-Type", b"text/html"), (b"Connection", b"content-type, cache-control")]
    assert back(headers) == [(b"Content-Type", b"application/octet-stream"), *SAFETY]


SHOWN = [
    (b"text/html", b"text/plain"),
    (b"TEXT/HTML; Charset=UTF-8", b"text/plain; charset=UTF-8"),
    (b'text/html;charset="shift_jis"; x=y', b"text/plain; charset=shift_jis"),
    (b"application/xhtml+xml", b"text/plain"),
    (b"image/svg+xml", b"text/plain"),
    (b"text/xml", b"text/plain"),
    (b"application/xml", b"text/plain"),
    (b"application/rss+xml;charset=utf-8", b"text/plain; charset=utf-8"),
    (b"text/xsl", b"text/plain"),
    (b"multipart/x-mixed-replace; boundary=x", b"text/plain"),
    (b"text/plain, text/html", b"text/plain"),
    (b"image/png,text/html;charset=x", b"text/plain; charset=x"),
    (b"text/html; charset=utf-7", b"text/plain; charset=utf-7"),
    (b"multipart/related; boundary=x; type=text/html", b"text/plain"),
    (b"multipart/mixed", b"text/plain"),
    (b"message/rfc822", b"text/plain"),
    (b"message/http", b"text/plain"),
    (b"text/rdf", b"text/plain"),
    (b"text/xml-external-parsed-entity", b"text/plain"),
    (b"application/xml-external-parsed-entity", b"text/plain"),
    (b"application/xml-dtd", b"text/plain"),
    (b"application/http-index-format", b"text/plain"),
    (b"text/css", b"text/plain"),
    (b"text/javascript;charset=utf-8", b"text/plain; charset=utf-8"),
    (b"application/x-javascript", b"text/plain"),
    (b"text/vtt", b"text/plain"),
    (b"text/cache-manifest", b"text/plain"),
    (b"text/calendar", b"text/plain"),
    (b"application/x-ns-proxy-autoconfig", b"text/plain"),
    (b"application/json", b"text/plain; charset=utf-8"),
    (b"application/json; charset=latin1", b"text/plain; charset=utf-8"),
    (b"application/ld+json", b"text/plain; charset=utf-8"),
    (b"application/json, text/html", b"text/plain"),
    (b"image/svg", b"text/plain"),
    (b"application/signed-exchange;v=b3", b"application/octet-stream"),
    (b"application/pdf", b"application/octet-stream"),
    (b"application/x-mpegurl", b"application/octet-stream"),
    (b"audio/mpegurl", b"application/octet-stream"),
    (b"application/vnd.apple.mpegurl", b"application/octet-stream"),
    (b"application/wasm", b"application/octet-stream"),
    (b"application/x-shockwave-flash", b"application/octet-stream"),
    (b"application/x-xpinstall", b"application/octet-stream"),
    (b"application/x-x509-user-cert", b"application/octet-stream"),
    (b"image/x-unknown", b"application/octet-stream"),
    (b"font/woff2", b"application/octet-stream"),
    (b"", b"application/octet-stream"),
    (b"html", b"application/octet-stream"),
    (b"text/", b"application/octet-stream"),
    (b"*/*,", b"application/octet-stream"),
    (b"image/png,", b"application/octet-stream"),
    (b"text/plain,", b"text/plain"),
    (b"text/plain; charset=utf-8", b"text/plain; charset=utf-8"),
    (b"image/png", b"image/png"),
    (b"IMAGE/JPEG; x=y", b"IMAGE/JPEG; x=y"),
    (b"video/mp4", b"video/mp4"),
    (b"audio/mpeg, audio/ogg", b"audio/mpeg, audio/ogg"),
    (b"application/octet-stream", b"application/octet-stream"),
    (
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        b"application/octet-stream",
    ),
]


@pytest.mark.parametrize(
    "dest", [b"document", b"iframe", b"frame", b"fencedframe", b"embed", b"object"]
)
def test_what_is_not_on_the_list_is_shown_as_text_or_not_at_all(dest: bytes) -> None:
    for given_type, shown in SHOWN:
        headers = [(b"content-TYPE", given_type)]
        assert back(headers, dest=dest) == [(b"content-TYPE", shown), *SAFETY], given_type


@pytest.mark.parametrize("dest", [None, b"empty", b"image", b"script"])
def test_elsewhere_types_stay(dest: bytes | None) -> None:
    for given_type, _ in SHOWN:
        headers = [(b"Content-Type", given_type)]
        assert back(headers, dest=dest) == headers + SAFETY


def test_every_one_of_several_types_counts() -> None:
    headers = [(b"Content-Type", b"text/plain"), (b"Content-Type", b"text/html")]
    plain = (b"Content-Type", b"text/plain")
    assert back(headers, dest=b"document") == [plain, plain, *SAFETY]


def test_locations_lead_through_the_gateway() -> None:
    headers = [(b"Location", b"/next"), (b"Content-Location", b"https://other.example/x")]
    kept = back(headers, 201)
    assert kept[:3] == [
        (b"Tortxd-Location", b"/next"),
        (b"Location", b"/proxy?url=https%3A%2F%2Forigin.test.example%2Fnext"),
        (b"Content-Location", b"/proxy?url=https%3A%2F%2Fother.example%2Fx&redirected=1"),
    ]


def test_two_locations_are_none() -> None:
    with pytest.raises(BadResponse):
        back([(b"Location", b"/a"), (b"location", b"/b")], status=302)


@given(st.lists(st.sampled_from([given_type for given_type, _ in SHOWN]), min_size=1, max_size=3))
def test_a_list_of_types_is_what_its_worst_member_is(types: list[bytes]) -> None:
    shown = shown_as(b", ".join(types))
    assert (
        shown.startswith(b"text/plain")
        or shown == b"application/octet-stream"
        or all(shown_as(one) == one for one in types)
    )


def test_a_wildcard_is_no_type() -> None:
    shown = back([(b"Content-Type", b"*/*")], dest=b"iframe")
    assert shown[0] == (b"Content-Type", b"application/octet-stream")


def test_once_redirected_stays_redirected() -> None:
    kept = incoming(
        [(b"Location", b"/next")],
        status=302,
        sec_fetch_dest=None,
        target=TARGET,
        policy=POLICY,
        redirected=True,
        mount=b"/tor/proxy",
    )
    link = b"/tor/proxy?url=https%3A%2F%2Forigin.test.example%2Fnext&redirected=1"
    assert (b"Location", link) in kept


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=20)), max_size=8),
    st.sampled_from([None, b"document"]),
)
def test_what_the_gateway_adds_is_there_once_whatever_comes(
    headers: Pairs, dest: bytes | None
) -> None:
    try:
        names = names_of(back(headers, dest=dest))
    except BadResponse:
        return  # Locations that differ: nothing of it is shown
    for name, _ in SAFETY:
        assert names.count(name.lower()) == 1
    assert b"content-type" in names
