"""The table of test vectors that holds the event detector and its port to JavaScript to the same answers.

``python tests/event_vectors.py`` writes tests/vectors/events.json. Each case has ``classes``, ``settings``, ``scores``
(rows of [time, [a score for each class]]), and ``events``: for each row the events that pushing it returns, then one
more list with those of ``finish``. An event is {label, begin, end (null for an activation), confidence, fired}. Scores
are written with 4 decimals and are to be read as they are; events agree to 1e-9.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dynagest.stream.events import EventDetector, EventSettings
from dynagest.stream.scores import Scores

VECTORS = Path(__file__).parent / "vectors" / "events.json"
Rows = list[tuple[float, list[float]]]


def bumps(
    classes: tuple[str, ...],
    plan: list[tuple[str, float, float, float]],
    times: np.ndarray,
    *,
    ramp: float = 0.25,
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Rows:
    """Scores in which (label, begin, end, height) of ``plan`` rise and fall over ``ramp`` seconds; the rest of the sum
    is the class "none", or is shared by all where there is none."""
    rows: Rows = []
    for time in times.tolist():
        scores = np.zeros(len(classes))
        for label, begin, end, height in plan:
            up, down = (time - begin) / ramp, (end - time) / ramp
            scores[classes.index(label)] += height * min(max(min(up, down), 0.0), 1.0)
        if rng is not None:
            scores += noise * rng.uniform(0, 1, len(classes))
        rest = max(1 - scores.sum(), 0.0)
        if "none" in classes:
            scores[classes.index("none")] += rest
        else:
            scores += rest / len(classes)
        scores /= scores.sum()
        rows.append((round(time, 4), [round(value, 4) for value in scores.tolist()]))
    return rows


def run(classes: tuple[str, ...], settings: EventSettings, rows: Rows) -> list[list[dict[str, Any]]]:
    """What the detector answers to each row, and at the end."""
    detector = EventDetector(classes, settings)
    answers = [detector.push(Scores(time, np.array(scores))) for time, scores in rows]
    return [[asdict(event) for event in events] for events in (*answers, detector.finish())]


def cases() -> list[dict[str, Any]]:
    """Every case with its answers."""
    rng = np.random.default_rng(4)
    three, two = ("left", "right", "none"), ("left", "right", "grab")
    even = np.arange(0, 6, 0.1)
    uneven = np.cumsum(rng.choice((0.033, 0.066, 0.2, 0.5), 40))
    gap = np.concatenate((np.arange(0, 2, 0.1), np.arange(9, 12, 0.1)))
    plain = EventSettings()
    sharp = EventSettings(smoothing=0.0, threshold=0.6, dip=0.3, cooldown=0.0, lag=0.0)
    twice = [("left", 1.0, 2.0, 1.0), ("left", 2.1, 3.1, 1.0)]
    table = [
        ("one gesture", three, plain, bumps(three, [("left", 1.0, 2.2, 1.0)], even)),
        ("the same twice", three, plain, bumps(three, twice, even)),
        ("the same twice, no smoothing", three, sharp, bumps(three, twice, even)),
        ("too shallow a dip", three, sharp, bumps(three, [("left", 1, 2, 0.9), ("left", 1.78, 3, 0.9)], even)),
        ("one after the other", three, plain, bumps(three, [("left", 1, 2, 1), ("right", 1.8, 3, 1)], even)),
        ("without a class none", two, plain, bumps(two, [("left", 1, 2.2, 1), ("grab", 3, 4, 0.9)], even)),
        ("undecided", two, plain, bumps(two, [("left", 1, 3, 0.5), ("right", 1, 3, 0.5)], even)),
        ("longer than longest", three, EventSettings(longest=1.5), bumps(three, [("left", 1, 5, 1)], even)),
        ("cut off by the end", three, plain, bumps(three, [("right", 4.5, 9, 1)], even)),
        ("uneven times", three, plain, bumps(three, [("left", 1, 2.5, 1), ("right", 4, 6, 1)], uneven)),
        ("a gap of seven seconds", three, plain, bumps(three, [("left", 1, 2.5, 1), ("left", 9.5, 11, 1)], gap)),
    ]
    for number, classes in enumerate((three, two)):
        plan = [(classes[int(k)], float(t), float(t) + 0.9, 0.9) for t, k in enumerate(rng.integers(0, 2, 12), 1)]
        noisy = bumps(classes, plan, np.arange(0, 14, 0.125), noise=0.3, rng=rng)
        table.append((f"noise {number}", classes, EventSettings(threshold=0.45, dip=0.2, smoothing=0.2), noisy))
    return [
        {
            "name": name,
            "classes": classes,
            "settings": settings.model_dump(),
            "scores": rows,
            "events": run(classes, settings, rows),
        }
        for name, classes, settings, rows in table
    ]


if __name__ == "__main__":
    VECTORS.parent.mkdir(exist_ok=True)
    rows = ",\n".join(json.dumps(case) for case in cases())
    VECTORS.write_text(f"[\n{rows}\n]\n")
