"""The patterns by which the API's description has what steers a request: they are what is taken."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadRequest
from tortxd.gateway.control.parameters import STEERING, STEERING_QUERY
from tortxd.policy.steering import PARAMETERS, read

NEAR = {
    "exit-country": "[a-zA-Z0-9, \t;{}-]{0,12}",
    "exit": r"[, \t]{0,2}(\$?[0-9A-Fa-fG]{39,41}[, \t]{0,3}){0,3}",
    "sticky": "0{0,9}[0-9]{0,6}[ \t]?,?[ \t]?(strict|STRICT|lax)?[ .,]?",
    "retry": "0{0,10}[0-9]{0,2}",
}
"""What may be right, and may be wrong by a little."""
PATTERNS = {one.name: re.compile(one.schema["pattern"], re.ASCII) for one in STEERING_QUERY}


def test_header_and_parameter_are_described_alike() -> None:
    assert {one.name for one in STEERING_QUERY} == {name.decode() for name in PARAMETERS}
    for header, parameter in zip(STEERING, STEERING_QUERY, strict=True):
        assert header.name.lower() == f"tortxd-{parameter.name}"
        assert header.schema is parameter.schema
        assert all(map(PATTERNS[parameter.name].search, parameter.schema["examples"]))


def is_taken(name: str, value: str) -> bool:
    try:
        read({name.encode(): value.encode()})
    except BadRequest:
        return False
    return True


def fitting(name: str) -> st.SearchStrategy[str]:
    """Values of this parameter, right ones and others."""
    return st.from_regex(re.compile(NEAR[name], re.ASCII), fullmatch=True) | (
        # Before a newline, too, Python has an end.
        st.from_regex(PATTERNS[name]).map(lambda value: value.removesuffix("\n"))
    )


@given(st.sampled_from(sorted(NEAR)).flatmap(lambda name: st.tuples(st.just(name), fitting(name))))
def test_what_fits_a_pattern_is_taken_and_nothing_else(said: tuple[str, str]) -> None:
    name, value = said
    assert (PATTERNS[name].search(value) is not None) == is_taken(name, value)


def test_whatever_number_it_is() -> None:
    for name in ("sticky", "retry"):
        for number in (
            *range(200),
            *range(900, 1100),
            *range(7990, 86_500, 30),
            *range(86_350, 86_500),
        ):
            for value in (str(number), f"{number:09}", f"{number:010}"):
                assert (PATTERNS[name].search(value) is not None) == is_taken(name, value), value
