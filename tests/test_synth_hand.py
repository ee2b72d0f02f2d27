"""Bones, limits and mirror symmetry of the generated hand."""

import math

import numpy as np
import pytest
import torch

from dynagest.synth.gestures import GESTURES, SHAPES
from dynagest.synth.hand import (
    BASE_MM,
    HAND_SOLIDS,
    LIMITS_DEG,
    PHALANX_MM,
    Pose,
    forward_kinematics,
    hand_solids,
    limit,
)
from dynagest.synth.motion import Stage, draw_motion, pose_at
from dynagest.synth.subject import draw_subject

LENGTHS, BASES = torch.tensor(PHALANX_MM), torch.tensor(BASE_MM)


def kinematics(degrees: torch.Tensor) -> torch.Tensor:
    return forward_kinematics(torch.deg2rad(degrees)[None], LENGTHS, BASES).joints[0]


def someone(seed: int = 0):
    return draw_subject(seed, np.random.default_rng(seed), left_handed=0.0, style=0.5)


def test_straight_fingers_point_up_and_are_as_long_as_their_bones():
    joints = kinematics(torch.zeros(5, 4))
    for finger, total in ((1, 43 + 25 + 17), (2, 47 + 29 + 18), (3, 44 + 27 + 18), (4, 34 + 20 + 15)):
        expected = torch.tensor((BASE_MM[finger][0], BASE_MM[finger][1] - total, BASE_MM[finger][2]))
        torch.testing.assert_close(joints[finger, 3], expected)


def test_a_knuckle_bent_by_90_degrees_points_out_of_the_palm():
    angles = torch.zeros(5, 4)
    angles[2, 1] = 90.0
    x, y, z = BASE_MM[2]
    torch.testing.assert_close(kinematics(angles)[2, 3], torch.tensor((x, y, z + 94.0)), atol=1e-4, rtol=0)


def test_bending_the_last_two_joints_by_90_degrees_points_back():
    angles = torch.zeros(5, 4)
    angles[1, 2:] = 90.0
    x, y, z = BASE_MM[1]
    # 43 up, 25 out of the palm, 17 back down
    torch.testing.assert_close(kinematics(angles)[1, 3], torch.tensor((x, y - 43 + 17, z + 25.0)), atol=1e-4, rtol=0)


def test_the_thumb_extends_to_its_own_side_and_abducts_out_of_the_palm():
    angles = torch.zeros(5, 4)
    angles[0, 0] = 90.0
    x, y, z = BASE_MM[0]
    torch.testing.assert_close(kinematics(angles)[0, 3], torch.tensor((x - 102.0, y, z)), atol=1e-4, rtol=0)
    angles[0] = torch.tensor((0.0, 90.0, 0.0, 0.0))
    torch.testing.assert_close(kinematics(angles)[0, 3], torch.tensor((x, y, z + 102.0)), atol=1e-4, rtol=0)


def test_bones_keep_their_length_in_every_pose():
    torch.manual_seed(0)
    angles = limit(torch.randn(50, 5, 4) * 2)
    skeleton = forward_kinematics(angles, LENGTHS, BASES)
    lengths = skeleton.joints.diff(dim=2).norm(dim=-1)
    torch.testing.assert_close(lengths, LENGTHS.expand(50, 5, 3), atol=1e-3, rtol=0)
    along = skeleton.joints.diff(dim=2) / LENGTHS[..., None]
    assert (along * skeleton.dorsal).sum(-1).abs().max() < 1e-5
    torch.testing.assert_close(skeleton.dorsal.norm(dim=-1), torch.ones(50, 5, 3))


def test_joint_limits_hold():
    low, high = limit(torch.full((1, 5, 4), -9.0)), limit(torch.full((1, 5, 4), 9.0))
    torch.testing.assert_close(torch.rad2deg(low[0]), torch.tensor(LIMITS_DEG)[..., 0])
    torch.testing.assert_close(torch.rad2deg(high[0]), torch.tensor(LIMITS_DEG)[..., 1])


