"""The rate at which a stream is sampled for a network, from the durations of its training clips. Needs no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from dynagest.card import BACKGROUND, FASTEST, Sampling
from dynagest.errors import ClipError

if TYPE_CHECKING:
    from dynagest.clips.dataset import ClipSource

CLIPS = 64  # the number of clips looked at, spread evenly over the source, which is enough for a median
ASSUMED = 30.0  # frames a second of clips that do not state it; the rate of EgoGesture, NVGesture and most cameras


@runtime_checkable
class TimedSource(Protocol):
    """A ``ClipSource`` that knows how long its clips last."""

    def timing(self, index: int) -> tuple[int, float | None]:
        """The number of frames of clip ``index`` and its frames a second, ``None`` if it does not state them.

        Raises ``ClipError`` if the clip is unreadable.
        """


@dataclass(frozen=True, slots=True)
class StreamRate:
    """A rate for a network's card: ``fps``, in frames a second, and ``origin``, which says how it was found."""

    fps: float
    origin: str


def stream_rate(
    source: "ClipSource", num_segments: int, sampling: Sampling = "segment", stride: int = 1
) -> StreamRate | None:
    """Find the rate at which the frames of a stream are as far apart as those sampled from training clips.

    With "segment" sampling (one frame from each of T = ``num_segments`` equal parts) that is T / D for a median clip of
    D seconds. With "dense" sampling it is the median frame rate of the clips divided by ``stride``. Looks at up to 64
    clips of gestures; the background class ("none") and unreadable clips are passed over. Returns ``None`` for a source
    that is not a ``TimedSource``, that has no readable clip of a gesture, or whose clips are too short for any camera
    (more than ``FASTEST`` frames a second).
    """
    if not isinstance(source, TimedSource):
        return None
    background = source.classes.index(BACKGROUND) if BACKGROUND in source.classes else None
    gestures = [index for index in range(len(source)) if source.label(index) != background]
    timings = []
    for place in np.unique(np.linspace(0, len(gestures) - 1, min(CLIPS, len(gestures))).round().astype(int)):
        try:
            timings.append(source.timing(gestures[place]))
        except ClipError:  # training reports it
            continue
    if not timings:
        return None
    rates = [rate or ASSUMED for _, rate in timings]
    if sampling == "dense":
        rate = float(np.median(rates))
        fps, origin = rate / stride, f"every {stride}. of {rate:.4g} frames/s"
    else:
        seconds = float(np.median([frames / rate for (frames, _), rate in zip(timings, rates, strict=True)]))
        fps, origin = num_segments / seconds, f"{num_segments} frames in {seconds:.3g} s"
    if fps > FASTEST:
        return None
    unknown = sum(rate is None for _, rate in timings)
    note = f"; {unknown} do not state their frame rate, {ASSUMED:g} assumed" if unknown else ""
    return StreamRate(fps, f"{origin}, the median of {len(timings)} clips{note}")
