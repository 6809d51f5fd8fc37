"""Isolation keys and the SOCKS credentials made of them."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tortxd.tor import isolation
from tortxd.tor.isolation import Isolation, IsolationKeys

isolations = st.builds(
    Isolation,
    kind=st.sampled_from(["key", "site"]),
    name=st.binary(max_size=6),
    caller=st.binary(max_size=6),
    origin=st.binary(max_size=6),
)


@given(
    st.lists(st.tuples(isolations, st.binary(max_size=6)), min_size=2, max_size=8, unique=True),
)
def test_what_differs_has_different_credentials(asked: list[tuple[Isolation, bytes]]) -> None:
    keys = IsolationKeys(bytes(32))
    assert len({keys.credentials(one, salt) for one, salt in asked}) == len(asked)


@given(isolations)
def test_equal_isolation_has_equal_credentials_that_socks_can_carry(one: Isolation) -> None:
    credentials = IsolationKeys(bytes(32)).credentials(one)
    assert credentials == IsolationKeys(bytes(32)).credentials(evolve(one))
    assert credentials != IsolationKeys(b"1" * 32).credentials(one)
    for part in (credentials.username, credentials.password):
        assert 0 < len(part) < 256
        assert part.isalnum()


def test_shifting_a_byte_between_parts_changes_the_credentials() -> None:
    keys = IsolationKeys()
    assert keys.credentials(Isolation("key", b"ab", b"c")) != keys.credentials(
        Isolation("key", b"a", b"bc")
    )


def test_a_key_is_not_the_site_of_the_same_name() -> None:
    keys = IsolationKeys()
    assert keys.credentials(Isolation("key", b"example.com")) != keys.credentials(
        Isolation("site", b"example.com")
    )


def test_each_daemon_has_its_own_secret() -> None:
    one = Isolation("key", b"alice")
    assert IsolationKeys().credentials(one) != IsolationKeys().credentials(one)


def test_renewal_concerns_nobody_else() -> None:
    keys = IsolationKeys()
    alice, bob = Isolation("key", b"alice"), Isolation("key", b"bob")
    before = keys.credentials(alice), keys.credentials(bob)
    keys.renew(alice)
    assert keys.credentials(alice) != before[0]
    assert keys.credentials(bob) == before[1]


def test_renewing_all_concerns_everyone_and_brings_nothing_old_back() -> None:
    keys = IsolationKeys()
    alice, bob = Isolation("key", b"alice"), Isolation("key", b"bob")
    seen = [keys.credentials(alice)]
    keys.renew(alice)
    seen.append(keys.credentials(alice))
    for _ in range(2):
        keys.renew_all()
        seen.append(keys.credentials(alice))
    assert len(set(seen)) == 4
    assert keys.credentials(bob) != IsolationKeys(keys._secret).credentials(bob)


def test_forgotten_epochs_bring_nothing_old_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_REMEMBERED_EPOCHS", 3)
    keys = IsolationKeys()
    alice = Isolation("key", b"alice")
    old = [keys.credentials(alice)]
    keys.renew(alice)
    old.append(keys.credentials(alice))
    keys.renew(alice)
    for number in range(10):
        keys.renew(Isolation("key", b"%d" % number))
    assert keys.credentials(alice) not in old


def test_nothing_of_it_shows_in_a_repr() -> None:
    one = Isolation("key", b"canary-key", b"canary-caller", b"canary-origin")
    credentials = IsolationKeys().credentials(one)
    assert "canary" not in repr(one)
    assert credentials.username.decode() not in repr(credentials)


def test_a_caller_who_renews_very_much_changes_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "_REMEMBERED_EPOCHS", 3)
    keys = IsolationKeys()
    others = [
        Isolation("key", b"k", b"other"),
        Isolation("key", b"k", b"one", b"http://page.example"),
        Isolation("site", b"a.example", b"other"),
    ]
    keys.renew(others[0])
    before = [keys.credentials(other) for other in others]
    for number in range(20):
        keys.renew(Isolation("key", b"%d" % number, b"one"))
    assert [keys.credentials(other) for other in others] == before


def test_forgotten_callers_bring_nothing_old_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_REMEMBERED_CALLERS", 3)
    keys = IsolationKeys()
    alice = Isolation("key", b"alice", b"c")
    old = [keys.credentials(alice)]
    keys.renew(alice)
    old.append(keys.credentials(alice))
    keys.renew(alice)
    for number in range(10):
        keys.renew(Isolation("key", b"k", b"caller %d" % number))
    assert keys.credentials(alice) not in old
    assert len(keys._callers) == 3


def test_what_has_had_credentials_since_it_was_renewed_is_counted() -> None:
    keys = IsolationKeys()
    alice, bob, site = Isolation("key", b"alice"), Isolation("key", b"bob"), Isolation("site", b"a")
    assert keys.renew_all() == 0
    for one in (alice, bob, alice, site):
        keys.credentials(one)
        keys.credentials(one, b"by another exit")
    assert keys.renew_all() == 3
    assert keys.renew_all() == 0
    keys.credentials(alice)
    keys.credentials(bob)
    keys.renew(alice)
    assert keys.renew_all() == 1


def test_so_many_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_REMEMBERED_USERNAMES", 10)
    keys = IsolationKeys()
    for number in range(30):
        keys.credentials(Isolation("key", b"%d" % number))
    assert len(keys._used) == 10
    assert keys.renew_all() == 10


def test_our_own_usernames_are_marked() -> None:
    keys = IsolationKeys()
    for name in (b"a", b"b"):
        assert keys.credentials(Isolation("key", name)).username.startswith(
            keys.username_prefix.encode()
        )
    assert keys.username_prefix != IsolationKeys().username_prefix
