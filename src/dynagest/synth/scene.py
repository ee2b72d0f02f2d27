"""Where a gesture is performed: place, light, people in view, things that move, and how the camera is held.

Everything is first drawn as plain numbers (``draw_scene`` from the scene's seed, ``draw_events`` from the clip's), and
later turned into tensors on the device that renders.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynagest.synth.canvas import Canvas, draw_canvas
from dynagest.synth.hand import Pose
from dynagest.synth.motion import Stage, Viewpoint
from dynagest.synth.render import Light
from dynagest.synth.solids import Solids, join, plain_solids
from dynagest.synth.spec import SynthSpec
from dynagest.synth.subject import Colour, Subject, skin_tone

FOCAL = 0.95  # focal length in widths of the image, which gives a field of view of 55 degrees
_PERSON_MM = 330.0  # how far a person's body is behind the hand that gestures
_SWAYS = 2


@dataclass(frozen=True)
class Scene:
    """A place: the still background, the ``light`` on all solids, and the camera's ``exposure``, factors of R, G, B."""

    view: Viewpoint
    canvas: Canvas
    light: Light
    exposure: Colour


@dataclass(frozen=True)
class Mover:
    """A drifting round cone. ``start``, ``axis``, ``radii`` in mm; ``path``: (2, 3, 3), two sines for each of x, y and
    z, with amplitude (mm), frequency (cycles per length of a clip) and phase (radians).
    """

    start: np.ndarray
    axis: np.ndarray
    radii: tuple[float, float]
    colour: Colour
    path: np.ndarray


@dataclass(frozen=True)
class Events:
    """What differs between two clips of one scene.

    ``stage``: where the hand is. ``movers``: distractors. ``sway``: (2, 2, 3), the camera's movement: two sines for
    each of x and y, with amplitude (widths of the image), frequency and phase as in ``Mover.path``. ``body``: (1, 3),
    one such sine in mm along x, for the person in frontal view. ``offset``: (x, y) in [-1, 1], which part of the canvas
    the camera sees. ``defocus``: sigma of the blur, in pixels of a 112-pixel image. ``shutter``: the share of the time
    between two frames during which the hand's motion is smeared.
    """

    stage: Stage
    movers: tuple[Mover, ...]
    sway: np.ndarray
    body: np.ndarray
    offset: tuple[float, float]
    defocus: float
    shutter: float


def draw_scene(rng: np.random.Generator, spec: SynthSpec) -> Scene:
    """Draw a scene. ``rng`` is used for this scene alone."""
    view = spec.views[int(rng.integers(len(spec.views)))]
    angle, height = rng.uniform(0, 2 * math.pi), rng.uniform(-0.9, 0.1)
    direction = np.array((math.cos(angle) * 0.7, height, -abs(math.sin(angle)) - 0.35))
    direction /= np.linalg.norm(direction)
    warmth = spec.light * rng.normal(0.0, 0.08)
    strength = 0.62 * (1.0 + spec.light * rng.uniform(-0.35, 0.35))
    fill = 0.42 * (1.0 + spec.light * rng.uniform(-0.4, 0.3))
    x, y, z = direction.tolist()
    light = Light(
        direction=(x, y, z),
        colour=(strength * (1 + warmth), strength, strength * (1 - warmth)),
        ambient=(fill * (1 - 0.5 * warmth), fill, fill * (1 + 0.5 * warmth)),
        gloss=float(rng.uniform(0.0, 0.25)),
    )
    gain = 1.0 + spec.light * rng.uniform(-0.25, 0.25)
    red, blue = 1 + spec.light * rng.normal(0, 0.05), 1 + spec.light * rng.normal(0, 0.05)
    return Scene(view, draw_canvas(rng, view, spec.clutter), light, (gain * red, gain, gain * blue))


def draw_events(rng: np.random.Generator, spec: SynthSpec, scene: Scene, subject: Subject) -> Events:
    """Draw what happens in one clip of ``scene``."""
    vary = 0.4 + 0.6 * spec.style
    side = subject.side
    if scene.view == "egocentric":
        z = 345.0 * (1 + vary * rng.uniform(-0.14, 0.16))
        x, y = side * 22.0 + vary * rng.normal(0, 22.0), 68.0 + vary * rng.normal(0, 14.0)
        elbow = (x + side * rng.uniform(20, 150), y + 240.0, z - rng.uniform(60, 160))
    else:
        z = 430.0 * (1 + vary * rng.uniform(-0.12, 0.18))
        x, y = side * 40.0 + vary * rng.normal(0, 28.0), 72.0 + vary * rng.normal(0, 16.0)
        elbow = (x + side * rng.uniform(10, 110), y + 235.0, z + rng.uniform(40, 130))
    stage = Stage(scene.view, (x, y, z), elbow)

    count = int(rng.binomial(4, spec.distractors * 0.6))
    movers = tuple(_draw_mover(rng, z) for _ in range(count))
    sway = np.stack(
        (
            rng.normal(0, 0.022 * spec.shake, (_SWAYS, 2)),
            rng.uniform(0.4, 2.5, (_SWAYS, 2)),
            rng.uniform(0, 2 * math.pi, (_SWAYS, 2)),
        ),
        -1,
    )
    # Two sines are drawn and the first is used: to draw only one would change the clips of every seed.
    body = np.stack((rng.normal(0, 6.0, 2), rng.uniform(0.3, 1.0, 2), rng.uniform(0, 2 * math.pi, 2)), -1)[:1]
    return Events(
        stage=stage,
        movers=movers,
        sway=sway,
        body=body,
        offset=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        defocus=float(spec.blur * abs(rng.normal(0, 0.8))),
        shutter=float(spec.blur * rng.uniform(0.0, 1.0)),
    )


