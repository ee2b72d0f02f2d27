"""Means and paired differences against values worked out by hand."""

import math

import pytest

from dynagest.reproduce.paired import interval, paired, t95


def test_interval_of_three_values():
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    # standard deviation 1, standard error 1 / sqrt(3), t(2) = 4.303
    assert found.half == pytest.approx(4.303 / math.sqrt(3))
    assert found.values == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("values", [(5.0,), (4.0, 6.0)])
def test_one_or_two_seeds_have_no_interval(values):
    found = interval(values)
    assert (found.mean, found.half, found.values) == (5.0, None, values)


def test_difference_is_taken_seed_by_seed_over_those_that_both_have():
    found = paired({0: 50.0, 1: 60.0, 2: 70.0, 3: 30.0}, {3: 27.0, 0: 49.0, 1: 58.0, 7: 0.0})
    assert found is not None
    assert found.values == (1.0, 2.0, 3.0)
    assert found.mean == pytest.approx(2.0)
    assert found.half == pytest.approx(4.303 / math.sqrt(3))


def test_pairing_removes_what_a_seed_does_to_both():
    ours, theirs = {0: 40.0, 1: 60.0, 2: 80.0}, {0: 39.0, 1: 59.0, 2: 79.0}
    found = paired(ours, theirs)
    assert found is not None
    assert (found.mean, found.half) == (1.0, 0.0)


def test_no_shared_seed_has_no_difference():
    assert paired({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("freedom", "value"), [(1, 12.706), (4, 2.776), (30, 2.042), (60, 2.000), (1000, 1.962)])
def test_quantiles(freedom, value):
    assert t95(freedom) == pytest.approx(value, rel=2e-3)
