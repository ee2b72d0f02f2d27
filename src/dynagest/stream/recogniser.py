"""Turns timed frames into gestures: a scorer followed by an event detector."""

from dataclasses import dataclass

import numpy as np

from dynagest.stream.events import Event, EventDetector
from dynagest.stream.scores import Scorer, Scores


@dataclass(frozen=True, slots=True)
class Update:
    """The result of one frame: the scores of all classes, for no tick, one or several, and the events."""

    scores: tuple[Scores, ...] = ()
    events: tuple[Event, ...] = ()


class Recogniser:
    """Recognises gestures in a stream of frames.

    Example::

        recogniser = dg.load_recogniser("runs/live")
        for frame, time in camera:
            for event in recogniser.push(frame, time).events:
                print(event.label, "begins" if event.end is None else "is over")
    """

    def __init__(self, scorer: Scorer, detector: EventDetector) -> None:
        self.scorer, self.detector = scorer, detector

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> Update:
        """Take the next frame, a uint8 RGB array (H, W, 3), taken at ``time`` seconds; times must rise.

        ``behind``: by how many seconds the newest waiting frame is newer (see ``Scorer.push``). Raises ``ClipError``
        when this is no frame or ``time`` is not finite or far before the newest one, and ``WeightsError`` for a network
        whose scores are not finite.
        """
        scores = tuple(self.scorer.push(frame, time, behind))
        return Update(scores, tuple(event for one in scores for event in self.detector.push(one)))

    def finish(self) -> Update:
        """End the stream, and with it the gesture that is going on, if there is one. Another stream may follow."""
        scores = tuple(self.scorer.finish())
        events = [event for one in scores for event in self.detector.push(one)]
        return Update(scores, (*events, *self.detector.finish()))

    def reset(self) -> None:
        """Forget all frames, scores and events. The next frame begins a stream."""
        self.scorer.reset()
        self.detector.reset()
