"""Headers from bytes to bytes: what a rule drops has no spelling that gets through."""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import urljoin, urlsplit

from hypothesis import event
from hypothesis import strategies as st

from tests.fuzz import second_opinion
from tests.fuzz.addresses import REFERENCES
from tests.fuzz.cutting import SPOILING, Spoiling, spoil
from tests.fuzz.messages import mostly
from tests.fuzz.profile import fuzzed
from tortxd.errors import BadRequest, BadResponse, TortxdError
from tortxd.policy.directives import Directives, read_directives
from tortxd.policy.headers import (
    UserAgent,
    incoming,
    incoming_proxy_mode,
    outgoing,
    outgoing_proxy_mode,
)
from tortxd.policy.request import gateway_fields
from tortxd.policy.target import TargetPolicy
from tortxd.wire.http1 import Headers, RequestReader, ResponseReader, head_bytes

TARGET = TargetPolicy().parse("https://a.example/dir/page?q")

# As the rules have them, word for word.
HOP_BY_HOP = (
    "connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|content-length"
)
RULE_6 = re.compile(
    f"{HOP_BY_HOP}|origin|referer|cookie|forwarded|x-forwarded-.*|x-real-ip|via|from|ping-.*"
    "|cookie2|.*-client-ip|remote-.*|.*authenticated-user.*|.*forwarded.*"
    "|proxy-.*|sec-.*|tor-.*|x-tor-.*|tortxd-.*"
    # The same as destinations with variables for names see them.
    "|x_forwarded_.*|x_real_ip|.*_client_ip"
)
RULE_6_PROXY_MODE = re.compile(
    f"{HOP_BY_HOP}|proxy-.*|forwarded|x-forwarded-.*|via|tor-.*|x-tor-.*|tortxd-.*"
)
RULE_5 = re.compile(
    f"{HOP_BY_HOP}|set-cookie|clear-site-data|service-worker-allowed|strict-transport-security"
    "|alt-svc|refresh|nel|report-to|reporting-endpoints|access-control-.*|www-authenticate|link"
    "|proxy-status|tortxd-.*|set-.*|.*-policy-report-only|cross-origin-.*"
)
RULE_5_PROXY_MODE = re.compile(f"{HOP_BY_HOP}|proxy-status|tortxd-.*")
SHOWN = ("text/plain", "application/octet-stream", "image/png")
ADDED = {
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-dns-prefetch-control": "off",
    "cache-control": "no-store",
}

_NAMES = (
    "Set-Cookie",
    "Clear-Site-Data",
    "Service-Worker-Allowed",
    "Strict-Transport-Security",
    "Alt-Svc",
    "Refresh",
    "NEL",
    "Report-To",
    "Reporting-Endpoints",
    "Access-Control-Allow-Origin",
    "WWW-Authenticate",
    "Link",
    "Proxy-Status",
    "Tortxd-Error",
    "Tortxd-Location",
    "Content-Security-Policy",
    "Cache-Control",
    "Origin",
    "Referer",
    "Cookie",
    "Forwarded",
    "X-Forwarded-For",
    "X-Real-IP",
    "Via",
    "Proxy-Authorization",
    "Sec-Fetch-Site",
    "Sec-WebSocket-Key",
    "From",
    "Ping-From",
    "Ping-To",
    "Cookie2",
    "X-Client-IP",
    "True-Client-IP",
    "X_Forwarded_For",
    "Remote-Email",
    "X-Authenticated-User",
    "HTTP-X-Forwarded-For",
    "Set-Login",
    "Cross-Origin-Opener-Policy",
    "Tor-Stream-Isolation",
    "X-Tor-Stream-Isolation",
    "Tortxd-Token",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Upgrade",
    "Proxy-Connection",
    "Location",
    "Content-Location",
    "Content-Type",
    "User-Agent",
    "Accept-Language",
    "Authorization",
    "X-Own",
    "Accept",
    "ETag",
)


def _cased(name: str, upper: list[bool]) -> bytes:
    flags = upper or [False]
    letters = [c.upper() if flags[n % len(flags)] else c.lower() for n, c in enumerate(name)]
    return "".join(letters).encode()


_NAME = st.builds(_cased, st.sampled_from(_NAMES), st.lists(st.booleans(), max_size=5))
_SPELLED = st.builds(
    lambda before, name, after: before + name + after,
    mostly((b"",), (b" ", b"\t", b"\x00", b"_", b"\r\n ", b"X: y\r", b"X: y\n", b"\x0b"), 10),
    _NAME,
    mostly(
        (b": ", b":"), (b" : ", b"\t:", b"", b"\x00: ", b"_:", b"\r\n :", b":\r\n ", b":\x0b"), 10
    ),
)
_LISTED = st.lists(_NAME | st.sampled_from((b"close", b"", b"keep-alive", b" x-own\t")), max_size=3)
_FIELD = st.one_of(
    st.tuples(
        _SPELLED,
        st.sampled_from(
            (
                b"x",
                *(b"", b"text/html", b"image/png", b"multipart/related", b"text/plain;a, text/rdf"),
                *(b"a, b", b"\xff", b"http://b.example/"),
            )
        ),
    ),
    st.tuples(_SPELLED, REFERENCES),
    _LISTED.map(lambda names: (b"Connection: ", b",".join(names))),
).map(b"".join)
FIELDS = st.lists(_FIELD, max_size=6).map(lambda lines: b"".join([one + b"\r\n" for one in lines]))


