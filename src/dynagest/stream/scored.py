"""Runs streams through a network once, so that any number of event settings can be tried on the scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynagest.clips.streams import Span, Stream, StreamSet
from dynagest.errors import ClipError, ManifestError
from dynagest.stream.events import Event, EventDetector, EventSettings
from dynagest.stream.metrics import Recording
from dynagest.stream.scores import Scorer, Scores

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScoredStream:
    """A stream of ``seconds`` seconds: its true gestures and a network's scores (N, K) at ``times`` (N,) in seconds."""

    name: str
    seconds: float
    truth: tuple[Span, ...]
    times: np.ndarray
    scores: np.ndarray


def score_streams(
    scorer: Scorer, streams: StreamSet, split: str, progress: Progress | None = None
) -> tuple[ScoredStream, ...]:
    """Run every stream of a split through the network, from the first frame to the last, and return the scores.

    ``progress`` is called with (streams done, all). Raises ``ManifestError`` for a split that is empty or unknown, for
    labels that the network does not know, and for a gesture that does not begin before the end of its stream;
    ``ClipError`` for a stream that cannot be read or is a single frame.
    """
    chosen = streams.split(split).streams
    if not chosen:
        raise ManifestError(f"{streams.path}: has no streams in split {split!r}; choose another with --split")
    labels = {span.label for stream in chosen for span in stream.spans}
    if unknown := sorted(labels - set(scorer.card.classes)):
        raise ManifestError(
            f"{streams.path}: the network does not know {', '.join(unknown)}; it knows "
            f"{', '.join(scorer.card.classes)}. Rename the labels, or train on these gestures"
        )
    done = []
    for number, stream in enumerate(chosen, 1):
        done.append(_score(scorer, stream, streams))
        if progress:
            progress(number, len(chosen))
    return tuple(done)


def _score(scorer: Scorer, stream: Stream, streams: StreamSet) -> ScoredStream:
    scorer.reset()
    scores: list[Scores] = []
    count, last = 0, 0.0
    for frame, time in stream.frames():
        scores += scorer.push(frame, time)
        count, last = count + 1, time
    if count < 2:
        raise ClipError(f"{stream.video}: is a single frame, not a stream")
    scores += scorer.finish()
    seconds = last * count / (count - 1)  # the last frame lasts as long as the mean of the others
    for span in stream.spans:
        if span.begin >= seconds:
            raise ManifestError(
                f"{streams.path}: {span.label} begins at {span.begin:g} s of {stream.video}, which lasts {seconds:.1f} "
                "s; begin and end are seconds from the first frame, not frames"
            )
    name = str(stream.video)
    if streams.path and stream.video.is_relative_to(streams.path.parent):
        name = stream.video.relative_to(streams.path.parent).as_posix()
    return ScoredStream(
        name=name,
        seconds=seconds,
        truth=stream.spans,
        times=np.array([one.time for one in scores]),
        scores=np.array([one.scores for one in scores]).reshape(len(scores), len(scorer.card.classes)),
    )


def detect(scored: ScoredStream, classes: Sequence[str], settings: EventSettings) -> Recording:
    """The true gestures of a scored stream, with the events that a detector with these settings finds in it.

    Raises ``WeightsError`` for scores that are not finite.
    """
    detector = EventDetector(classes, settings)
    found: list[Event] = []
    for time, scores in zip(scored.times.tolist(), scored.scores, strict=True):
        found += detector.push(Scores(time, scores))
    found += detector.finish()
    finished = tuple(event for event in found if event.end is not None)
    return Recording(scored.name, scored.seconds, scored.truth, finished)
