"""Accuracies of scored clips: pure functions of scores and labels, in NumPy.

Scores are (N, K) floats, higher is better; labels are (N,) integers in 0..K-1. Accuracies lie in [0, 1].
"""

from dataclasses import dataclass

import numpy as np

NORMAL_975 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True, slots=True)
class ClassResult:
    """The result of one class. ``accuracy`` is None when the test set has no clip of it."""

    name: str
    count: int
    correct: int
    accuracy: float | None
    confused_with: str | None
    confused_count: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """``count`` clips of class ``truth`` were taken for ``predicted``: ``share`` of all clips of ``truth``."""

    truth: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of one test. ``interval`` is the 95 % Wilson interval of ``top1``.

    ``chance`` is 1/K, the accuracy of a uniform guess; ``majority`` is that of always naming the test set's most
    frequent class. ``top_k`` is the k that ``top5`` was computed with: min(5, K).
    """

    clips: int
    top1: float
    interval: tuple[float, float]
    top5: float
    top_k: int
    mean_class_accuracy: float
    chance: float
    majority: float


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rank of the true class of each clip, 0 = best: (N,) int64.

    Among equal scores the class with the smaller index comes first, as in ``argmax``. So the clips of rank 0 are those
    on the diagonal of the confusion matrix.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(axis=1).astype(np.int64)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) counts, int64; rows are the true classes, columns the predicted ones."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes * num_classes)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion, within [0, 1]. It holds for few clips, and near 0 and 1, too."""
    share, z = correct / count, NORMAL_975
    shrink = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / shrink
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def per_class(confusion: np.ndarray, classes: tuple[str, ...]) -> tuple[ClassResult, ...]:
    """One result per class, in the order of ``classes``; ties of ``confused_with`` go to the first class."""
    rows = []
    for index, name in enumerate(classes):
        count, correct = int(confusion[index].sum()), int(confusion[index, index])
        wrong = confusion[index].copy()
        wrong[index] = 0
        worst = int(wrong.argmax())
        rows.append(
            ClassResult(
                name=name,
                count=count,
                correct=correct,
                accuracy=correct / count if count else None,
                confused_with=classes[worst] if wrong[worst] else None,
                confused_count=int(wrong[worst]),
            )
        )
    return tuple(rows)


def top_confusions(confusion: np.ndarray, classes: tuple[str, ...], limit: int) -> tuple[Confusion, ...]:
    """The ``limit`` most frequent mistakes in descending order; among equals, the larger share of its class first."""
    mistakes = [
        Confusion(classes[row], classes[column], int(confusion[row, column]), float(confusion[row, column] / total))
        for row, total in enumerate(confusion.sum(axis=1))
        for column in np.flatnonzero(confusion[row])
        if row != column
    ]
    return tuple(sorted(mistakes, key=lambda mistake: (-mistake.count, -mistake.share))[:limit])


def summarise(scores: np.ndarray, labels: np.ndarray) -> Summary:
    """All accuracies of N >= 1 scored clips. Mean class accuracy is over the classes that have clips."""
    count, num_classes = scores.shape
    place = ranks(scores, labels)
    correct = place == 0
    present, members = np.unique(labels, return_counts=True)
    top_k = min(5, num_classes)
    return Summary(
        clips=count,
        top1=float(correct.mean()),
        interval=wilson_interval(int(correct.sum()), count),
        top5=float((place < top_k).mean()),
        top_k=top_k,
        mean_class_accuracy=float(np.mean([correct[labels == index].mean() for index in present])),
        chance=1 / num_classes,
        majority=float(members.max() / count),
    )
