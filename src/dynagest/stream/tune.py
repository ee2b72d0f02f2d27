"""Sets the event detector's few parameters on validation streams whose scores were computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
_BEST = 0.05  # share of the settings tried whose middle is taken


@dataclass(frozen=True)
class Tuning:
    """The settings found, and what they and those at the start come to on the same streams."""

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
    candidates: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Try ``start`` (the defaults without it) and random settings; the result is the middle of the best twentieth.

    The middle, parameter by parameter their median, and not the best: which of many settings comes out first on a few
    minutes of gestures is chance, and they do worse on other streams (docs/events.md). Where ``start`` is better than
    the middle, it stays. The same seed gives the same settings. ``progress``: called with (settings tried, all).
    Raises ``RecipeError`` for an objective that does not exist, ``ManifestError`` for streams without any gesture.
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
    if objective_value(summary(chosen), objective) < values[0]:
        chosen = first
    before, after = summary(first), summary(chosen)
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
    """The median of each parameter; of ``dip`` that of its share of the threshold."""
    rows = [{**one.model_dump(), "dip": one.dip / one.threshold} for one in settings]
    return _settings({name: float(np.median([row[name] for row in rows])) for name in RANGES})


def draw(rng: np.random.Generator) -> EventSettings:
    """Random settings within ``RANGES``."""
    return _settings({name: float(rng.uniform(low, high)) for name, (low, high) in RANGES.items()})


def _settings(values: dict[str, float]) -> EventSettings:
    """Rounded to what a reader can tell apart."""
    threshold = round(values["threshold"], 3)
    rounded = {name: round(value, 3) for name, value in values.items()}
    return EventSettings(**{**rounded, "threshold": threshold, "dip": round(values["dip"] * threshold, 3)})
