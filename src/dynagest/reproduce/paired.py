"""Means over seeds and paired differences, with 95 % confidence intervals by Student's t."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of ``values``, one for each seed, and ``half`` the width of its 95 % interval.

    ``half`` is ``None`` for one or two seeds. Of two, it would be more than six times their distance, which says less
    than the two themselves.
    """

    mean: float
    half: float | None
    values: tuple[float, ...]


def interval(values: Sequence[float]) -> Interval:
    """The mean and the interval of at least one value, each from another seed."""
    count = len(values)
    half = t95(count - 1) * stdev(values) / sqrt(count) if count > 2 else None
    return Interval(mean(values), half, tuple(values))


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Interval | None:
    """The interval of ours minus theirs, over the seeds that both have; ``None`` if they share none."""
    shared = sorted(ours.keys() & theirs.keys())
    return interval([ours[seed] - theirs[seed] for seed in shared]) if shared else None


def t95(freedom: int) -> float:
    """The two-sided 95 % quantile for ``freedom`` >= 1 degrees of freedom; beyond 30 it is accurate to 0.1 %."""
    return _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.5 / freedom