@pytest.mark.parametrize("name", SHAPES)
def test_hand_shapes_lie_within_the_limits(name: str):
    shape, limits = torch.tensor(SHAPES[name], dtype=torch.float32), torch.tensor(LIMITS_DEG)
    assert ((shape >= limits[..., 0]) & (shape <= limits[..., 1])).all()


@pytest.mark.parametrize("name", ["pinch_closed", "zoom_closed"])
def test_closed_pinches_touch(name: str):
    joints = kinematics(torch.tensor(SHAPES[name], dtype=torch.float32))
    assert (joints[0, 3] - joints[1, 3]).norm() < 16  # the radii of the two finger tips add to 14.2 mm


def test_performed_angles_stay_within_the_limits():
    subject = someone()
    limits = torch.deg2rad(torch.tensor(LIMITS_DEG))
    for number, gesture in enumerate(GESTURES.values()):
        motion = draw_motion(gesture, subject, np.random.default_rng(number), style=1.0)
        pose = pose_at(motion, np.linspace(0, 1, 9), subject, Stage("frontal", (0, 0, 400), (0, 300, 400)))
        assert ((pose.angles >= limits[..., 0]) & (pose.angles <= limits[..., 1])).all()
        eye = torch.eye(3).expand(9, 3, 3)
        torch.testing.assert_close(pose.rotation @ pose.rotation.transpose(1, 2), eye, atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.linalg.det(pose.rotation), torch.ones(9), atol=1e-5, rtol=0)


def test_a_left_hand_is_the_mirror_image_of_a_right_hand():
    subject, straight = someone(), torch.zeros(1, 3)
    angles = torch.deg2rad(torch.tensor(SHAPES["two"], dtype=torch.float32))[None]
    eye = torch.eye(3)[None]
    elbow = torch.tensor(((0.0, 200.0, 0.0),))
    right = hand_solids(Pose(angles, eye, straight, elbow, 1.0), subject)
    left = hand_solids(Pose(angles, eye, straight, elbow, -1.0), subject)
    mirror = torch.tensor((-1.0, 1.0, 1.0))
    for name in ("a", "b", "dorsal"):
        torch.testing.assert_close(
            getattr(left, name)[:, :HAND_SOLIDS], getattr(right, name)[:, :HAND_SOLIDS] * mirror, atol=1e-4, rtol=0
        )


def test_no_solid_swallows_its_own_end():
    subject = someone(3)
    for shape in SHAPES.values():
        angles = torch.deg2rad(torch.tensor(shape, dtype=torch.float32))[None]
        pose = Pose(angles, torch.eye(3)[None], torch.zeros(1, 3), torch.tensor(((0.0, 200.0, 0.0),)))
        solids = hand_solids(pose, subject)
        assert ((solids.ra - solids.rb).abs() < (solids.a - solids.b).norm(dim=-1)).all()


def test_a_frontal_view_is_the_performers_view_reflected_in_depth():
    subject = someone(1)
    motion = draw_motion(GESTURES["thumb_up"], subject, np.random.default_rng(0), style=0.5)
    times = np.linspace(0, 1, 5)
    ego = pose_at(motion, times, subject, Stage("egocentric", (10, 20, 400), (30, 300, 350)))
    front = pose_at(motion, times, subject, Stage("frontal", (10, 20, 400), (30, 300, 450)))
    assert ego.side == -front.side
    flip = torch.tensor((1.0, 1.0, -1.0))
    torch.testing.assert_close(front.rotation[:, :, 1], ego.rotation[:, :, 1] * flip, atol=1e-5, rtol=0)
    offset = ego.wrist - torch.tensor((10.0, 20.0, 400.0))
    torch.testing.assert_close(front.wrist - torch.tensor((10.0, 20.0, 400.0)), offset * flip, atol=1e-3, rtol=0)


def test_a_held_key_does_not_overshoot():
    subject = someone(2)
    gesture = GESTURES["grab"]
    motion = draw_motion(gesture, subject, np.random.default_rng(0), style=0.0)
    times = np.linspace(motion.times[1], motion.times[2], 20)  # open hand held
    assert np.ptp(motion.sample(times)[:, :20], axis=0).max() < 1e-9
    assert math.isclose(motion.times[0], 0.0)
    assert math.isclose(motion.times[-1], 1.0)
