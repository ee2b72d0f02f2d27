"""Generates streams: long videos of gestures, pauses and other movements, with the begin and end of each gesture.

    folder/streams.csv  classes.txt  streams.json (the StreamSpec)
    folder/val/S041-000.avi     MJPEG, as clips are; see ``clips/streams.py`` for the list

A gesture begins with its preparation and ends with its retraction, as in a clip. The hand's way from a pause to the
preparation, and from the retraction to a pause, does not belong to it. Each stream shows one subject and one scene of
its split.
"""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dynagest.clips.splits import SPLITS, Split
from dynagest.clips.streams import STREAMS_FILE, Span, Stream, StreamSet
from dynagest.errors import RunError
from dynagest.fields import read_record
from dynagest.lock import sole_writer
from dynagest.synth.film import Take
from dynagest.synth.idle import Track, draw_movement, draw_pause, perform
from dynagest.synth.motion import Motion
from dynagest.synth.pool import Progress, render_all, stopping
from dynagest.synth.recording import first_scene, first_subject, record, scene_of, subject_of
from dynagest.synth.scene import draw_events
from dynagest.synth.sensor import Noise
from dynagest.synth.spec import PerSplit, SynthSpec
from dynagest.synth.subject import Subject, subject_name
from dynagest.synth.write import claim, place, write_mjpeg

SPEC_FILE = "streams.json"
_STREAM = 4  # second word of the seed sequence, see recording.py
_CHUNK = 24  # frames rendered at once


class StreamCounts(PerSplit):
    """How many streams each split has."""

    train: int = Field(default=0, ge=0)
    val: int = Field(default=4, ge=0)
    test: int = Field(default=8, ge=0)


