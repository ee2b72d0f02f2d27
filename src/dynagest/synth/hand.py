"""The articulated hand: bones, joint limits, forward kinematics, and the solids that make up its surface.

Coordinates are the camera's: x to the image's right, y down, z away from the camera, in mm. The *rest pose* of a right
hand is how its owner sees it with the arm raised: wrist at the origin, fingers up (-y), back towards the eye (-z),
thumb to the left (-x). A left hand is the mirror image in x. Tables go from the thumb to the little finger.
Shapes: F frames, P solids.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dynagest.synth.solids import Solids
from dynagest.synth.subject import Subject

# Lengths of an average adult's phalanges (thumb: metacarpal first), axis to axis, in mm. The last one ends in the
# centre of the finger tip's sphere, so that a finger is one tip radius longer than its bones.
PHALANX_MM = ((46.0, 34.0, 22.0), (43.0, 25.0, 17.0), (47.0, 29.0, 18.0), (44.0, 27.0, 18.0), (34.0, 20.0, 15.0))
# Radii at the base, the two joints and the tip.
RADIUS_MM = (
    (15.0, 11.5, 10.0, 7.6),
    (10.2, 9.0, 7.9, 6.6),
    (10.4, 9.2, 8.1, 6.8),
    (9.8, 8.6, 7.6, 6.4),
    (8.6, 7.4, 6.6, 5.6),
)
# Where the first bone of each finger begins in the rest pose: the thumb's saddle joint, and the knuckles.
BASE_MM = ((-17.0, -18.0, 6.0), (-25.0, -88.0, 1.0), (-4.0, -92.0, -2.0), (16.0, -87.0, -1.0), (33.0, -77.0, 4.0))
CARPAL_MM = ((-14.0, -8.0, 0.0), (-5.0, -8.0, -2.0), (6.0, -8.0, -2.0), (14.0, -8.0, 1.0))

# (least, most) of each joint angle in degrees. Thumb: radial extension and palmar abduction of the saddle joint,
# flexion of the two others. Fingers: abduction towards the thumb, and flexion of knuckle, middle and end joint.
THUMB_LIMITS = ((-5.0, 85.0), (-10.0, 75.0), (-15.0, 65.0), (-25.0, 85.0))
FINGER_LIMITS = ((-25.0, 25.0), (-25.0, 95.0), (0.0, 115.0), (-5.0, 80.0))
LIMITS_DEG = (THUMB_LIMITS, FINGER_LIMITS, FINGER_LIMITS, FINGER_LIMITS, FINGER_LIMITS)

# The direction in which the thumb's outer joints bend: across the palm and a little out of it.
_THUMB_CURL = (0.80, -0.05, 0.60)
FOREARM_MM = 245.0
HAND_SOLIDS = 21  # phalanges, metacarpals, heel of the hand, web; the arm's solids come after them


@dataclass(frozen=True)
class Pose:
    """A hand's pose in F frames, in camera coordinates.

    ``angles``: (F, 5, 4) joint angles in radians, ordered as ``LIMITS_DEG``. ``rotation``: (F, 3, 3) from the rest pose
    to the camera. ``wrist``, ``elbow``: (F, 3) in mm. ``side``: +1 for a hand whose thumb is at -x in the rest pose (a
    right hand), -1 for its mirror image.
    """

    angles: Tensor
    rotation: Tensor
    wrist: Tensor
    elbow: Tensor
    side: float = 1.0

    def __len__(self) -> int:
        return self.wrist.shape[0]

    def to(self, device: torch.device | str) -> "Pose":
        """The same pose with its tensors on ``device``."""
        return Pose(
            self.angles.to(device), self.rotation.to(device), self.wrist.to(device), self.elbow.to(device), self.side
        )


def limit(angles: Tensor) -> Tensor:
    """Clamp joint angles (F, 5, 4), in radians, to ``LIMITS_DEG``."""
    limits = torch.deg2rad(torch.tensor(LIMITS_DEG, dtype=angles.dtype, device=angles.device))
    return torch.minimum(torch.maximum(angles, limits[..., 0]), limits[..., 1])


@dataclass(frozen=True)
class Skeleton:
    """The joints of a right hand whose wrist is in the rest pose.

    ``joints``: (F, 5, 4, 3) base, two joints and tip of each finger, in mm. ``dorsal``: (F, 5, 3, 3) the unit vector
    that points out of the back of each phalanx.
    """

    joints: Tensor
    dorsal: Tensor


def forward_kinematics(angles: Tensor, lengths: Tensor, bases: Tensor) -> Skeleton:
    """Compute the joint positions from joint angles.

    ``angles``: (F, 5, 4) radians, within the limits. ``lengths``: (5, 3) mm of the phalanges. ``bases``: (5, 3) mm.
    """
    first, second = angles[..., 0], angles[..., 1]
    bend = angles[:, 1:, 1:].cumsum(-1)  # (F, 4, 3) flexion of each phalanx against the palm
    abduction = first[:, 1:, None]
    sin_a, cos_a, sin_b, cos_b = abduction.sin(), abduction.cos(), bend.sin(), bend.cos()
    along = torch.stack((-sin_a * cos_b, -cos_a * cos_b, sin_b), -1)
    back = torch.stack((-sin_a * sin_b, -cos_a * sin_b, -cos_b), -1)

    extension, palmar = first[:, 0], second[:, 0]
    axis = torch.stack(
        (-extension.sin() * palmar.cos(), -extension.cos() * palmar.cos(), palmar.sin()), -1
    )  # (F, 3) of the thumb's metacarpal
    curl = torch.tensor(_THUMB_CURL, dtype=angles.dtype, device=angles.device)
    curl = curl - (axis * curl).sum(-1, keepdim=True) * axis
    curl = curl / curl.norm(dim=-1, keepdim=True)
    flexion = angles[:, 0, 2:].cumsum(-1)
    flexion = torch.cat((torch.zeros_like(flexion[:, :1]), flexion), 1)[..., None]  # (F, 3, 1)
    thumb_along = flexion.cos() * axis[:, None] + flexion.sin() * curl[:, None]
    thumb_back = flexion.sin() * axis[:, None] - flexion.cos() * curl[:, None]

    along = torch.cat((thumb_along[:, None], along), 1)  # (F, 5, 3, 3)
    steps = (along * lengths[..., None]).cumsum(2)
    base = bases.expand(angles.shape[0], 5, 3)[:, :, None]
    joints = torch.cat((base, base + steps), 2)
    return Skeleton(joints, torch.cat((thumb_back[:, None], back), 1))


def hand_solids(pose: Pose, subject: Subject) -> Solids:
    """Build the hand, wrist, forearm and sleeve of ``subject`` from round cones, in camera coordinates.

    The order is fixed (15 phalanges, 4 metacarpals, heel of the hand, web, 2 wrist, 2 forearm, 2 sleeve), so that
    callers can tell the hand (the first ``HAND_SOLIDS``) from the arm.
    """
    device, dtype = pose.wrist.device, pose.wrist.dtype

    def table(values: object) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    size, thick = subject.scale, subject.scale * subject.thickness
    lengths = table(PHALANX_MM) * table(subject.finger_lengths)[:, None] * size
    width = table((subject.palm_width, 1.0, 1.0))
    bases = table(BASE_MM) * width * size
    carpals = table(CARPAL_MM) * width * size
    radii = table(RADIUS_MM) * thick

    skeleton = forward_kinematics(limit(pose.angles), lengths, bases)
    frames = len(pose)
    start = skeleton.joints[:, :, :3].reshape(frames, 15, 3)
    end = skeleton.joints[:, :, 1:].reshape(frames, 15, 3)
    still = torch.zeros(frames, 1, 1, device=device, dtype=dtype)

    def fixed(point: Tensor) -> Tensor:
        return point.reshape(1, -1, 3) + still

    heel_a, heel_b = table(((17.0, -16.0, 8.0), (28.0, -52.0, 6.0))) * width * size
    thumb_joint = skeleton.joints[:, 0, 1:2]
    web_end = fixed(table((-20.0, -62.0, 3.0)) * width * size)
    local_a = torch.cat((start, fixed(carpals), fixed(heel_a), thumb_joint), 1)
    local_b = torch.cat((end, fixed(bases[1:]), fixed(heel_b), web_end), 1)
    palm_back = fixed(table((0.0, 0.0, -1.0))).expand(frames, 6, 3)
    local_dorsal = torch.cat((skeleton.dorsal.reshape(frames, 15, 3), palm_back), 1)

    mirror = table((pose.side, 1.0, 1.0))
    turn = pose.rotation.transpose(1, 2)
    hand_a = (local_a * mirror) @ turn + pose.wrist[:, None]
    hand_b = (local_b * mirror) @ turn + pose.wrist[:, None]
    hand_dorsal = (local_dorsal * mirror) @ turn

    arm_a, arm_b, arm_dorsal = _arm(pose, subject)
    palm_radii = (table(((14.5, 11.6), (14.5, 11.8), (14.0, 11.0), (13.0, 9.8), (13.5, 10.5), (9.0, 9.5)))) * thick
    wrist_r, elbow_r, cloth_mm = 20.0 * thick, 35.0 * thick, subject.sleeve_thickness
    cuff_r = wrist_r + (elbow_r - wrist_r) * subject.sleeve_start
    arm_radii = table(
        (
            *((wrist_r * 0.95, wrist_r),) * 2,
            *((wrist_r, cuff_r),) * 2,
            *((cuff_r + cloth_mm, elbow_r + 1.3 * cloth_mm),) * 2,
        )
    )
    finger_radii = torch.stack((radii[:, :3].reshape(15), radii[:, 1:].reshape(15)), 1)
    radius = torch.cat((finger_radii, palm_radii, arm_radii), 0)

    back, palm, cloth = table(subject.skin), table(subject.palm_skin), table(subject.sleeve)
    albedo = torch.cat((back.expand(HAND_SOLIDS + 4, 3), cloth.expand(2, 3)))
    under = torch.cat((palm.expand(HAND_SOLIDS, 3), (0.5 * (back + palm)).expand(4, 3), cloth.expand(2, 3)))
    is_tip = [float(i % 3 == 2) for i in range(15)]
    is_finger = [1.0] * 15
    return Solids(
        a=torch.cat((hand_a, arm_a), 1),
        b=torch.cat((hand_b, arm_b), 1),
        ra=radius[:, 0],
        rb=radius[:, 1],
        dorsal=torch.cat((hand_dorsal, arm_dorsal), 1),
        albedo=albedo,
        under=under,
        flat=table([0.0] * 15 + [0.78] * 4 + [0.4, 0.5] + [0.6] * 2 + [0.45] * 2 + [0.3] * 2),
        nail=table(is_tip + [0.0] * 12),
        crease=table(is_finger + [0.0] * 12),
        stripe=table([0.0] * 25 + [subject.sleeve_stripe] * 2),
    )


def _arm(pose: Pose, subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    """Wrist, forearm and sleeve, each two parallel round cones because an arm is wider than thick.

    Returns their starts, ends and dorsal vectors, each (F, 6, 3).
    """
    to_elbow = pose.elbow - pose.wrist
    axis = to_elbow / to_elbow.norm(dim=-1, keepdim=True)
    across = pose.rotation[:, :, 0]
    across = across - (across * axis).sum(-1, keepdim=True) * axis
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    dorsal = torch.cross(across, axis, dim=-1)
    facing = (dorsal * -pose.rotation[:, :, 2]).sum(-1, keepdim=True)
    dorsal = torch.where(facing < 0, -dorsal, dorsal)

    size = subject.scale
    knuckle_side = -pose.rotation[:, :, 1]
    inner = pose.wrist + knuckle_side * 9.0 * size
    collar = pose.wrist + axis * 16.0 * size
    elbow = pose.wrist + axis * FOREARM_MM * size
    cuff = pose.wrist + axis * FOREARM_MM * size * subject.sleeve_start
    covered = pose.wrist + axis * FOREARM_MM * size * min(subject.sleeve_start + 0.06, 1.0)
    half = across * 6.5 * size
    wide = across * 8.0 * size
    starts = (inner - half, inner + half, collar - half, collar + half, cuff - half, cuff + half)
    ends = (collar - half, collar + half, covered - wide, covered + wide, elbow - wide, elbow + wide)
    return torch.stack(starts, 1), torch.stack(ends, 1), dorsal[:, None].expand(-1, 6, 3)
