"""What programs say of steering, and what is passed on of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadRequest
from tortxd.policy.steering import (
    UNSTEERED,
    Choice,
    Steering,
    Sticky,
    as_parameters,
    read,
    steering_for,
)

FIRST, SECOND = "A" * 40, "B" * 40


@pytest.mark.parametrize("names", ["DE, fr", ("de", "FR"), {"de", "fr"}, iter(["de,fr"])])
def test_one_or_several(names: Any) -> None:
    assert steering_for(exit_country=names).choice == Choice(frozenset(("de", "fr")))


def test_all_of_it() -> None:
    said = steering_for(
        exit_country="de", exit=(FIRST, "$" + SECOND.lower()), sticky=600, strict=True, retry=3
    )
    choice = Choice(frozenset(("de",)), frozenset((FIRST, SECOND)))
    assert said == Steering(choice, Sticky(600, True), 3)


def test_nothing_of_it() -> None:
    assert steering_for() is UNSTEERED


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"exit_country": "deu"}, "exit_country takes two-letter codes"),
        ({"exit_country": ()}, "exit_country takes two-letter codes"),
        ({"exit_country": "dé"}, "exit_country takes two-letter codes"),
        ({"exit": "A" * 39}, "exit takes fingerprints"),
        ({"sticky": 0}, "sticky takes seconds from 1 to 86400"),
        ({"sticky": True}, "sticky takes seconds"),
        ({"sticky": 1.5}, "sticky takes seconds"),
        ({"strict": True}, "strict goes with sticky"),
        ({"retry": 4}, "retry takes a number from 0 to 3"),
        ({"retry": -1}, "retry takes a number from 0 to 3"),
    ],
)
def test_what_is_malformed(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        steering_for(**words)
    assert str(caught.value).startswith(sentence)


countries = st.frozensets(st.sampled_from(("de", "fr", "se")), max_size=3)
fingerprints = st.frozensets(st.sampled_from((FIRST, SECOND)), max_size=3)
stickies = st.none() | st.builds(Sticky, st.integers(1, 86_400), st.booleans())


@given(st.builds(Steering, st.builds(Choice, countries, fingerprints), stickies, st.integers(0, 3)))
def test_what_is_passed_on_says_the_same(steering: Steering) -> None:
    assert read(as_parameters(steering)).steering() == steering
