"""Medians and quartiles."""

from __future__ import annotations

import pytest

from bench.spread import Spread, ratios


def test_a_spread_has_the_median_and_the_quartiles() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(2.0, 3.0, 4.0)


def test_one_value_is_all_of_its_spread() -> None:
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_ratios_are_those_of_pairs_and_not_of_medians() -> None:
    # The machine was three times as fast in the last turn, for both alike.
    found = ratios([(1.0, 2.0), (1.0, 2.0), (3.0, 6.0)])
    assert found == Spread(0.5, 0.5, 0.5)


def test_one_bad_turn_does_not_move_the_median() -> None:
    found = ratios([(1.0, 2.0)] * 9 + [(50.0, 1.0)])
    assert found is not None
    assert found.median == pytest.approx(0.5)


def test_what_was_too_little_to_measure_is_compared_with_nothing() -> None:
    assert ratios([(1.0, 0.0)]) is None
    assert ratios([(1.0, 0.0), (1.0, 4.0)]) == Spread(0.25, 0.25, 0.25)
