"""Timed frames in, gestures out: a scorer and an event detector, joined."""

from dataclasses import dataclass

import numpy as np

from dynagest.stream.events import Event, EventDetector
from dynagest.stream.scores import Scorer, Scores


@dataclass(frozen=True, slots=True)
class Update:
    """What one frame brought: scores of all classes (none, once or several times), and events."""

    scores: tuple[Scores, ...] = ()
    events: tuple[Event, ...] = ()


class Recogniser:
    """Recognises gestures in a stream of frames.

    Example::

        from dynagest.stream.load import load_recogniser

        recogniser = load_recogniser("runs/demo")
        for frame, time in camera:
            for event in recogniser.push(frame, time).events:
                print(event.label, "begins" if event.end is None else "is over")
    """

    def __init__(self, scorer: Scorer, detector: EventDetector) -> None:
        self.scorer, self.detector = scorer, detector

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> Update:
        """One more frame, uint8 RGB (H, W, 3), taken at ``time`` seconds; times rise.

        ``behind``: how many seconds newer the frames are that wait already (see ``Scorer.push``). Raises ``ClipError``
        for what is no frame or a time that falls, ``WeightsError`` for a network whose scores are not finite.
        """
        scores = tuple(self.scorer.push(frame, time, behind))
        return Update(scores, tuple(event for one in scores for event in self.detector.push(one)))

    def finish(self) -> Update:
        """The stream is over: ends the gesture that is going on, if there is one. Another stream may follow."""
        scores = tuple(self.scorer.finish())
        events = [event for one in scores for event in self.detector.push(one)]
        return Update(scores, (*events, *self.detector.finish()))

    def reset(self) -> None:
        """Forget everything: the next frame begins a stream."""
        self.scorer.reset()
        self.detector.reset()
