"""Records clips of gestures one after another, each after a countdown. All times are those of the frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dynagest.clips.gesture_folder import count_clips, write_clip
from dynagest.errors import CameraError
from dynagest.live.capture import Capture, Frame

READING = 2.0  # s added to the countdown before the first clip of a gesture, to read its name
_WAIT = 0.2
_CLOSEST = 0.002  # s; closer frames are left out, because a clip keeps its times to the millisecond


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the user is to do now, for clip ``number`` (from 1) of ``of`` clips of ``gesture``.

    ``phase`` is "ready" while the countdown runs, then "recording", then "saved", once, with the file's ``path``; or
    "lost" while the source is lost, after which the interrupted clip begins again with its countdown. ``left`` are the
    seconds to the end of the phases "ready" and "recording".
    """

    gesture: str
    number: int
    of: int
    phase: Literal["ready", "recording", "saved", "lost"]
    left: float = 0.0
    frame: Frame | None = None
    path: Path | None = None


def record(
    capture: Capture, folder: Path, names: Sequence[str], clips: int, seconds: float, countdown: float
) -> Iterator[Prompt]:
    """Record until there are ``clips`` clips of each gesture, counting those that are in ``folder`` already.

    ``names`` are ones that ``check_label`` accepts. Raises ``CameraError`` when the source ends too early; the clips
    recorded until then stay. Errors of ``write_clip`` pass through.
    """
    for name in names:
        first = count_clips(folder, name) + 1
        for number in range(first, clips + 1):
            wait = countdown + (READING if number == first else 0.0)
            yield from _record_clip(capture, folder, Prompt(name, number, clips, "ready"), seconds, wait)


def _record_clip(capture: Capture, folder: Path, about: Prompt, seconds: float, wait: float) -> Iterator[Prompt]:
    begin: Frame | None = None
    frames: list[Frame] = []
    while True:
        frame = capture.next(_WAIT)
        if frame is None:
            state = capture.status.state
            if state == "ended":
                raise CameraError(
                    f"{capture.source.name}: ended before clip {about.number} of {about.gesture} was recorded; what "
                    "was recorded is kept, and the same command goes on from there"
                )
            if state == "lost":
                yield replace(about, phase="lost")
            continue
        if begin is None or frame.lost > begin.lost:
            begin, frames = frame, []
        due = begin.time + wait
        if frame.time < due:
            yield replace(about, phase="ready", left=due - frame.time, frame=frame)
            continue
        if frames and frame.time - frames[-1].time < _CLOSEST:
            continue  # frames came in a burst, or the clock is coarse, like that of Windows before Python 3.13
        frames.append(frame)
        left = frames[0].time + seconds - frame.time
        if left > 0:
            yield replace(about, phase="recording", left=left, frame=frame)
            continue
        path = write_clip(folder, about.gesture, [each.rgb for each in frames], [each.time for each in frames])
        yield replace(about, phase="saved", frame=frame, path=path)
        return
