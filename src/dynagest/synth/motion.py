"""Turns a gesture into poses: preparation, stroke and retraction of one person in one view, continuous in time.

A ``Motion`` can be sampled at any times, so that the same code makes clips of any frame rate, and streams of many
gestures.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dynagest.synth.gestures import SHAPES, Gesture
from dynagest.synth.hand import FOREARM_MM, Pose, limit
from dynagest.synth.subject import Subject

Viewpoint = Literal["egocentric", "frontal"]

# Columns of a keyframe: 20 joint angles (degrees), wrist x, y, away (mm), turn, roll, tilt, twist, show (degrees).
ANGLES, X, Y, AWAY, TURN, ROLL, TILT, TWIST, SHOW, COLUMNS = 20, 20, 21, 22, 23, 24, 25, 26, 27, 28
_TREMORS = 3
_FOLLOW = 0.55  # how far the elbow's place moves when the wrist moves by 1
_WRIST_STIFFNESS = 0.55  # weight of the hand's direction in the forearm's; the direction to the elbow weighs 1


@dataclass(frozen=True)
class Stage:
    """Where gestures are performed before a camera, in its coordinates.

    ``centre``: (x, y, z) mm, the wrist in the middle of a gesture. ``elbow``: (x, y, z) mm, the place near which the
    elbow then is; when the wrist moves, this place moves a part of the way with it.
    """

    view: Viewpoint
    centre: tuple[float, float, float]
    elbow: tuple[float, float, float]


@dataclass(frozen=True)
class Motion:
    """Keyframes in time. ``times``: (K,) float64, rising; ``keys``: (K, 28) float64, with the columns above;
    ``tremor``: (3, 28, 3) amplitude, frequency (cycles per unit of time) and phase (radians) of three slow oscillations
    of each column, as in any real hand.
    """

    times: np.ndarray
    keys: np.ndarray
    tremor: np.ndarray

    def sample(self, times: np.ndarray) -> np.ndarray:
        """The keyframe columns at ``times`` (F,), interpolated and with tremor: (F, 28).

        Before the first and after the last key the pose is held, and only the tremor moves it.
        """
        at = np.clip(times, self.times[0], self.times[-1])
        values = _monotone_cubic(self.times, self.keys, at)
        amplitude, frequency, phase = self.tremor[..., 0], self.tremor[..., 1], self.tremor[..., 2]
        waves = np.sin(2 * math.pi * frequency * times[:, None, None] + phase) * amplitude
        return values + waves.sum(1)


def _monotone_cubic(knots: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic Hermite interpolation that never overshoots a key (Fritsch and Carlson 1980), so a held pose stays still.

    ``knots`` (K,), ``values`` (K, D), ``at`` (F,) within the knots -> (F, D).
    """
    step = np.diff(knots)[:, None]
    slope = np.diff(values, axis=0) / step
    left, right = slope[:-1], slope[1:]
    same = left * right > 0
    inner = np.where(same, 2 * left * right / np.where(same, left + right, 1.0), 0.0)
    flat = np.zeros_like(values[:1])
    tangent = np.concatenate((flat, inner, flat))
    i = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    h = step[i]
    s = (at[:, None] - knots[i][:, None]) / h
    return (
        (1 + 2 * s) * (1 - s) ** 2 * values[i]
        + s * (1 - s) ** 2 * h * tangent[i]
        + s * s * (3 - 2 * s) * values[i + 1]
        + s * s * (s - 1) * h * tangent[i + 1]
    )


