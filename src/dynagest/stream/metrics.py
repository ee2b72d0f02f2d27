"""Measures how well events match the true gestures of streams. docs/events.md defines the metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dynagest.clips.streams import Span
from dynagest.stream.events import Event

GRACE = 1.0  # seconds after a gesture's end in which an activation still counts as its recognition


@dataclass(frozen=True, slots=True)
class Recording:
    """One tested stream: its length in seconds, its true gestures, and the events found in it.

    ``found`` holds finished events only (each has an ``end``), in order of activation.
    """

    name: str
    seconds: float
    truth: tuple[Span, ...]
    found: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """The numbers of a test on streams.

    ``levenshtein`` is at most 1, and below 0 when there are more errors than gestures. ``mean_jaccard``, ``recall`` and
    ``early_share`` are in [0, 1]. ``delay_from_begin`` and ``delay_from_end`` are the mean seconds from a recognised
    gesture's begin (or end) to its activation; the latter is negative for activations before the end. ``repeats`` are
    the gestures of the same class as the one before them. Fields are None when undefined: accuracies and recall without
    gestures, delays and ``early_share`` without recognised ones.
    """

    streams: int
    minutes: float
    gestures: int
    activations: int
    recognised: int
    repeats: int
    repeats_recognised: int
    levenshtein: float | None
    mean_jaccard: float | None
    recall: float | None
    false_per_minute: float
    delay_from_begin: float | None
    delay_from_end: float | None
    early_share: float | None


def summarise(recordings: Sequence[Recording]) -> StreamSummary:
    """All metrics over the recordings together, which must have more than 0 seconds in total."""
    gestures = sum(len(one.truth) for one in recordings)
    activations = sum(len(one.found) for one in recordings)
    matches = [match(one.truth, one.found) for one in recordings]
    pairs = [pair for matched in matches for pair in matched]
    again = [repeats(one.truth) for one in recordings]
    edits = sum(
        edit_distance([span.label for span in one.truth], [event.label for event in one.found]) for one in recordings
    )
    overlaps = [jaccard(one.truth, one.found) for one in recordings if one.truth]
    minutes = sum(one.seconds for one in recordings) / 60
    return StreamSummary(
        streams=len(recordings),
        minutes=minutes,
        gestures=gestures,
        activations=activations,
        recognised=len(pairs),
        repeats=sum(map(len, again)),
        repeats_recognised=sum(
            span in spans for matched, spans in zip(matches, again, strict=True) for span, _ in matched
        ),
        levenshtein=1 - edits / gestures if gestures else None,
        mean_jaccard=float(np.mean(overlaps)) if overlaps else None,
        recall=len(pairs) / gestures if gestures else None,
        false_per_minute=(activations - len(pairs)) / minutes,
        delay_from_begin=_mean([event.fired - span.begin for span, event in pairs]),
        delay_from_end=_mean([event.fired - span.end for span, event in pairs]),
        early_share=_mean([float(event.fired < span.end) for span, event in pairs]),
    )


def edit_distance(true: Sequence[str], found: Sequence[str]) -> int:
    """The Levenshtein distance: the fewest insertions, deletions and substitutions between the two lists of labels."""
    row = list(range(len(found) + 1))
    for i, label in enumerate(true, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (label != other))
    return row[-1]


def jaccard(truth: Sequence[Span], found: Sequence[Event]) -> float:
    """The Jaccard index of one stream with at least one true gesture, as defined for ChaLearn ConGD.

    For each class that truly occurs: the time in which it both truly goes on and was found, divided by the time in
    which it goes on or was found; the result is the mean over these classes. A found class that does not occur is not
    averaged over, so it lowers the index only where it was found in place of one that does.
    """
    labels = sorted({span.label for span in truth})
    indices = []
    for label in labels:
        true = _union([(span.begin, span.end) for span in truth if span.label == label])
        seen = _union([(one.begin, _end(one)) for one in found if one.label == label])
        shared = sum(max(0.0, min(b, d) - max(a, c)) for a, b in true for c, d in seen)
        indices.append(shared / (_length(true) + _length(seen) - shared))
    return float(np.mean(indices))


def match(truth: Sequence[Span], found: Sequence[Event]) -> list[tuple[Span, Event]]:
    """Pair recognised gestures with their events.

    A gesture and an event match if their labels are equal and the activation lies between the gesture's begin and
    ``GRACE`` seconds after its end. Each is used at most once, and the number of pairs is the largest possible.
    """
    free = sorted(truth, key=lambda span: span.end)
    pairs = []
    for event in sorted(found, key=lambda one: one.fired):
        for span in free:
            if span.label == event.label and span.begin <= event.fired <= span.end + GRACE:
                free.remove(span)
                pairs.append((span, event))
                break
    return pairs


def repeats(truth: Sequence[Span]) -> list[Span]:
    """The gestures whose predecessor is of the same class. Reported once for both, such a gesture is not recognised."""
    return [after for before, after in pairwise(truth) if after.label == before.label]


def false_activations(truth: Sequence[Span], found: Sequence[Event]) -> Counter[str]:
    """The events that match no gesture, counted by label: wrong labels, repeated reports, reports at a wrong time."""
    matched = Counter(event.label for _, event in match(truth, found))
    return Counter(event.label for event in found) - matched


def _end(event: Event) -> float:
    assert event.end is not None, "an activation, not a finished event"
    return event.end


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _union(ranges: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The union of the ranges, as ranges that do not overlap, in order."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(ranges):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _length(ranges: Sequence[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in ranges)
