"""The gestures: hand shapes, and for each gesture the keyframes between which the hand moves.

Directions are as the performer sees them. In egocentric frames these are the image's directions. Frontal frames are the
mirrored self view that webcam software shows, so that there, too, a swipe to the performer's left goes to the image's
left, unless the spec asks for ``unmirrored`` clips. A left-handed subject's hand is mirrored, but not the directions in
which it moves.
"""

from dataclasses import dataclass

Angles = tuple[tuple[float, float, float, float], ...]

_STRAIGHT, _CURLED = (0.0, 2.0, 4.0, 2.0), (0.0, 84.0, 102.0, 62.0)


def _shape(
    thumb: tuple[float, float, float, float],
    index: tuple[float, float, float, float] = _CURLED,
    middle: tuple[float, float, float, float] = _CURLED,
    ring: tuple[float, float, float, float] = _CURLED,
    little: tuple[float, float, float, float] = _CURLED,
) -> Angles:
    return (thumb, index, middle, ring, little)


_TUCKED = (22.0, 48.0, 42.0, 62.0)  # the thumb across the curled fingers

# Joint angles in degrees, ordered as in ``hand.LIMITS_DEG``.
SHAPES: dict[str, Angles] = {
    "open": _shape((58, 14, 2, 2), (12, 3, 6, 3), (3, 2, 6, 3), (-8, 3, 7, 4), (-19, 5, 8, 5)),
    "flat": _shape((22, 12, 14, 10), (0, 4, 6, 3), (0, 3, 6, 3), (0, 4, 6, 3), (2, 6, 7, 4)),
    "relaxed": _shape((38, 30, 15, 20), (3, 22, 30, 15), (1, 26, 34, 18), (-3, 30, 36, 20), (-7, 32, 34, 20)),
    "fist": _shape(_TUCKED),
    "point": _shape(_TUCKED, _STRAIGHT),
    "two": _shape(_TUCKED, (13, 2, 4, 2), (-11, 2, 4, 2)),
    "three": _shape((20, 52, 48, 62), (15, 2, 4, 2), (0, 2, 4, 2), (-15, 3, 5, 3)),
    "thumb": _shape((80, -2, -8, -18)),
    "claw": _shape((58, 38, 8, 18), (14, 22, 40, 24), (4, 22, 42, 24), (-8, 22, 42, 24), (-20, 22, 40, 24)),
    "pinch_open": _shape((52, 42, 4, 6), (6, 28, 26, 14), (2, 8, 12, 6), (-8, 6, 10, 5), (-18, 6, 8, 5)),
    "pinch_closed": _shape((22, 43, 10, 29), (4, 57, 57, 32), (2, 14, 18, 8), (-8, 8, 12, 6), (-18, 8, 10, 6)),
    "zoom_open": _shape((70, 26, -8, -12), (10, 2, 6, 3)),
    "zoom_closed": _shape((22, 43, 10, 29), (4, 57, 57, 32)),
    "hook": _shape((34, 30, 20, 20), (0, 62, 74, 40), (0, 64, 76, 40), (0, 66, 76, 40), (2, 66, 74, 40)),
}


@dataclass(frozen=True)
class Key:
    """A moment of a stroke.

    ``time``: 0 = the stroke begins, 1 = it ends. ``shape``: a name in ``SHAPES``. ``x``, ``y``, ``away``: the wrist's
    distance from the middle of the gesture, in mm for an average hand: to the image's right, down, away from the
    performer. ``turn``: degrees clockwise in the image. ``tilt``: degrees by which the fingers lean away from the
    performer, added to the gesture's ``tilt``.
    """

    time: float
    shape: str
    x: float = 0.0
    y: float = 0.0
    away: float = 0.0
    turn: float = 0.0
    tilt: float = 0.0


@dataclass(frozen=True)
class Gesture:
    """A class of gestures: the hand's attitude and what it does.

    ``roll``, ``tilt``, ``twist``: degrees from the rest pose of a right hand (a left hand mirrors roll and twist): roll
    clockwise in the image, tilt of the fingers away from the performer, twist of the forearm (180 = palm to the
    performer). ``show``: further degrees of twist that turn the thumb's side to the egocentric camera; towards the
    frontal camera it turns by a fifth of that. ``twin``: a gesture that differs from this one only ``by`` "motion" (the
    same hand shapes in the same attitude) or only ``by`` hand "shape" (the hand at the same places in the same
    attitude); both are "" if there is none. Two gestures that differ by motion are each other's twin; one gesture may
    be the twin by shape of several.
    """

    name: str
    keys: tuple[Key, ...]
    roll: float = 0.0
    tilt: float = 20.0
    twist: float = 0.0
    show: float = 0.0
    twin: str = ""
    by: str = ""


