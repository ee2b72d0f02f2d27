"""Films a performance: poses, a scene and cameras in, RGB frames and depth out, for any sequence of poses."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynagest.synth.canvas import paint
from dynagest.synth.hand import Pose, hand_solids
from dynagest.synth.render import Camera, render
from dynagest.synth.scene import FOCAL, Events, Scene, camera_shift, scene_solids, shaken
from dynagest.synth.sensor import Noise, blur, expose, misaligned, sense
from dynagest.synth.spec import MISALIGNMENT, SynthSpec
from dynagest.synth.subject import Subject

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Footage:
    """F frames of S x S pixels. rgb: uint8 (F, 3, S, S). depth: int32 (F, S, S) mm, 0 = a hole. hand: bool (F, S, S),
    where the hand and arm are in the colour frame (for measuring the generator, not for training)."""

    rgb: Tensor
    depth: Tensor
    hand: Tensor


def camera_of(spec: SynthSpec) -> Camera:
    """The colour camera."""
    return Camera(FOCAL * spec.size, spec.size, spec.size)


def film(
    spec: SynthSpec,
    scene: Scene,
    events: Events,
    subject: Subject,
    pose: Pose,
    times: np.ndarray,
    noise: Noise,
    *,
    velocity: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Footage:
    """Render ``pose`` (F frames) of ``subject`` in ``scene``.

    times: (F,) moments at which distractors and camera move, in the unit of the performance. noise: F frames' worth.
    velocity: (F, 2) movement of the hand in pixels from frame to frame, for motion blur; none without.
    """
    device = torch.device(device)
    with torch.inference_mode(), _one_thread() if device.type == "cpu" else contextlib.nullcontext():
        footage = _film(spec, scene, events, subject, pose.to(device), times, noise, velocity)
    # Copies that anything may be done with: tensors made in inference mode cannot be changed outside of it.
    return Footage(footage.rgb.clone(), footage.depth.clone(), footage.hand.clone())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Frames are small: threads would only wait for each other, and how they share a frame changes its last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _film(
    spec: SynthSpec,
    scene: Scene,
    events: Events,
    subject: Subject,
    pose: Pose,
    times: np.ndarray,
    noise: Noise,
    velocity: Tensor | None,
) -> Footage:
    device = pose.wrist.device
    camera = camera_of(spec)
    shift = torch.from_numpy(camera_shift(events, times)).float().to(device)

    behind = _background(scene, events, shift, spec.size, device)
    rgb, depth = behind[:, :3], behind[:, 3]
    others = scene_solids(events, subject, pose, times)
    if others is not None:
        layer = render(shaken(others, shift), camera, scene.light, supersample=1)
        nearer = layer.depth < depth
        rgb = torch.where(nearer[:, None], layer.rgb, rgb)
        depth = torch.where(nearer, layer.depth, depth)
    softness = events.defocus * spec.size / 112
    still = torch.zeros(len(pose), 2, device=device)
    if softness > 0.3:
        rgb = blur(rgb, still, softness)

    layer = render(shaken(hand_solids(pose, subject), shift), camera, scene.light, supersample=spec.supersample)
    front = layer.depth < depth
    covered = torch.cat((layer.rgb, layer.alpha), 1) * front[:, None]
    smear = still if velocity is None else velocity.to(device) * events.shutter
    if spec.blur > 0 and (softness > 0.3 or float(smear.abs().max()) > 0.7):
        covered = blur(covered, smear, softness)
    rgb = rgb * (1 - covered[:, 3:]) + covered[:, :3]
    hand = front & (layer.alpha[:, 0] > 0.5)
    depth = torch.where(hand, layer.depth, depth)

    luma = (rgb * torch.tensor(_LUMA, device=device)[:, None, None]).sum(1)
    affine = MISALIGNMENT[spec.misalign]
    if affine is not None:
        depth, luma = misaligned(depth, affine), misaligned(luma, affine)
    measured = sense(depth, luma, noise, grain=spec.depth_noise, holes=spec.depth_holes)
    return Footage(expose(rgb, scene.exposure, noise, spec.rgb_noise), measured, hand)


def _background(scene: Scene, events: Events, shift: Tensor, size: int, device: torch.device) -> Tensor:
    """The canvas (F, 4, S, S) as the unsteady camera sees it, in whole pixels: RGB and depth."""
    canvas = paint(scene.canvas, size, device)
    margin = (canvas.shape[-1] - size) // 2
    look = np.asarray(events.offset) * margin * 0.4 - shift.cpu().numpy() * size
    corner = np.clip(np.rint(margin + look), 0, 2 * margin).astype(int)
    return torch.stack([canvas[:, y : y + size, x : x + size] for x, y in corner.tolist()])
