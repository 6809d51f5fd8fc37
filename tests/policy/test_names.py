"""What is remembered of names."""

from __future__ import annotations

from tortxd.policy.names import ByName


def test_what_is_remembered_is_bounded_and_right() -> None:
    asked: list[bytes] = []

    def judge(name: bytes) -> int:
        asked.append(name)
        return len(name)

    known = ByName(judge)
    for number in range(5000):
        name = b"X-%d" % number
        assert known[name] == known[name] == len(name)
        assert len(known) <= ByName.MOST
    assert len(asked) == 5000
    assert asked[-1] == b"x-4999"
    long = b"X" * 65
    assert known[long] == known[long] == 65
    assert len(asked) == 5002
    assert long not in known
