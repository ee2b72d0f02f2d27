"""Metrics against values worked out by hand."""

import math

import numpy as np
import pytest

from dynagest.testing.metrics import (
    confusion_matrix,
    per_class,
    ranks,
    summarise,
    top_confusions,
    wilson_interval,
)

# Six clips of three classes: a a a a b c, recognised as a a b c b b.
SCORES = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.5, 0.1, 0.4],
        [0.3, 0.6, 0.1],
        [0.1, 0.2, 0.7],
        [0.2, 0.5, 0.3],
        [0.1, 0.8, 0.1],
    ]
)
LABELS = np.array([0, 0, 0, 0, 1, 2])


def test_ranks() -> None:
    # The last clip: b is best, a and c are equal, and a comes first.
    assert ranks(SCORES, LABELS).tolist() == [0, 0, 1, 2, 0, 2]


def test_a_network_that_knows_nothing_recognises_the_first_class_only() -> None:
    constant = np.full((3, 3), 1 / 3)
    assert ranks(constant, np.array([0, 1, 2])).tolist() == [0, 1, 2]
    assert summarise(constant, np.array([0, 1, 2])).top1 == pytest.approx(1 / 3)


def test_confusion_has_truth_in_rows() -> None:
    matrix = confusion_matrix(SCORES.argmax(axis=1), LABELS, 3)
    assert matrix.tolist() == [[2, 1, 1], [0, 1, 0], [0, 1, 0]]


def test_per_class() -> None:
    matrix = np.array([[2, 1, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    a, b, c, d = per_class(matrix, ("a", "b", "c", "d"))
    assert (a.count, a.correct, a.accuracy, a.confused_with, a.confused_count) == (4, 2, 0.5, "b", 1)
    assert (b.accuracy, b.confused_with, b.confused_count) == (1.0, None, 0)
    assert (c.accuracy, c.confused_with) == (0.0, "b")
    assert (d.count, d.accuracy, d.confused_with) == (0, None, None)


def test_summary() -> None:
    summary = summarise(SCORES, LABELS)
    assert summary.clips == 6
    assert summary.top1 == pytest.approx(0.5)
    assert summary.top_k == 3
    assert summary.top5 == 1
    assert summary.mean_class_accuracy == pytest.approx((2 / 4 + 1 + 0) / 3)
    assert summary.chance == pytest.approx(1 / 3)
    assert summary.majority == pytest.approx(4 / 6)


def test_top5_of_many_classes_is_five() -> None:
    scores = -np.arange(20.0)[None, :].repeat(4, axis=0)
    summary = summarise(scores, np.array([0, 4, 5, 19]))
    assert (summary.top_k, summary.top1, summary.top5) == (5, 0.25, 0.5)


def test_wilson_interval() -> None:
    # Textbook values: 8 of 10 gives 0.4902 to 0.9433; 0 of 10 gives 0 to z^2 / (10 + z^2).
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    z = 1.959963984540054
    assert wilson_interval(0, 10) == pytest.approx((0, z * z / (10 + z * z)), abs=1e-12)
    low, high = wilson_interval(10, 10)
    assert low == pytest.approx(1 - z * z / (10 + z * z))
    assert high == pytest.approx(1)
    # For many clips it is the normal approximation.
    low, high = wilson_interval(500_000, 1_000_000)
    assert high - low == pytest.approx(2 * z * math.sqrt(0.25 / 1_000_000), rel=1e-5)


def test_top_confusions_are_sorted_and_limited() -> None:
    matrix = np.array([[5, 3, 0], [3, 0, 1], [0, 2, 8]])
    found = top_confusions(matrix, ("a", "b", "c"), limit=3)
    assert [(mistake.truth, mistake.predicted, mistake.count) for mistake in found] == [
        ("b", "a", 3),
        ("a", "b", 3),
        ("c", "b", 2),
    ]
    assert found[0].share == pytest.approx(3 / 4)
