"""Sets the event detector's few parameters on validation streams whose scores were computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynagest.errors import ManifestError, RecipeError
from dynagest.stream.events import EventSettings
from dynagest.stream.metrics import StreamSummary, summarise
from dynagest.stream.scored import ScoredStream, detect

# Shares of Levenshtein accuracy and mean Jaccard index in what is maximised.
OBJECTIVES = {"balanced": (0.5, 0.5), "levenshtein": (1.0, 0.0), "jaccard": (0.0, 1.0)}
DELAY_PRICE = 0.05  # taken off for each second from a gesture's begin to its activation

# What random settings are drawn from, evenly; `dip` as a share of the threshold.
RANGES = {
    "smoothing": (0.0, 0.5),
    "threshold": (0.2, 0.95),
    "dip": (0.1, 1.0),
    "cooldown": (0.2, 1.5),
    "longest": (1.5, 6.0),
    "lag": (0.0, 1.2),
}
_STEPS = (0.2, 0.1, 0.05, 0.025)  # of the ranges, tried one parameter at a time around the best


@dataclass(frozen=True)
class Tuning:
    """The best settings found, and what they and the settings at the start come to on the same streams."""

    objective: str
    start: EventSettings
    settings: EventSettings
    before: StreamSummary
    after: StreamSummary
    value_before: float
    value_after: float
    tried: int


def objective_value(summary: StreamSummary, objective: str) -> float:
    """What tuning maximises: the objective's mixture of accuracies, less the price of delay."""
    levenshtein, jaccard = OBJECTIVES[objective]
    assert summary.levenshtein is not None
    assert summary.mean_jaccard is not None
    value = levenshtein * summary.levenshtein + jaccard * summary.mean_jaccard
    return value - DELAY_PRICE * (summary.delay_from_begin or 0.0)


def tune(
    scored: Sequence[ScoredStream],
    classes: Sequence[str],
    *,
    start: EventSettings | None = None,
    objective: str = "balanced",
    candidates: int = 150,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tuning:
    """Search: ``candidates`` random settings, then one parameter at a time around the best, in steps that get smaller.

    ``start`` (the defaults without it) is tried first, so that the result is never worse on these streams. The same
    seed gives the same settings. progress: called with the number of settings tried. Raises ``RecipeError`` for an
    objective that does not exist, ``ManifestError`` for streams without any gesture.
    """
    if objective not in OBJECTIVES:
        raise RecipeError(f"there is no objective {objective!r}; there are {', '.join(OBJECTIVES)}")
    if not any(one.truth for one in scored):
        raise ManifestError("the streams hold no gesture, so there is nothing to tune on; choose another split")
    search = _Search(scored, classes, objective, progress)
    first = start or EventSettings()
    before = search.summary(first)
    search.consider(first)
    rng = np.random.default_rng(seed)
    for _ in range(candidates):
        search.consider(_draw(rng))
    for step in _STEPS:
        improved = True
        while improved:
            best = search.best
            for name in RANGES:
                for side in (1, -1):
                    search.consider(_moved(search.best, name, side * step))
            improved = search.best != best
    return Tuning(
        objective=objective,
        start=first,
        settings=search.best,
        before=before,
        after=search.summary(search.best),
        value_before=objective_value(before, objective),
        value_after=search.value,
        tried=search.tried,
    )


class _Search:
    """The best settings so far."""

    def __init__(
        self,
        scored: Sequence[ScoredStream],
        classes: Sequence[str],
        objective: str,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._scored, self._classes, self._objective, self._progress = scored, classes, objective, progress
        self._seen: set[EventSettings] = set()
        self.best, self.value = EventSettings(), -np.inf

    @property
    def tried(self) -> int:
        return len(self._seen)

    def summary(self, settings: EventSettings) -> StreamSummary:
        return summarise([detect(one, self._classes, settings) for one in self._scored])

    def consider(self, settings: EventSettings) -> None:
        """Take these settings if they are better than the best."""
        if settings in self._seen:
            return
        self._seen.add(settings)
        value = objective_value(self.summary(settings), self._objective)
        if value > self.value + 1e-9:
            self.best, self.value = settings, value
        if self._progress:
            self._progress(self.tried)


def _draw(rng: np.random.Generator) -> EventSettings:
    return _settings({name: float(rng.uniform(low, high)) for name, (low, high) in RANGES.items()})


def _moved(settings: EventSettings, name: str, share: float) -> EventSettings:
    """One parameter moved by a share of its range, as far as the range goes."""
    values: dict[str, Any] = settings.model_dump()
    values["dip"] /= values["threshold"]
    low, high = RANGES[name]
    values[name] = min(max(values[name] + share * (high - low), low), high)
    return _settings(values)


def _settings(values: dict[str, float]) -> EventSettings:
    """Rounded to what a reader can tell apart."""
    threshold = round(values["threshold"], 3)
    rounded = {name: round(value, 3) for name, value in values.items()}
    return EventSettings(**{**rounded, "threshold": threshold, "dip": round(values["dip"] * threshold, 3)})