def draw_motion(gesture: Gesture, subject: Subject, rng: np.random.Generator, *, style: float) -> Motion:
    """Draw one performance of ``gesture``. Its preparation begins at time 0, its retraction ends at time 1.

    ``style`` in [0, 1]: how much the subject's habits and chance change the ideal keyframes.
    """
    amplitude = subject.amplitude * (1.0 + 0.12 * style * rng.uniform(-1, 1))
    habit = np.asarray(subject.habit)
    start = 0.20 + style * (0.05 * subject.tempo + rng.uniform(-0.06, 0.06))
    end = 0.84 + style * (-0.06 * subject.tempo + rng.uniform(-0.07, 0.07))
    keys = np.zeros((len(gesture.keys), COLUMNS))
    for row, key in zip(keys, gesture.keys, strict=True):
        row[:ANGLES] = np.asarray(SHAPES[key.shape]).reshape(-1)
        row[[X, Y, AWAY, TURN]] = (key.x * amplitude, key.y * amplitude, key.away * amplitude, key.turn)
        row[[ROLL, TILT, TWIST, SHOW]] = (gesture.roll, gesture.tilt + key.tilt, gesture.twist, gesture.show)
    keys[:, TURN] *= 0.5 + 0.5 * amplitude
    lean = np.concatenate((habit[:3] * (7.0, 6.0, 6.0), style * rng.normal(0.0, 3.0, 3)))
    keys[:, ROLL] += lean[0] + lean[3]
    keys[:, TILT] += lean[1] + lean[4]
    keys[:, TWIST] += lean[2] + lean[5]
    keys[:, :ANGLES] += style * (rng.normal(0.0, 3.0, ANGLES) + habit[3:8].repeat(4) * 1.5)
    times = np.array([start + (end - start) * key.time for key in gesture.keys])
    if len(times) > 2:
        times[1:-1] += style * rng.uniform(-0.12, 0.12, len(times) - 2) * np.diff(times)[:-1]

    relaxed = np.asarray(SHAPES["relaxed"]).reshape(-1)
    before, after = keys[0].copy(), keys[-1].copy()
    before[:ANGLES] = 0.6 * before[:ANGLES] + 0.4 * relaxed
    before[Y] += 170.0 * subject.drop * rng.uniform(0.3, 1.0)
    before[[X, AWAY, TURN]] *= rng.uniform(0.2, 0.8)
    after[:ANGLES] = 0.75 * after[:ANGLES] + 0.25 * relaxed
    after[Y] += 90.0 * subject.drop * rng.uniform(0.0, 1.0)
    keys = np.vstack((before, keys, after))
    times = np.concatenate(([0.0], times, [1.0]))

    return Motion(times, keys, draw_tremor(subject, rng, style=style))


def draw_tremor(subject: Subject, rng: np.random.Generator, *, style: float) -> np.ndarray:
    """Draw the ``tremor`` of a ``Motion``, (3, 28, 3)."""
    tremor = np.zeros((_TREMORS, COLUMNS, 3))
    size = np.concatenate((np.full(ANGLES, 1.2), np.full(3, 3.0), np.full(5, 1.5)))
    tremor[..., 0] = rng.normal(0.0, 1.0, (_TREMORS, COLUMNS)) * size * subject.tremor * style
    tremor[..., 1] = rng.uniform(0.3, 2.2, (_TREMORS, COLUMNS))
    tremor[..., 2] = rng.uniform(0.0, 2 * math.pi, (_TREMORS, COLUMNS))
    return tremor


def pose_at(motion: Motion, times: np.ndarray, subject: Subject, stage: Stage) -> Pose:
    """Compute the poses of ``subject`` on ``stage`` at ``times`` (F,), in camera coordinates, on the CPU.

    The mirrored self view of frontal frames is the performer's own view reflected in z: x and y stay the same, and the
    other side of the hand is seen.
    """
    values = torch.from_numpy(motion.sample(np.asarray(times, dtype=np.float64)))
    side = subject.side
    angles = limit(torch.deg2rad(values[:, :ANGLES].reshape(-1, 5, 4)))
    roll = torch.deg2rad(values[:, TURN] + side * values[:, ROLL])
    tilt = torch.deg2rad(-values[:, TILT])
    # The frontal camera sees the palm, where thumb and index finger hide each other when turned too far.
    to_camera = -1.0 if stage.view == "egocentric" else 0.2
    twist = torch.deg2rad(side * (values[:, TWIST] + to_camera * values[:, SHOW]))
    rotation = _rotation("z", roll) @ _rotation("x", tilt) @ _rotation("y", twist)
    offset = values[:, [X, Y, AWAY]] * subject.scale
    if stage.view == "frontal":
        offset = offset * torch.tensor((1.0, 1.0, -1.0), dtype=torch.float64)
        in_z, in_x = torch.tensor((1.0, 1.0, -1.0)).double(), torch.tensor((-1.0, 1.0, 1.0)).double()
        rotation = in_z[:, None] * rotation * in_x
        side = -side

    wrist = torch.tensor(stage.centre, dtype=torch.float64) + offset
    to_elbow = torch.tensor(stage.elbow, dtype=torch.float64) + _FOLLOW * offset - wrist
    to_elbow = to_elbow / to_elbow.norm(dim=1, keepdim=True) + _WRIST_STIFFNESS * rotation[:, :, 1]
    elbow = wrist + to_elbow / to_elbow.norm(dim=1, keepdim=True) * FOREARM_MM * subject.scale
    return Pose(angles.float(), rotation.float(), wrist.float(), elbow.float(), side)


def _rotation(axis: Literal["x", "y", "z"], angle: Tensor) -> Tensor:
    """Rotation matrices (F, 3, 3) about an axis by ``angle`` (F,)."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = -angle.sin(), angle.sin()
    return matrix
