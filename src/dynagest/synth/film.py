"""Films a take: renders RGB frames and depth from a performance, a scene and cameras, for any of its moments."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynagest.machine import torch_threads
from dynagest.synth.canvas import paint
from dynagest.synth.hand import hand_solids
from dynagest.synth.motion import Motion, pose_at
from dynagest.synth.render import Camera, render
from dynagest.synth.scene import FOCAL, Events, Scene, camera_shift, scene_solids, shaken
from dynagest.synth.sensor import Noise, blur, expose, misaligned, sense
from dynagest.synth.spec import MISALIGNMENT, SynthSpec
from dynagest.synth.subject import Subject

_LUMA = (0.299, 0.587, 0.114)
_MOMENT = 1e-3  # step of the finite difference that gives the hand's velocity, in lengths of a clip


@dataclass(frozen=True)
class Take:
    """The plan of one recording, drawn but not rendered yet.

    ``times`` are those of its frames. ``motion``, ``events`` and ``times`` share a unit of time, the length of a clip;
    ``rate`` is the number of frames in that. ``label``: the class of a clip, "" for a stream.
    """

    label: str
    subject: Subject
    scene: Scene
    events: Events
    motion: Motion
    times: np.ndarray
    rate: float
    noise: Noise


@dataclass(frozen=True)
class Footage:
    """F frames of S x S pixels. ``rgb``: uint8 (F, 3, S, S). ``depth``: int32 (F, S, S) mm, 0 = a hole. ``hand``: bool
    (F, S, S), where the hand and arm are in the colour frame (for measuring the generator, not for training)."""

    rgb: Tensor
    depth: Tensor
    hand: Tensor

    def pictures(self) -> np.ndarray:
        """The RGB as images are kept, uint8 (F, S, S, 3)."""
        return np.ascontiguousarray(self.rgb.permute(0, 2, 3, 1).numpy())

    def millimetres(self) -> np.ndarray:
        """The depth as it is kept, uint16 (F, S, S)."""
        return self.depth.numpy().astype(np.uint16)


def camera_of(spec: SynthSpec) -> Camera:
    """The colour camera of a spec."""
    return Camera(FOCAL * spec.size, spec.size, spec.size)


def film(spec: SynthSpec, take: Take, frames: np.ndarray, device: torch.device | str = "cpu") -> Footage:
    """Render the frames of a take with these indices (F,); with ``spec.unmirrored`` flip those of a frontal view."""
    device = torch.device(device)
    # Frames are so small that more threads would only wait for each other, and the last bits of a frame would depend on
    # the number of threads.
    with torch.inference_mode(), torch_threads(1 if device.type == "cpu" else None):
        footage = _film(spec, take, take.times[frames], take.noise.select(frames), device)
    flip = spec.unmirrored and take.events.stage.view == "frontal"
    images = (image.flip(-1) if flip else image for image in (footage.rgb, footage.depth, footage.hand))
    # Copies, because tensors made in inference mode cannot be changed in place outside of it.
    return Footage(*(image.clone() for image in images))


def _film(spec: SynthSpec, take: Take, times: np.ndarray, noise: Noise, device: torch.device) -> Footage:
    scene, events, subject = take.scene, take.events, take.subject
    camera = camera_of(spec)
    pose, soon = (pose_at(take.motion, each, subject, events.stage) for each in (times, times + _MOMENT))
    # The blur follows the middle of the hand, 70 mm from the wrist towards the fingers.
    middle, middle_soon = (camera.project(each.wrist - 70.0 * each.rotation[:, :, 1]) for each in (pose, soon))
    velocity = ((middle_soon - middle) / (_MOMENT * take.rate)).to(device)  # (F, 2) pixels from frame to frame
    pose = pose.to(device)
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
    smear = velocity * events.shutter
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
    """The canvas as the unsteady camera sees it, moved by whole pixels: RGB and depth, (F, 4, S, S)."""
    canvas = paint(scene.canvas, size, device)
    margin = (canvas.shape[-1] - size) // 2
    look = np.asarray(events.offset) * margin * 0.4 - shift.cpu().numpy() * size
    corner = np.clip(np.rint(margin + look), 0, 2 * margin).astype(int)
    return torch.stack([canvas[:, y : y + size, x : x + size] for x, y in corner.tolist()])