class StreamSpec(BaseModel):
    """The settings of a set of generated streams. The same spec gives the same streams everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: SynthSpec = Field(default=SynthSpec(), description="who, where, what and how hard: as in a set of clips")
    streams: StreamCounts = Field(default=StreamCounts(), description="recordings in each split")
    minutes: float = Field(default=1.0, ge=0.1, le=120, description="length of a recording")
    fps: float = Field(default=24.0, ge=5, le=120, description="frames of a recording in a second")
    pause: float = Field(default=1.2, gt=0.1, le=30, description="mean seconds from one gesture to the next movement")
    movements: float = Field(default=0.4, ge=0, le=1, description="share of pauses with a movement that is no gesture")
    repeats: float = Field(default=0.2, ge=0, lt=1, description="share of gestures that are made again at once")
    tempo: float = Field(default=0.2, ge=0, le=0.5, description="how much longer or shorter than a clip a gesture is")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.streams.model_dump().values()):
            raise ValueError("streams: at least one split must have a stream")
        return self

    @property
    def num_frames(self) -> int:
        """The number of frames of a recording."""
        return round(self.minutes * 60 * self.fps)


def plan_stream(spec: StreamSpec, split: Split, index: int) -> tuple[Take, tuple[Span, ...]]:
    """Draw stream ``index`` of ``split``: the take to render, and its gestures in order, in seconds."""
    clips = spec.clips
    rng = np.random.default_rng((clips.seed, _STREAM, SPLITS.index(split), index))
    subject = subject_of(clips, first_subject(clips, split) + index % clips.subjects.of(split))
    scene = scene_of(clips, first_scene(clips, split) + int(rng.integers(clips.scenes.of(split))))
    motion, spans = draw_performance(spec, subject, rng)
    events = draw_events(rng, clips, scene, subject)
    # Hand, distractors and camera move as fast as in clips, because their unit of time is the length of a clip.
    times = (np.arange(spec.num_frames) + 0.5) / spec.fps / clips.seconds
    noise = Noise.draw(rng, spec.num_frames)
    return Take("", subject, scene, events, motion, times, spec.fps * clips.seconds, noise), spans


def draw_performance(spec: StreamSpec, subject: Subject, rng: np.random.Generator) -> tuple[Motion, tuple[Span, ...]]:
    """Draw what ``subject`` does in one recording, and return the motion and its gestures in order, in seconds.

    Apart from gestures that are repeated at once, every class is performed once before any is performed again.
    """
    clips, length = spec.clips, spec.minutes * 60
    track, spans, bag = Track(), list[Span](), list[str]()
    track.add(draw_pause(rng, rng.uniform(0.8, 2.0)))
    label = ""
    while True:
        again = bool(spans) and rng.uniform() < spec.repeats
        if not again:
            bag = bag or rng.permutation(clips.classes).tolist()
            label = bag.pop()
            track.add(draw_pause(rng, min(rng.exponential(spec.pause), 4 * spec.pause) + 0.1))
            if rng.uniform() < spec.movements:
                track.add(draw_movement(rng))
        seconds = clips.seconds * (1 + spec.tempo * rng.uniform(-1, 1))
        gesture = perform(label, subject, rng, style=clips.style, seconds=seconds)
        begin = track.add(gesture, rng.uniform(0.15, 0.5))
        # A gesture that the end would cut off is taken back, and the recording ends in a pause.
        if track.end + 0.5 > length:
            track.times.pop()
            track.keys.pop()
            break
        spans.append(Span(label, begin, track.end))
    track.add(draw_pause(rng, max(length - track.end, 0.5)))
    motion = track.motion(subject, rng, style=clips.style, start=0.0, unit=clips.seconds)
    return motion, tuple(spans)


def film_stream(spec: StreamSpec, take: Take) -> Iterator[np.ndarray]:
    """Yield the frames of a stream, uint8 (S, S, 3) RGB, rendered as they are asked for."""
    for start in range(0, spec.num_frames, _CHUNK):
        footage = record(spec.clips, take, np.arange(start, min(start + _CHUNK, spec.num_frames)))
        yield from footage.pictures()


def write_streams(
    folder: Path | str, spec: StreamSpec, *, workers: int | None = None, progress: Progress | None = None
) -> StreamSet:
    """Render every stream of ``spec`` into ``folder`` and list them in ``streams.csv``.

    Arguments, errors and behaviour after an interruption are those of ``write_synth``, but ``progress`` counts streams.
    """
    folder = Path(folder).absolute()
    keys = [(split, index) for split in SPLITS for index in range(spec.streams.of(split))]
    try:
        claim(folder / SPEC_FILE, spec, read_stream_spec)
        missing = [key for key in keys if not _video(folder, spec, *key).exists()]
        for split in {split for split, _ in missing}:
            (folder / split).mkdir(exist_ok=True)
        with sole_writer(folder) if missing else nullcontext():
            render_all(partial(_write_stream, folder, spec), missing, len(keys), progress, workers=workers, chunk=1)
        streams = tuple(_stream(folder, spec, *key) for key in keys)
        return StreamSet(streams, spec.clips.classes).write(folder / STREAMS_FILE)
    except OSError as error:
        raise RunError(f"{folder}: the streams cannot be written: {error}; free the disk and run it again") from error


def read_stream_spec(folder: Path | str) -> StreamSpec:
    """Read the spec of a folder that ``write_streams`` wrote. Raises ``RunError`` if there is none."""
    advice = "name a folder of `dynagest data streams`"
    return read_record(StreamSpec, Path(folder) / SPEC_FILE, "a spec of generated streams", advice)


def _video(folder: Path, spec: StreamSpec, split: Split, index: int) -> Path:
    number = first_subject(spec.clips, split) + index % spec.clips.subjects.of(split)
    return folder / split / f"{subject_name(number)}-{index:03d}.avi"


def _write_stream(folder: Path, spec: StreamSpec, key: tuple[Split, int]) -> None:
    take, _ = plan_stream(spec, *key)
    with suppress(_Stopped), place(_video(folder, spec, *key)) as temporary:
        write_mjpeg(str(temporary), _until_stopped(film_stream(spec, take)), spec.clips.size, spec.fps)


class _Stopped(Exception):
    """Raised when this worker is told to stop before a stream is rendered to its end."""


def _until_stopped(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        if stopping():
            raise _Stopped
        yield frame


def _stream(folder: Path, spec: StreamSpec, split: Split, index: int) -> Stream:
    take, spans = plan_stream(spec, split, index)
    return Stream(_video(folder, spec, split, index), spans, spec.fps, split, take.subject.name)
