"""How fast a stream is sampled for a network: by the durations of the clips that it was trained on. Needs no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from dynagest.card import BACKGROUND
from dynagest.errors import ClipError

if TYPE_CHECKING:
    from dynagest.clips.dataset import ClipSource

CLIPS = 64  # looked at, spread evenly over the source: enough for a median
ASSUMED = 30.0  # frames a second of clips that do not say: EgoGesture, NVGesture and nearly all cameras


@runtime_checkable
class TimedSource(Protocol):
    """A ``ClipSource`` that knows how long its clips last."""

    def timing(self, index: int) -> tuple[int, float | None]:
        """Frames of clip ``index``, and frames a second if it says so. Raises ``ClipError`` if it is unreadable."""


@dataclass(frozen=True, slots=True)
class StreamRate:
    """``fps``: frames a second for a network's card. ``origin``: in words, where that comes from."""

    fps: float
    origin: str


def stream_rate(
    source: "ClipSource", num_segments: int, sampling: Literal["segment", "dense"] = "segment", stride: int = 1
) -> StreamRate | None:
    """The rate at which frames of a stream look like the frames of training clips.

    One frame from each of T equal parts of a clip: T frames lie as far apart as in the median clip of D seconds, so
    fps = T / D. Frames ``stride`` apart ("dense"): the median frame rate of the clips over the stride. Looks at up to
    64 gestures; the background class ("none") and clips that cannot be read are passed over. ``None`` for a source that
    is not a ``TimedSource``, or none of whose clips can be read.
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
    unknown = sum(rate is None for _, rate in timings)
    note = f"; {unknown} do not state their frame rate, {ASSUMED:g} assumed" if unknown else ""
    return StreamRate(fps, f"{origin}, the median of {len(timings)} clips{note}")
