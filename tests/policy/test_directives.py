"""What clients ask of the gateway: keys, time and steering, in headers, parameters and users."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadRequest
from tortxd.policy.directives import (
    Directives,
    keys_of_login,
    read_directives,
    with_parameters,
)
from tortxd.policy.query import target_of
from tortxd.policy.request import gateway_fields
from tortxd.policy.steering import (
    NOTHING,
    UNSTEERED,
    Choice,
    Steering,
    Sticky,
)
from tortxd.policy.steering import (
    read as read_steering,
)

A, B = "A" * 40, "B" * 40


def read(*headers: tuple[bytes, bytes]) -> Directives:
    return read_directives(gateway_fields(headers))


def test_nothing_asked() -> None:
    assert read((b"Host", b"x"), (b"Tor-Other", b"1")) == Directives()


@pytest.mark.parametrize("name", [b"Tor-Stream-Isolation", b"X-TOR-stream-isolation"])
@pytest.mark.parametrize("key", [b"k", b"x" * 256, b"\xff \x80"])
def test_isolation(name: bytes, key: bytes) -> None:
    assert read((name, key)) == Directives(isolation=key)
    assert "canary" not in repr(read((name, b"canary")))


def test_the_same_key_twice_is_one_key() -> None:
    both = ((b"Tor-Stream-Isolation", b"k"), (b"X-Tor-Stream-Isolation", b"k"))
    assert read(*both).isolation == b"k"


def basic(text: bytes) -> tuple[bytes, bytes]:
    return b"Proxy-Authorization", b"Basic " + b64encode(text)


def test_isolation_as_proxy_credentials() -> None:
    """Proposal 365: user tor-iso, and the key as the password."""
    assert read(basic(b"tor-iso:a:b")).isolation == b"a:b"
    assert read(basic(b"tor-iso:k"), (b"Tor-Stream-Isolation", b"k")).isolation == b"k"
    assert read(basic(b"someone:k")).isolation is None
    assert read((b"Proxy-Authorization", b"Bearer x")).isolation is None


@pytest.mark.parametrize(
    "headers",
    [
        [basic(b"tor-iso:a"), (b"Tor-Stream-Isolation", b"b")],
        [basic(b"tor-iso:")],
        [basic(b"tor-iso:a"), basic(b"tor-iso:b")],
        [(b"Proxy-Authorization", b"Basic %%%")],
        [(b"Tor-Stream-Isolation", b"")],
        [(b"Tor-Stream-Isolation", b"x" * 257)],
        [(b"Tor-Stream-Isolation", b"a"), (b"Tor-Stream-Isolation", b"b")],
        [(b"Tor-Stream-Isolation", b"a"), (b"X-Tor-Stream-Isolation", b"b")],
        [(b"Tortxd-Timeout", b"1"), (b"Tortxd-Timeout", b"2")],
    ],
)
def test_bad_directives(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadRequest):
        read(*headers)


@pytest.mark.parametrize(("text", "seconds"), [(b"1", 1.0), (b"0.25", 0.25), (b"090", 90.0)])
def test_timeout(text: bytes, seconds: float) -> None:
    assert read((b"tortxd-timeout", text)).timeout == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"0.0",
        b"-1",
        b"+1",
        b"1e3",
        b"inf",
        b"nan",
        b"1s",
        b".5",
        b"1.",
        b" 1",
        b"1" * 10,
    ],
)
def test_bad_timeouts(text: bytes) -> None:
    with pytest.raises(BadRequest, match="Tortxd-Timeout"):
        read((b"Tortxd-Timeout", text))


def test_a_key_beside_the_headers_is_one_of_them() -> None:
    assert with_parameters(Directives(), b"k", NOTHING) == Directives(b"k")
    assert with_parameters(Directives(b"k", 5.0), b"k", NOTHING) == Directives(b"k", 5.0)
    assert with_parameters(Directives(), b"k" * 256, NOTHING).isolation == b"k" * 256
    with pytest.raises(BadRequest, match="different isolation keys"):
        with_parameters(Directives(b"k"), b"l", NOTHING)
    for key in (b"", b"k" * 257):
        with pytest.raises(BadRequest, match="1 to 256 bytes"):
            with_parameters(Directives(), key, NOTHING)


# --- steering -----------------------------------------------------------------------------------


def choice(*countries: str, exits: tuple[str, ...] = ()) -> Choice:
    return Choice(frozenset(countries), frozenset(exits))


@pytest.mark.parametrize(
    ("name", "value", "steering"),
    [
        ("exit-country", "de", Steering(choice("de"))),
        ("exit-country", "DE", Steering(choice("de"))),
        ("exit-country", "de, fr", Steering(choice("de", "fr"))),
        ("exit-country", "de,fr ,,\tDe", Steering(choice("de", "fr"))),
        ("exit", A, Steering(choice(exits=(A,)))),
        ("exit", "$" + A.lower(), Steering(choice(exits=(A,)))),
        ("exit", f"{A}, {B}", Steering(choice(exits=(A, B)))),
        ("sticky", "1", Steering(sticky=Sticky(1))),
        ("sticky", "86400", Steering(sticky=Sticky(86_400))),
        ("sticky", "600, strict", Steering(sticky=Sticky(600, True))),
        ("sticky", "600,STRICT", Steering(sticky=Sticky(600, True))),
        ("retry", "0", Steering(retry=0)),
        ("retry", "3", Steering(retry=3)),
    ],
)
def test_steering_says_the_same_wherever_it_stands(
    name: str, value: str, steering: Steering
) -> None:
    header = f"Tortxd-{name.title()}".encode()
    assert read((header, value.encode())).steering == steering
    query = target_of(f"url=x&{name}={value}".replace(" ", "%20").replace("$", "%24").encode())
    assert with_parameters(Directives(), None, query.asked).steering == steering
    for user in (f"tortxd+k;{name}={value}", f"tortxd;x=1;{name}={value}".replace("x=1;", "")):
        fields = gateway_fields([basic(user.encode() + b":token")])
        assert read_directives(fields, proxy_mode=True).steering == steering


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exit-country", ""),
        ("exit-country", ","),
        ("exit-country", "deu"),
        ("exit-country", "d"),
        ("exit-country", "d1"),
        ("exit-country", "de;fr"),
        ("exit-country", "{de}"),
        ("exit-country", "\xe4\xe4"),
        ("exit", ""),
        ("exit", "A" * 39),
        ("exit", "A" * 41),
        ("exit", "G" * 40),
        ("exit", "nickname"),
        ("exit", f"{A} {B}"),
        ("sticky", ""),
        ("sticky", "0"),
        ("sticky", "86401"),
        ("sticky", "-1"),
        ("sticky", "1.5"),
        ("sticky", "600, lax"),
        ("sticky", "strict"),
        ("sticky", "9" * 40),
        ("retry", ""),
        ("retry", "4"),
        ("retry", "-1"),
        ("retry", "1.0"),
        ("retry", "one"),
    ],
)
def test_malformed_steering_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=f"^Tortxd-{name.title()} takes "):
        read((f"Tortxd-{name.title()}".encode(), value.encode("latin-1")))
    with pytest.raises(BadRequest, match=f"^{name} takes "):
        target_of(b"url=x&" + name.encode() + b"=" + value.encode("latin-1").replace(b";", b"%3B"))


def test_several_fields_of_a_list_are_one_list() -> None:
    both = (b"Tortxd-Exit-Country", b"de"), (b"Tortxd-Exit-Country", b"fr")
    assert read(*both).steering.choice == choice("de", "fr")
    with pytest.raises(BadRequest, match="Tortxd-Sticky"):
        read((b"Tortxd-Sticky", b"1"), (b"Tortxd-Sticky", b"2"))


def test_country_and_exit_count_both() -> None:
    headers = (b"Tortxd-Exit-Country", b"de"), (b"Tortxd-Exit", A.encode())
    assert read(*headers).steering.choice == choice("de", exits=(A,))


def test_nothing_asked_is_one_and_the_same() -> None:
    assert read((b"Tor-Stream-Isolation", b"k")).asked is NOTHING
    assert read((b"Tor-Stream-Isolation", b"k")).steering is UNSTEERED
    assert target_of(b"url=x&isolation=k&redirected=1").asked is NOTHING


def test_what_two_places_say_must_be_the_same() -> None:
    asked = read_steering({b"exit-country": b"de", b"retry": b"2"})
    same = read((b"Tortxd-Exit-Country", b"DE"), (b"Tortxd-Sticky", b"5"))
    merged = with_parameters(same, None, asked)
    assert merged.steering == Steering(choice("de"), Sticky(5), 2)
    other = read((b"Tortxd-Exit-Country", b"fr"))
    with pytest.raises(BadRequest, match="Two different values of exit-country"):
        with_parameters(other, None, asked)
    fields = gateway_fields([basic(b"tortxd+k;retry=1:t"), (b"Tortxd-Retry", b"2")])
    with pytest.raises(BadRequest, match="Two different values of retry"):
        read_directives(fields, proxy_mode=True)


LOGINS = st.one_of(
    st.text("a:;+\xe9\u2603", max_size=6),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["tor-iso", "tortxd", "tortxd+", "tortxd+a", "tortxde", "bob"]),
        st.sampled_from(["", ";", ";retry=1", ";retry=x", ";x=1", ":", ":b", ":\xe9", "\u2603"]),
        st.sampled_from(["", ":", ":c", ":" + 200 * "\xe9"]),
    ),
).filter(bool)


@given(LOGINS)
def test_a_proxy_users_name_says_what_its_header_says(login: str) -> None:
    keys: set[bytes | None] = set()
    for coding in ("utf-8", "latin-1"):
        try:
            fields = gateway_fields([basic(login.encode(coding))])
            keys.add(read_directives(fields, proxy_mode=True).isolation)
        except (UnicodeEncodeError, BadRequest):
            continue
    keys.discard(None)
    if keys:
        assert keys_of_login(login) == keys
    else:
        with pytest.raises(BadRequest):
            keys_of_login(login)


def test_the_key_of_a_proxy_user_ends_at_the_first_semicolon() -> None:
    def told(user: bytes) -> Directives:
        return read_directives(gateway_fields([basic(user + b":t")]), proxy_mode=True)

    assert told(b"tortxd+a;exit-country=de;sticky=600").isolation == b"a"
    assert told(b"tortxd+a+b;").isolation == b"a+b"
    assert told(b"tortxd+a;").asked is NOTHING
    assert told(b"tortxd;retry=1") == Directives(asked=read_steering({b"retry": b"1"}))
    assert told(b"tortxd+a; Retry = 1 ;").steering.retry == 1
    for user in (b"tortxd+;retry=1", b"tortxd+"):
        with pytest.raises(BadRequest, match="1 to 256 bytes"):
            told(user)
    # Another program's user is a key, whatever it is called.
    assert told(b"tortxdx;retry=9").isolation is not None
    assert told(b"tortxdx;retry=9").asked is NOTHING


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (b"retries=1", "`retries` is not a parameter of the proxy user. Did you mean retry?"),
        (b"x=1", "`x` is not a parameter of the proxy user."),
        (b"\xff=1", "One of the parameters of the proxy user is none that tortxd knows."),
        (b"retry=1;retry=1", "The proxy user's retry is given more than once."),
        (b"exit", "exit takes fingerprints of exit relays"),
    ],
)
def test_what_a_proxy_user_says_is_not_ignored(parameters: bytes, sentence: str) -> None:
    fields = gateway_fields([basic(b"tortxd+k;" + parameters + b":t")])
    with pytest.raises(BadRequest) as caught:
        read_directives(fields, proxy_mode=True)
    assert str(caught.value).startswith(sentence)


def test_outside_proxy_mode_the_proxy_user_is_not_asked() -> None:
    assert read(basic(b"tortxd+k;exit-country=de:t")) == Directives()


@given(st.binary(max_size=60))
def test_no_user_breaks_it(user: bytes) -> None:
    for own in (b"", b"tortxd", b"tortxd+", b"tortxd+k;", b"tortxd;"):
        fields = gateway_fields([basic(own + user + b":t")])
        try:
            read_directives(fields, proxy_mode=True)
        except BadRequest as error:
            assert "canary" not in str(error)
