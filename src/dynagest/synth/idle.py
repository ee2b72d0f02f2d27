"""Draws what a hand does when it makes no gesture: it rests, leaves the image, scratches, takes things, fidgets.

A ``Track`` joins such movements and gestures. Streams are made of tracks; clips of the class "none" and loosely cut
clips are cut from them. Times are in seconds, keyframes as in ``motion.Motion``: mm and degrees, directions as the
performer sees them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dynagest.synth.gestures import GESTURES, SHAPES
from dynagest.synth.motion import (
    ANGLES,
    AWAY,
    COLUMNS,
    ROLL,
    SHOW,
    TILT,
    TURN,
    TWIST,
    Motion,
    X,
    Y,
    draw_motion,
    draw_tremor,
)
from dynagest.synth.spec import SynthSpec
from dynagest.synth.subject import Subject

_SPEED_MM, _SPEED_DEG = 750.0, 330.0  # speed of a hand between two movements, per second
_GONE_MM = 420.0  # a hand this far below the middle of a gesture is out of the image
_FINGERS = 4  # besides the thumb


@dataclass(frozen=True)
class Phrase:
    """A movement. ``times``: (K,) seconds, rising from 0; ``keys``: (K, 28), see ``motion.Motion``."""

    times: np.ndarray
    keys: np.ndarray


@dataclass
class Track:
    """Movements one after the other, with time between them for the hand to get from one to the next."""

    times: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)

    @property
    def end(self) -> float:
        """The time at which the last movement ends, in seconds."""
        return float(self.times[-1][-1]) if self.times else 0.0

    def add(self, phrase: Phrase, pause: float = 0.0) -> float:
        """Append a movement and return the time at which it begins, in seconds.

        The first one begins at 0. Others begin ``pause`` seconds after the end of the one before, or later if the hand
        needs longer to get there.
        """
        begin = 0.0
        if self.times:
            way = np.abs(phrase.keys[0] - self.keys[-1][-1])
            needed = max(np.hypot(way[X], way[Y]) / _SPEED_MM, way[TURN : SHOW + 1].max() / _SPEED_DEG, 0.12)
            begin = self.end + max(pause, float(needed))
        self.times.append(begin + phrase.times)
        self.keys.append(phrase.keys)
        return begin

    def motion(self, subject: Subject, rng: np.random.Generator, *, style: float, start: float, unit: float) -> Motion:
        """Make a ``Motion`` of the track: its time 0 is ``start`` seconds, and its unit of time is ``unit`` seconds."""
        times = (np.concatenate(self.times) - start) / unit
        return Motion(times, np.concatenate(self.keys), draw_tremor(subject, rng, style=style))


def perform(name: str, subject: Subject, rng: np.random.Generator, *, style: float, seconds: float) -> Phrase:
    """Draw the gesture ``name``, lasting ``seconds`` from preparation to retraction."""
    motion = draw_motion(GESTURES[name], subject, rng, style=style)
    return Phrase(motion.times * seconds, motion.keys)


def draw_movement(rng: np.random.Generator) -> Phrase:
    """Draw a movement that is no gesture."""
    return MOVEMENTS[int(rng.integers(len(MOVEMENTS)))](rng)


def draw_pause(rng: np.random.Generator, seconds: float) -> Phrase:
    """Draw a pause of ``seconds``, in which the hand rests in the image or is out of it."""
    return _rest(rng, seconds) if rng.uniform() < 0.5 else _away(rng, seconds)


def draw_background(spec: SynthSpec, subject: Subject, rng: np.random.Generator) -> Motion:
    """Draw the motion of a clip of the class "none": a piece of a track without the stroke of any gesture.

    It may contain the end of a retraction or the beginning of a preparation, as pauses between gestures do.
    """
    track, style = Track(), spec.style
    if rng.uniform() < 0.25:
        track.add(_part(_any_gesture(spec, subject, rng), after_stroke=True))
    else:
        track.add(draw_pause(rng, rng.uniform(0.3, 1.5) * spec.seconds))
    if rng.uniform() < 0.75:
        track.add(draw_movement(rng))
    track.add(draw_pause(rng, rng.uniform(0.3, 1.5) * spec.seconds))
    if rng.uniform() < 0.25:
        track.add(_part(_any_gesture(spec, subject, rng), after_stroke=False))
    start = rng.uniform(0.0, max(track.end - spec.seconds, 0.0))
    return track.motion(subject, rng, style=style, start=start, unit=spec.seconds)


def draw_loose(spec: SynthSpec, name: str, subject: Subject, rng: np.random.Generator) -> Motion:
    """Draw the motion of a clip of the gesture ``name`` that is not cut exactly.

    The middles of gesture and clip are up to ``spec.slack`` of the clip's length apart, and the gesture is up to half
    of that share longer or shorter than the clip. Before and after the gesture the hand pauses or makes another
    movement.
    """
    track = Track()
    track.add(_before_or_after(rng, spec.seconds))
    tempo = 1 + 0.5 * spec.slack * rng.uniform(-1, 1)
    gesture = perform(name, subject, rng, style=spec.style, seconds=spec.seconds * tempo)
    begin = track.add(gesture, rng.uniform(0.15, 0.5))
    track.add(_before_or_after(rng, spec.seconds), rng.uniform(0.15, 0.5))
    start = 0.5 * (begin + track.times[1][-1] - spec.seconds) + spec.slack * spec.seconds * rng.uniform(-1, 1)
    return track.motion(subject, rng, style=spec.style, start=start, unit=spec.seconds)


def _before_or_after(rng: np.random.Generator, seconds: float) -> Phrase:
    return draw_movement(rng) if rng.uniform() < 0.3 else draw_pause(rng, seconds)


def _any_gesture(spec: SynthSpec, subject: Subject, rng: np.random.Generator) -> Phrase:
    name = spec.classes[int(rng.integers(len(spec.classes)))]
    return perform(name, subject, rng, style=spec.style, seconds=spec.seconds)


def _part(gesture: Phrase, *, after_stroke: bool) -> Phrase:
    """The second half of a gesture's retraction, or the first half of its preparation.

    These lie between its last two or its first two keys, since the hand rests at the first and at the last.
    """
    (a, b) = (-2, -1) if after_stroke else (0, 1)
    ends = gesture.keys[[a, b]].copy()
    ends[0 if after_stroke else 1] = ends.mean(axis=0)
    return Phrase(np.array((0.0, 0.5 * (gesture.times[b] - gesture.times[a]))), ends)


def _key(
    shape: np.ndarray,
    x: float = 0.0,
    y: float = 0.0,
    away: float = 0.0,
    *,
    turn: float = 0.0,
    roll: float = 0.0,
    tilt: float = 20.0,
    twist: float = 0.0,
) -> np.ndarray:
    row = np.zeros(COLUMNS)
    row[:ANGLES] = shape
    row[[X, Y, AWAY, TURN, ROLL, TILT, TWIST]] = (x, y, away, turn, roll, tilt, twist)
    return row


def _shape(first: str, second: str = "relaxed", share: float = 0.0) -> np.ndarray:
    """Joint angles (20,), in degrees, that are ``share`` of the way from a first hand shape to a second one."""
    a, b = (np.asarray(SHAPES[name]).reshape(-1) for name in (first, second))
    return a + share * (b - a)


def _phrase(steps: list[float], keys: list[np.ndarray]) -> Phrase:
    """A movement through ``keys``. ``steps``: the seconds from the key before to each key, 0 for the first."""
    return Phrase(np.cumsum(steps), np.stack(keys))


def _rest(rng: np.random.Generator, seconds: float) -> Phrase:
    """The hand rests low in the image, relaxed and nearly still."""
    place = rng.normal(0.0, 28.0), rng.uniform(45.0, 125.0)
    attitude = {"roll": rng.normal(0, 12), "tilt": rng.uniform(0, 55), "twist": rng.normal(0, 35)}
    shape = _shape("relaxed", "flat" if rng.uniform() < 0.5 else "fist", rng.uniform(0.0, 0.5))
    drift = rng.normal(0.0, 7.0, 2)
    keys = [_key(shape, *place, **attitude), _key(shape, *(place + drift), **attitude)]
    return _phrase([0.0, seconds], keys)


def _away(rng: np.random.Generator, seconds: float) -> Phrase:
    """The hand is out of the image, below it or at a lower corner."""
    key = _key(_shape("relaxed"), rng.normal(0.0, 90.0), _GONE_MM + rng.uniform(0.0, 60.0), tilt=rng.uniform(0, 40))
    return _phrase([0.0, seconds], [key, key])


def _scratch(rng: np.random.Generator) -> Phrase:
    """Bent fingers make quick small strokes, with the palm to the performer, as at the cheek or the other arm."""
    place = np.array((rng.choice((-1, 1)) * rng.uniform(30, 110), rng.uniform(-90, 40)))
    attitude = {"roll": rng.normal(0, 28), "tilt": rng.uniform(-20, 25), "twist": rng.uniform(130, 195)}
    strokes = int(rng.integers(3, 8))
    step, along = rng.uniform(0.1, 0.15), rng.normal(0, 5, 2)
    keys = [
        _key(_shape("claw", "hook", 0.35 + 0.3 * (i % 2)), *(place + along * (i % 2)), **attitude)
        for i in range(2 * strokes + 1)
    ]
    return _phrase([0.0, *[step] * (2 * strokes)], keys)


def _reach(rng: np.random.Generator) -> Phrase:
    """The hand, seen edge on, reaches for something at the side, closes round it and takes it out of the image."""
    side, twist = rng.choice((-1, 1)), rng.uniform(50, 100)
    there = (side * rng.uniform(60, 170), rng.uniform(-50, 90), rng.uniform(20, 120))
    hold = _shape("relaxed", "fist", rng.uniform(0.4, 0.7))
    halfway = _key(_shape("relaxed", "claw", 0.5), 0.5 * there[0], 0.5 * (there[1] + 150), 0.5 * there[2], twist=twist)
    keys = [
        _key(_shape("relaxed"), there[0] * 0.2, rng.uniform(150, 300), twist=0.5 * twist),
        halfway,
        _key(_shape("claw", share=0.4), *there, roll=12 * side, twist=twist),
        _key(hold, *there, roll=12 * side, twist=twist),
        _key(hold, 0.6 * there[0], _GONE_MM, 0.3 * there[2], twist=twist),
    ]
    return _phrase([0.0, *rng.uniform((0.25, 0.2, 0.2, 0.5), (0.45, 0.4, 0.45, 0.8)).tolist()], keys)


def _fidget(rng: np.random.Generator) -> Phrase:
    """The hand wanders about while its fingers change from one half-made shape to another."""
    names = list(SHAPES)
    place, attitude, keys = rng.normal(0, 30, 3), rng.normal(0, (10, 15, 30)), []
    for _ in range(int(rng.integers(4, 9))):
        first, second = (names[int(i)] for i in rng.integers(len(names), size=2))
        place, attitude = 0.7 * place + rng.normal(0, 24, 3), 0.7 * attitude + rng.normal(0, (9, 9, 22))
        shape = 0.4 * _shape("relaxed") + 0.6 * _shape(first, second, rng.uniform(0.3, 0.7))
        roll, tilt, twist = attitude
        keys.append(_key(shape, place[0], place[1] + 25.0, place[2], roll=roll, tilt=20 + tilt, twist=twist))
    return _phrase([0.0, *rng.uniform(0.2, 0.5, len(keys) - 1).tolist()], keys)


def _hesitate(rng: np.random.Generator) -> Phrase:
    """The hand is raised as if for a gesture, waits, and sinks again."""
    shape = _shape("relaxed", "open" if rng.uniform() < 0.5 else "flat", rng.uniform(0.2, 0.9))
    x, tilt, twist = rng.normal(0, 30), rng.uniform(0, 35), rng.normal(0, 20)
    low = _key(_shape("relaxed"), x, rng.uniform(150, 260), tilt=tilt, twist=twist)
    high = _key(shape, x + rng.normal(0, 12), rng.uniform(-25, 30), tilt=tilt, twist=twist)
    steps = [0.0, *rng.uniform((0.3, 0.3, 0.3), (0.6, 1.3, 0.6)).tolist()]
    return _phrase(steps, [low, high, high + rng.normal(0, 2.0, COLUMNS), low])


def _drum(rng: np.random.Generator) -> Phrase:
    """Fingers drum one after the other on something below the hand."""
    place = (rng.normal(0, 40), rng.uniform(10, 90))
    attitude = {"roll": rng.normal(0, 15), "tilt": rng.uniform(50, 75), "twist": rng.normal(0, 12)}
    beats, step = int(rng.integers(8, 17)), rng.uniform(0.09, 0.14)
    keys = []
    for beat in range(beats):
        shape = _shape("relaxed", "claw", 0.4).reshape(5, 4).copy()
        shape[_FINGERS - beat % _FINGERS, 1] += 32.0
        keys.append(_key(shape.reshape(-1), *place, **attitude))
    return _phrase([0.0, *[step] * (beats - 1)], keys)


def _inspect(rng: np.random.Generator) -> Phrase:
    """The performer turns the hand over and looks at its palm."""
    shape = _shape("relaxed", "open", rng.uniform(0.3, 1.0))
    x, y, tilt, turned = rng.normal(0, 30), rng.uniform(-20, 50), rng.uniform(-10, 30), rng.uniform(110, 185)
    front, back = _key(shape, x, y, tilt=tilt), _key(shape, x, y - 10, tilt=tilt - 8, twist=turned)
    steps = [0.0, *rng.uniform((0.5, 0.3, 0.5), (0.9, 1.0, 0.9)).tolist()]
    return _phrase(steps, [front, back, back + rng.normal(0, 2.0, COLUMNS), front])


MOVEMENTS: tuple[Callable[[np.random.Generator], Phrase], ...] = (
    _scratch,
    _reach,
    _fidget,
    _hesitate,
    _drum,
    _inspect,
)