def _draw_mover(rng: np.random.Generator, hand_z: float) -> Mover:
    skin_like = rng.uniform() < 0.5
    colour = skin_tone(rng.uniform())[0] if skin_like else tuple(rng.uniform(0.05, 0.95, 3).tolist())
    z = hand_z + rng.uniform(150, 1000)
    start = np.array((rng.uniform(-0.55, 0.55) * z, rng.uniform(-0.5, 0.5) * z, z))
    axis = rng.normal(0, 1, 3)
    axis *= rng.uniform(20, 260) / np.linalg.norm(axis)
    big = float(rng.uniform(18, 60))
    path = np.stack(
        (rng.normal(0, 90.0, (2, 3)), rng.uniform(0.2, 1.4, (2, 3)), rng.uniform(0, 2 * math.pi, (2, 3))), -1
    )
    return Mover(start, axis, (big, big * float(rng.uniform(0.75, 1.0))), colour, path)


def _sines(waves: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Sum waves (W, ..., 3) of amplitude, frequency and phase over their first axis, at times (F,): (F, ...)."""
    shape = (len(times),) + (1,) * (waves.ndim - 1)
    at = times.reshape(shape)
    return (waves[..., 0] * np.sin(2 * math.pi * waves[..., 1] * at + waves[..., 2])).sum(1)


def camera_shift(events: Events, times: np.ndarray) -> np.ndarray:
    """How far the unsteady camera displaces the picture, (F, 2) in widths of the image."""
    return _sines(events.sway, times)


def shaken(solids: Solids, shift: Tensor) -> Solids:
    """The solids as the unsteady camera sees them. ``shift``: (F, 2) in widths of the image."""
    step = torch.cat((shift / FOCAL, torch.zeros_like(shift[:, :1])), 1)[:, None]  # (F, 1, 3) mm for each mm of depth
    return Solids(
        **{**vars(solids), "a": solids.a + solids.a[..., 2:] * step, "b": solids.b + solids.b[..., 2:] * step}
    )


def scene_solids(events: Events, subject: Subject, pose: Pose, times: np.ndarray) -> Solids | None:
    """The distractors, and in frontal view the person whose hand it is; ``None`` if there is neither."""
    groups = []
    device = pose.wrist.device
    if events.movers:
        groups.append(_mover_solids(events.movers, times, device))
    if events.stage.view == "frontal":
        groups.append(_person_solids(events, subject, pose, times))
    return join(*groups) if groups else None


def _mover_solids(movers: tuple[Mover, ...], times: np.ndarray, device: torch.device) -> Solids:
    start = np.stack([m.start + _sines(m.path, times) for m in movers], 1)
    start[..., 2] = np.maximum(start[..., 2], 250.0)
    end = start + np.stack([m.axis for m in movers])
    end[..., 2] = np.maximum(end[..., 2], 250.0)
    radii = torch.tensor([m.radii for m in movers], device=device)
    return plain_solids(
        torch.from_numpy(start).float().to(device),
        torch.from_numpy(end).float().to(device),
        radii[:, 0],
        radii[:, 1],
        torch.tensor([m.colour for m in movers], dtype=torch.float32, device=device),
    )


def _person_solids(events: Events, subject: Subject, pose: Pose, times: np.ndarray) -> Solids:
    """Head, neck, torso and upper arm behind the hand. Sizes in mm of an average adult, scaled to the subject."""
    x, y, z = events.stage.centre
    side, size = subject.side, subject.scale
    origin = np.zeros((len(times), 3))
    origin[:, 0] = x - side * 105.0 + _sines(events.body, times)
    origin[:, 1] = y + 95.0
    origin[:, 2] = z + _PERSON_MM
    skin, cloth, hair = subject.skin, subject.sleeve, subject.hair
    dark: Colour = (0.12, 0.09, 0.08)
    lips: Colour = (0.62 * skin[0] + 0.1, 0.5 * skin[1], 0.5 * skin[2])
    eye_y, face_z = -205.0, -72.0
    # from (x, y, z), to (x, y, z), radii, colour; the origin lies between the shoulders
    parts = (
        ((-135, 20, 0), (135, 20, 0), 62, 62.5, cloth),
        ((-62, 70, 0), (-52, 420, 0), 100, 96, cloth),
        ((62, 70, 0), (52, 420, 0), 100, 96, cloth),
        ((0, -10, 0), (0, -120, -5), 52, 48, skin),
        ((0, -212, 0), (0, -142, -22), 76, 52, skin),
        ((0, -238, 14), (0, -222, 20), 80, 78, hair),
        ((-27, eye_y, face_z), (-25, eye_y, face_z), 9, 9.2, dark),
        ((27, eye_y, face_z), (25, eye_y, face_z), 9, 9.2, dark),
        ((-16, -150, -70), (16, -150, -70), 7, 7.2, lips),
        ((0, -196, -76), (0, -176, -84), 9, 11, skin),
    )
    device = pose.wrist.device
    base = torch.from_numpy(origin).float().to(device)[:, None]
    numbers = torch.tensor([(*p[0], *p[1], p[2], p[3]) for p in parts], dtype=torch.float32, device=device) * size
    a, b = base + numbers[:, 0:3], base + numbers[:, 3:6]
    shoulder = base + torch.tensor((side * 150.0, 25.0, 0.0), device=device) * size
    a, b = torch.cat((a, shoulder), 1), torch.cat((b, pose.elbow[:, None]), 1)
    radii = torch.cat((numbers[:, 6:], torch.tensor(((54.0, 42.0),), device=device) * size))
    colours = torch.tensor([*(p[4] for p in parts), cloth], dtype=torch.float32, device=device)
    return plain_solids(a, b, radii[:, 0], radii[:, 1], colours)