def sent(headers: Headers) -> dict[str, list[str]]:
    """What another reader finds in a head with these headers."""
    message = second_opinion.request(head_bytes(b"GET / HTTP/1.0", headers))
    assert message is not None
    found: dict[str, list[str]] = {}
    for name, value in message.headers:
        found.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
    assert sum(map(len, found.values())) == len(headers)
    return found


def listed(headers: Headers) -> set[str]:
    """The names that Connection lists."""
    values = [value.decode("latin-1") for name, value in headers if name.lower() == b"connection"]
    return {name.strip(" \t").lower() for value in values for name in value.split(",")}


@fuzzed(110, fields=FIELDS, spoiling=SPOILING, websocket=st.booleans())
def test_rule_06_no_spelling_gets_a_header_out(
    fields: bytes, spoiling: Spoiling, websocket: bool
) -> None:
    """From the client's bytes to those that leave, read by another parser."""
    data = b"GET / HTTP/1.1\r\n" + spoil(fields, spoiling).strip(b"\r\n") + b"\r\n\r\n"
    try:
        head = RequestReader().feed(data)
    except TortxdError:
        event("is refused")
        return
    if head is None:
        return
    event("is read")
    gone = listed(head.headers)
    out = sent(outgoing(head.headers, user_agent=UserAgent.of("auto"), websocket=websocket))
    for name in out:
        passes = websocket and name.startswith("sec-websocket-")
        assert passes or not RULE_6.fullmatch(name)
        assert name not in gone
    for name in sent(outgoing_proxy_mode(head.headers)):
        assert not RULE_6_PROXY_MODE.fullmatch(name)
        assert name not in gone


@fuzzed(110, fields=FIELDS, spoiling=SPOILING, document=st.booleans())
def test_rule_05_no_spelling_gets_a_header_in(
    fields: bytes, spoiling: Spoiling, document: bool
) -> None:
    """From the destination's bytes to those that a browser gets, read by another parser."""
    data = b"HTTP/1.1 302 x\r\n" + spoil(fields, spoiling).strip(b"\r\n") + b"\r\n\r\n"
    try:
        head = ResponseReader(b"GET").feed(data)
        assert head is not None
        headers = incoming(
            head.headers,
            status=head.status,
            sec_fetch_dest=b"iframe" if document else b"empty",
            target=TARGET,
            policy=TargetPolicy(),
        )
    except BadResponse:
        event("is refused")
        return
    event("is read")
    found = sent(headers)
    for name, values in found.items():
        if name != "tortxd-location":
            assert not RULE_5.fullmatch(name)
        if name in ADDED:
            assert values == [ADDED[name]]
        elif name in ("location", "content-location"):
            for value in values:
                there = urlsplit(urljoin("http://localhost:3080/proxy?url=x", value))
                assert (there.netloc, there.path) == ("localhost:3080", "/proxy")
        elif name == "content-type" and document:
            assert all(value.partition(";")[0].lower() in SHOWN for value in values)
    assert set(ADDED) | {"content-type"} <= set(found)
    assert len(found.get("location", ())) <= 1
    for name in sent(incoming_proxy_mode(head.headers)):
        assert not RULE_5_PROXY_MODE.fullmatch(name)


def told(value: bytes, *, proxy_mode: bool) -> Directives | None:
    fields = gateway_fields([(b"Proxy-Authorization", value)])
    try:
        return read_directives(fields, proxy_mode=proxy_mode)
    except BadRequest:
        return None


_USERS = st.sampled_from(
    (
        *(b"tor-iso", b"tortxd", b"tortxd+", b"tortxd+k", b"tortxd+k+", b"u", b"", b"TOR-ISO"),
        *(b"tortxd+k;retry=1", b"tortxd;x", b"tortxd;exit-country=de"),
    )
)
_LOGINS = st.builds(
    lambda u, p: u + p,
    _USERS,
    st.sampled_from((b"", b":", b":k", b":a:b", b":\xff")) | st.binary(max_size=4),
)


@fuzzed(150, first=_LOGINS, second=_LOGINS, proxy_mode=st.booleans())
def test_rule_09_different_logins_are_different_keys(
    first: bytes, second: bytes, proxy_mode: bool
) -> None:
    """Unless a login names a key in one of the two ways that are meant for it."""
    keys = []
    for login in (first, second):
        read = told(b"Basic " + b64encode(login), proxy_mode=proxy_mode)
        user, _, password = login.partition(b":")
        if user == b"tor-iso":
            assert read == (Directives(password) if password else None)
        elif user == b"tortxd":
            assert read == Directives(None)
        elif proxy_mode and user.startswith((b"tortxd+", b"tortxd;")):
            name, _, parameters = user.partition(b";")
            key = name[7:] if b"+" in name else None
            if key == b"" or parameters not in (b"", b"retry=1", b"exit-country=de"):
                assert read is None
            else:
                assert read is not None and read.isolation == key
        elif proxy_mode:
            assert read is not None and read.isolation is not None
            keys.append((user, password, read.isolation))
        else:
            assert read == Directives(None)
    if len(keys) == 2:
        assert (keys[0][:2] == keys[1][:2]) == (keys[0][2] == keys[1][2])


@fuzzed(
    200,
    value=st.binary(max_size=30)
    | st.from_regex(rb"(?i:basic|bearer) {0,2}[A-Za-z0-9+/=_ -]{0,24}", fullmatch=True),
    proxy_mode=st.booleans(),
)
def test_any_credentials_are_read_or_refused(value: bytes, proxy_mode: bool) -> None:
    read = told(value, proxy_mode=proxy_mode)
    event("is refused" if read is None else "is read")
    assert read is None or read.isolation is None or 1 <= len(read.isolation) <= 256
