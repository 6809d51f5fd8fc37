"""Whether the relays that a configuration asks for are there."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.tor.consensus import Node, NodeReader
from tortxd.tor.nodes import matches, none_left

A, B = "A" * 40, "B" * 40
ONE = Node(A, "one", "192.0.2.1", frozenset({"Exit"}), 1)
TWO = Node(B, "two", "198.51.100.7", frozenset({"Guard"}))
COUNTRIES = {"192.0.2.1": "de"}


def read_nodes(lines: list[str]) -> list[Node]:
    nodes: list[Node] = []
    reader = NodeReader(nodes.append)
    for line in lines:
        reader.feed(line)
    reader.end()
    return nodes


def test_relays_of_a_consensus() -> None:
    lines = [
        "r one qqqqqqqqqqqqqqqqqqqqqqqqqqo digest 2026-11-22 15:00:00 192.0.2.1 9001 0",
        "a [2001:db8::1]:9001",
        "s Exit",
        "w Bandwidth=1",
        "r bad ! digest 2026-11-22 15:00:00 192.0.2.9 9001 0",
        "s Exit",
        "r short",
        "s Exit",
    ]
    assert read_nodes(lines)[0] == ONE
    assert {node.nickname for node in read_nodes(lines)} <= {"one", "bad"}


@pytest.mark.parametrize(
    ("pattern", "does"),
    [
        ("{de}", True),
        ("{DE}", True),
        ("{us}", False),
        ("{??}", False),
        (A, True),
        (f"${A.lower()}", True),
        (f"${A}~one", True),
        (f"${A}=other", True),
        (B, False),
        ("one", True),
        ("One", True),
        ("two", False),
        ("192.0.2.1", True),
        ("192.0.2.0/24", True),
        ("198.51.100.0/24", False),
        ("[2001:db8::]/32", None),
        ("*:80", None),
        ("{deu}", None),
    ],
)
def test_what_a_pattern_is_about(pattern: str, does: bool | None) -> None:
    assert matches(pattern, ONE, COUNTRIES) is does


def test_an_unknown_country_is_one_of_its_own() -> None:
    assert matches("{??}", TWO, COUNTRIES) is True


@pytest.mark.parametrize(
    ("wanted", "unwanted", "none"),
    [
        (["{us}"], [], True),
        (["{us}", "{de}"], [], False),
        (["{de}"], ["192.0.2.0/24"], True),
        (["{de}"], ["198.51.100.7"], False),
        (["{us}", "*:80"], [], False),
        ([B, "one"], ["one"], False),
    ],
)
def test_whether_any_relay_is_left(wanted: list[str], unwanted: list[str], none: bool) -> None:
    """Nobody is accused on a guess."""
    assert none_left(wanted, unwanted, [ONE, TWO], COUNTRIES) is none


@given(st.text(max_size=30))
def test_any_text_is_survived(text: str) -> None:
    read_nodes([text, "r " + text, "s " + text])
    matches(text, ONE, {})


def test_a_choice_that_takes_long_to_judge_is_not_judged() -> None:
    """The reactor has other things to do."""
    nodes = [Node(f"{n:040X}", "a", "192.0.2.1", frozenset()) for n in range(10_000)]
    began = time.process_time()
    assert not none_left([f"10.{n // 256}.{n % 256}.0/24" for n in range(1000)], [], nodes, {})
    assert time.process_time() - began < 1.0
    assert none_left(["10.0.0.0/24"], [], nodes[:100], {})


def test_flags_that_do_not_count_are_not_kept() -> None:
    (node,) = read_nodes(
        [
            "r one qqqqqqqqqqqqqqqqqqqqqqqqqqo digest 2026-11-22 15:00:00 192.0.2.1 9001 0",
            "s Exit Guard " + "x" * 9000,
        ]
    )
    assert node.flags == {"Exit", "Guard"}
