"""Tunes the event detector's parameters on validation streams whose scores were computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynagest.errors import ManifestError, RecipeError
from dynagest.stream.events import EventSettings
from dynagest.stream.metrics import StreamSummary, summarise
from dynagest.stream.scored import ScoredStream, detect

# The weights of Levenshtein accuracy and of mean Jaccard index in the value that is maximised.
OBJECTIVES = {"balanced": (0.5, 0.5), "levenshtein": (1.0, 0.0), "jaccard": (0.0, 1.0)}
DELAY_PRICE = 0.05  # subtracted for each second of mean delay from a gesture's begin to its activation

# The ranges of the uniform distributions from which random settings are drawn; `dip` is a share of the threshold.
RANGES = {
    "smoothing": (0.0, 0.5),
    "threshold": (0.2, 0.95),
    "dip": (0.1, 1.0),
    "cooldown": (0.2, 1.5),
    "longest": (1.5, 6.0),
    "lag": (0.0, 1.2),
}
_BEST = 0.05  # the best share of the settings tried, whose medians are the result


@dataclass(frozen=True)
class Tuning:
    """The result of tuning: the settings at the start and those found, with the metrics of both on the same streams."""

    objective: str
    start: EventSettings
    settings: EventSettings
    before: StreamSummary
    after: StreamSummary
    value_before: float
    value_after: float
    tried: int


def objective_value(summary: StreamSummary, objective: str) -> float:
    """The value that tuning maximises: a weighted sum of the two accuracies, minus a penalty for delay.

    ``summary`` must be of streams with gestures.
    """
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
    candidates: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Try ``start`` (default: the default settings) and ``candidates`` random settings, and combine the best of them.

    The result is the median of each parameter over the best twentieth of the settings tried, or ``start`` if that is
    better. The single best is not taken: which one comes first on a few minutes of gestures is chance, and that one is
    worse on other streams (docs/events.md). The same seed gives the same settings. ``progress`` is called with
    (settings tried, all). Raises ``RecipeError`` for an unknown objective, ``ManifestError`` for streams without any
    gesture, ``WeightsError`` for scores that are not finite.
    """
    if objective not in OBJECTIVES:
        raise RecipeError(f"there is no objective {objective!r}; there are {', '.join(OBJECTIVES)}")
    if not any(one.truth for one in scored):
        raise ManifestError("the streams hold no gesture, so there is nothing to tune on; choose another split")

    def summary(settings: EventSettings) -> StreamSummary:
        return summarise([detect(one, classes, settings) for one in scored])

    rng = np.random.default_rng(seed)
    first = start or EventSettings()
    tried = [first, *(draw(rng) for _ in range(candidates))]
    values = []
    for number, settings in enumerate(tried, 1):
        values.append(objective_value(summary(settings), objective))
        if progress:
            progress(number, len(tried))
    order = sorted(range(len(tried)), key=lambda index: -values[index])
    chosen = middle([tried[index] for index in order[: max(1, round(_BEST * len(tried)))]])
    before, after = summary(first), summary(chosen)
    if objective_value(after, objective) < values[0]:
        chosen, after = first, before
    return Tuning(
        objective=objective,
        start=first,
        settings=chosen,
        before=before,
        after=after,
        value_before=values[0],
        value_after=objective_value(after, objective),
        tried=len(tried),
    )


def middle(settings: Sequence[EventSettings]) -> EventSettings:
    """The median of each parameter, with ``dip`` taken as a share of the threshold."""
    rows = [{**one.model_dump(), "dip": one.dip / one.threshold} for one in settings]
    return _settings({name: float(np.median([row[name] for row in rows])) for name in RANGES})


def draw(rng: np.random.Generator) -> EventSettings:
    """Random settings within ``RANGES``."""
    return _settings({name: float(rng.uniform(low, high)) for name, (low, high) in RANGES.items()})


def _settings(values: dict[str, float]) -> EventSettings:
    """Settings from drawn values, in which ``dip`` is a share of the threshold, rounded to three decimals."""
    threshold = round(values["threshold"], 3)
    rounded = {name: round(value, 3) for name, value in values.items()}
    return EventSettings(**{**rounded, "threshold": threshold, "dip": round(values["dip"] * threshold, 3)})