def _reverse(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The stroke ``keys``, backwards."""
    return tuple(Key(1.0 - k.time, k.shape, k.x, k.y, k.away, k.turn, k.tilt) for k in reversed(keys))


def _mirror(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The stroke ``keys``, mirrored in x."""
    return tuple(Key(k.time, k.shape, -k.x, k.y, k.away, -k.turn, k.tilt) for k in keys)


# A circle of 8 arcs from the top, clockwise as seen: right, down, left, up.
_UNIT_CIRCLE = ((0.0, -1.0), (0.7, -0.7), (1.0, 0.0), (0.7, 0.7), (0.0, 1.0), (-0.7, 0.7), (-1.0, 0.0), (-0.7, -0.7))
_CIRCLE = tuple(Key(i / 8, "point", x=62 * _UNIT_CIRCLE[i % 8][0], y=62 * _UNIT_CIRCLE[i % 8][1]) for i in range(9))
_SWIPE_RIGHT = (Key(0.0, "flat", x=-100, turn=-16), Key(0.5, "flat", y=-8), Key(1.0, "flat", x=100, turn=16))
_SWIPE_DOWN = (Key(0.0, "flat", y=-85, tilt=-15), Key(1.0, "flat", y=85, tilt=38))
_PUSH = (Key(0.0, "open", away=-85), Key(0.85, "open", away=105), Key(1.0, "open", away=105))
_ROTATE = (Key(0.0, "claw", turn=-62), Key(1.0, "claw", turn=62))
_GRAB = (Key(0.0, "open"), Key(0.3, "open"), Key(0.75, "fist", away=10), Key(1.0, "fist", away=10))
_ZOOM_IN = (Key(0.0, "zoom_closed"), Key(0.25, "zoom_closed"), Key(0.8, "zoom_open"), Key(1.0, "zoom_open"))
_WAVE = tuple(Key(i / 4, "open", x=-26 * s, turn=-27 * s) for i, s in enumerate((1, -1, 1, -1, 1)))


def _show(shape: str) -> tuple[Key, ...]:
    """The stroke of a gesture in which a fist opens into ``shape``, which is then held up."""
    return (Key(0.0, "fist", y=55), Key(0.4, shape, y=4), Key(0.7, shape), Key(1.0, shape))


def _taps(count: int) -> tuple[Key, ...]:
    keys = [Key(0.0, "point", y=-8)]
    for tap in range(count):
        start = tap / count
        keys.append(Key(start + 0.5 / count, "point", y=26, away=30, tilt=34))
        keys.append(Key(start + 1.0 / count, "point", y=-8))
    return tuple(keys)


_BECKON = tuple(Key(i / 4, "hook" if i % 2 else "flat", away=-8 * (i % 2)) for i in range(5))

_ALL = (
    Gesture("swipe_left", _mirror(_SWIPE_RIGHT), twin="swipe_right", by="motion"),
    Gesture("swipe_right", _SWIPE_RIGHT, twin="swipe_left", by="motion"),
    Gesture("swipe_up", _reverse(_SWIPE_DOWN), twin="swipe_down", by="motion"),
    Gesture("swipe_down", _SWIPE_DOWN, twin="swipe_up", by="motion"),
    Gesture("push", _PUSH, tilt=-4, twin="pull", by="motion"),
    Gesture("pull", _reverse(_PUSH), tilt=-4, twin="push", by="motion"),
    Gesture("rotate_clockwise", _ROTATE, tilt=48, twin="rotate_counterclockwise", by="motion"),
    Gesture("rotate_counterclockwise", _reverse(_ROTATE), tilt=48, twin="rotate_clockwise", by="motion"),
    Gesture("circle_clockwise", _CIRCLE, tilt=30, twin="circle_counterclockwise", by="motion"),
    Gesture("circle_counterclockwise", _mirror(_CIRCLE), tilt=30, twin="circle_clockwise", by="motion"),
    Gesture("grab", _GRAB, tilt=10, twin="release", by="motion"),
    Gesture("release", _reverse(_GRAB), tilt=10, twin="grab", by="motion"),
    Gesture(
        "pinch",
        (Key(0.0, "pinch_open"), Key(0.3, "pinch_open"), Key(0.7, "pinch_closed"), Key(1.0, "pinch_closed")),
        tilt=12,
        show=45,
        twin="zoom_out",
        by="shape",
    ),
    Gesture("zoom_in", _ZOOM_IN, tilt=12, show=45, twin="zoom_out", by="motion"),
    Gesture("zoom_out", _reverse(_ZOOM_IN), tilt=12, show=45, twin="zoom_in", by="motion"),
    Gesture("wave", _WAVE, tilt=0),
    Gesture("show_two", _show("two"), tilt=0, twin="show_three", by="shape"),
    Gesture("show_three", _show("three"), tilt=0, twin="show_two", by="shape"),
    Gesture("show_fist", _show("fist"), tilt=0, twin="show_two", by="shape"),
    Gesture("thumb_up", _show("thumb"), roll=-76, tilt=4, twist=165),
    Gesture("thumb_down", _show("thumb"), roll=-80, tilt=8, twist=12),
    Gesture("tap", _taps(1), tilt=28, twin="double_tap", by="motion"),
    Gesture("double_tap", _taps(2), tilt=28, twin="tap", by="motion"),
    Gesture("beckon", _BECKON, tilt=-14, twist=172),
)

GESTURES: dict[str, Gesture] = {gesture.name: gesture for gesture in _ALL}
