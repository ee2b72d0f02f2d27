"""Turns scores over time into gestures with a begin, an end and one activation each. NumPy only.

docs/events.md gives the algorithm, its equations and what each parameter does. The web page runs the same algorithm;
``tests/vectors/events.json`` holds both to the same answers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dynagest.atomic import write_atomically
from dynagest.card import BACKGROUND
from dynagest.errors import ClipError, WeightsError
from dynagest.fields import read_record
from dynagest.run_folder import EVENTS_FILE
from dynagest.stream.scores import Scores


class EventSettings(BaseModel):
    """The parameters of ``EventDetector`` (docs/events.md). ``dynagest tune`` chooses them on validation streams.

    ``smoothing``, ``cooldown``, ``longest`` and ``lag`` are seconds; ``threshold`` and ``dip`` are in (0, 1), with
    ``dip`` at most ``threshold``. Raises pydantic's ``ValidationError`` for other values.

    Example: ``EventDetector(card.classes, EventSettings(threshold=0.7))``
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    smoothing: float = Field(
        default=0.15, ge=0, le=5, description="seconds over which scores are averaged (time constant)"
    )
    threshold: float = Field(default=0.6, gt=0, lt=1, description="evidence from which a gesture is reported")
    dip: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="evidence that a gesture must lose to be over, and win back to be reported again",
    )
    cooldown: float = Field(default=0.6, ge=0, description="seconds after a report in which no other one is made")
    longest: float = Field(default=4.0, gt=0, description="seconds after which a reported gesture is over in any case")
    lag: float = Field(
        default=0.4, ge=0, description="seconds by which scores follow the hand; taken off begin and end"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.dip > self.threshold:
            raise ValueError(f"dip: {self.dip} is more than the threshold of {self.threshold}; make it smaller")
        return self


@dataclass(frozen=True, slots=True)
class Event:
    """A gesture. It is reported twice: when it is recognised (the activation, ``end`` is None), and when it is over.

    ``begin`` and ``end`` are estimates, in seconds of the stream; ``fired`` is the time of the activation, the same in
    both reports. ``confidence`` in (0, 1] is the evidence at the activation; in the second report, the maximum of the
    evidence since then.
    """

    label: str
    begin: float
    end: float | None
    confidence: float
    fired: float


class EventDetector:
    """A state machine that turns scores into events. All its times are seconds, so scores may come at uneven intervals.

    ``classes`` names the scores, two or more, in their order; the class "none" means that no gesture is going on.
    Without that class, the evidence for the best class is its lead over the second, so an undecided network counts as
    "none".

    Example::

        detector = EventDetector(card.classes, EventSettings())
        for scores in scorer.push(frame, time):
            for event in detector.push(scores):
                if event.end is None:
                    print(f"{event.label} ({event.confidence:.0%})")
    """

    def __init__(self, classes: Sequence[str], settings: EventSettings) -> None:
        assert len(classes) > 1, "a network tells at least two classes apart"
        self.classes, self.settings = tuple(classes), settings
        self._none = self.classes.index(BACKGROUND) if BACKGROUND in self.classes else None
        self.reset()

    def reset(self) -> None:
        """Forget all scores and events. The next scores begin a stream."""
        count = len(self.classes)
        self._time: float | None = None
        self._mean = np.full(count, 1 / count) if self._none is None else np.eye(count)[self._none]
        self._valley = np.zeros(count)
        self._onset = np.zeros(count)
        self._active: Event | None = None
        self._class = -1
        self._last_fired, self._last_end = -math.inf, -math.inf

    def push(self, scores: Scores) -> list[Event]:
        """Take the next scores (K,). Returns the end of a gesture, an activation, both in this order, or nothing.

        Raises ``ClipError`` for scores older than the last ones, ``WeightsError`` for scores that are not finite or
        not one for each class.
        """
        time, settings = scores.time, self.settings
        if scores.scores.shape != (len(self.classes),):
            raise WeightsError(
                f"scores of shape {scores.scores.shape} for {len(self.classes)} classes: of another network; give the "
                "detector the classes of the network that gives the scores"
            )
        if not np.isfinite(scores.scores).all():
            raise WeightsError(f"the scores at {time:.3f} s are not finite: the network's weights are broken")
        if self._time is None:
            self._time = self._last_end = time
        if time < self._time:
            raise ClipError(
                f"scores at {time:.3f} s came after those at {self._time:.3f} s: times of a stream must rise; "
                "reset() before another stream"
            )
        before, self._time = self._time, time
        share = 1 - math.exp((before - time) / settings.smoothing) if settings.smoothing else 1.0
        self._mean = self._mean + share * (scores.scores - self._mean)

        evidence = self._evidence()
        self._valley = np.minimum(self._valley, evidence)
        low = evidence <= np.maximum(settings.threshold / 2, self._valley)
        self._onset[low] = time
        best = int(self._mean.argmax())
        ready = (
            best != self._none
            and evidence[best] >= max(settings.threshold, self._valley[best] + settings.dip)
            and time - self._last_fired >= settings.cooldown
        )

        events: list[Event] = []
        if self._active is not None:
            now = float(evidence[self._class])
            self._active = replace(self._active, confidence=max(self._active.confidence, now))
            too_long = time - self._active.fired >= settings.longest
            if too_long or now < self._active.confidence - settings.dip or (ready and best != self._class):
                # It ends at the previous scores, the last that supported it: during a gap nobody saw it go on.
                events.append(self._end(before))
                self._valley[self._class] = now
                ready = ready and best != self._class
        if ready and self._active is None:
            begin = max(float(self._onset[best]) - settings.lag, self._last_end)
            self._active, self._class = Event(self.classes[best], begin, None, float(evidence[best]), time), best
            self._last_fired = time
            events.append(self._active)
        return events

    def finish(self) -> list[Event]:
        """End the stream and reset. Returns the end of the gesture that is going on, if there is one."""
        events = [] if self._active is None or self._time is None else [self._end(self._time)]
        self.reset()
        return events

    def _evidence(self) -> np.ndarray:
        """The evidence that each class is going on, (K,) in [0, 1]."""
        if self._none is not None:
            return self._mean
        second, first = np.partition(self._mean, -2)[-2:]
        return np.maximum(self._mean - np.where(self._mean == first, second, first), 0.0)

    def _end(self, time: float) -> Event:
        assert self._active is not None
        over = replace(self._active, end=max(time - self.settings.lag, self._active.begin))
        assert over.end is not None
        self._active, self._last_end = None, over.end
        return over


class EventsFile(BaseModel):
    """The content of ``events.json`` beside a network: the settings, and how and on what data they were tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    settings: EventSettings
    tuned: dict[str, Any] = {}

    @classmethod
    def read(cls, folder: Path) -> "EventsFile":
        """Read the events file in a run folder. Raises ``RunError`` when it is missing or malformed."""
        return read_record(cls, folder / EVENTS_FILE, "an events file of this version", "`dynagest tune` writes it")

    def write(self, folder: Path) -> Path:
        """Write the file atomically into a run folder, and return its path. Raises ``RunError`` when it cannot be."""
        path = folder / EVENTS_FILE
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        return path


def tuned_settings(run: Path) -> EventSettings | None:
    """The settings that ``dynagest tune`` wrote beside a network (a run folder or a file in it); None without any.

    Raises ``RunError`` when they cannot be read.
    """
    folder = run if run.is_dir() else run.parent
    return EventsFile.read(folder).settings if (folder / EVENTS_FILE).exists() else None
