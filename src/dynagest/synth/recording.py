"""Plans and records the clip of an index. Everything about it follows from the spec and (seed, split, index)."""

import numpy as np
import torch

from dynagest.card import BACKGROUND
from dynagest.clips.splits import SPLITS, Split
from dynagest.synth.film import Footage, Take, film
from dynagest.synth.gestures import GESTURES
from dynagest.synth.idle import draw_background, draw_loose
from dynagest.synth.motion import draw_motion
from dynagest.synth.scene import Scene, draw_events, draw_scene
from dynagest.synth.sensor import Noise
from dynagest.synth.spec import SynthSpec
from dynagest.synth.subject import Subject, draw_subject

# The second word of each seed sequence, after the spec's seed, so that subjects, scenes and clips are drawn apart.
_SUBJECT, _SCENE, _CLIP = 1, 2, 3


def subject_number(spec: SynthSpec, split: Split, index: int) -> int:
    """The number of a clip's subject. Splits share no numbers, and every subject performs all classes in turn."""
    within = (index // spec.cycle) % spec.subjects.of(split)
    return first_subject(spec, split) + within


def first_subject(spec: SynthSpec, split: Split) -> int:
    """The lowest number of the ``spec.subjects.of(split)`` subjects of a split."""
    return 1 + sum(spec.subjects.of(s) for s in SPLITS[: SPLITS.index(split)])


def scene_number(spec: SynthSpec, split: Split, index: int) -> int:
    """The number of a clip's scene. Splits share no numbers."""
    rng = np.random.default_rng((spec.seed, _SCENE, SPLITS.index(split), index))
    return first_scene(spec, split) + int(rng.integers(spec.scenes.of(split)))


def first_scene(spec: SynthSpec, split: Split) -> int:
    """The lowest number of the ``spec.scenes.of(split)`` scenes of a split."""
    return sum(spec.scenes.of(s) for s in SPLITS[: SPLITS.index(split)])


def label_of(spec: SynthSpec, index: int) -> int:
    """The class of a clip, as an index into ``spec.labels``."""
    return min(index % spec.cycle, len(spec.classes))


def plan(spec: SynthSpec, split: Split, index: int) -> Take:
    """Draw clip ``index`` of ``split``. Any index >= 0 is possible, also beyond ``spec.length(split)``."""
    subject = subject_of(spec, subject_number(spec, split, index))
    scene = scene_of(spec, scene_number(spec, split, index))
    rng = np.random.default_rng((spec.seed, _CLIP, SPLITS.index(split), index))
    label = spec.labels[label_of(spec, index)]
    if label == BACKGROUND:
        motion = draw_background(spec, subject, rng)
    elif spec.slack:
        motion = draw_loose(spec, label, subject, rng)
    else:
        motion = draw_motion(GESTURES[label], subject, rng, style=spec.style)
    events = draw_events(rng, spec, scene, subject)
    times = (np.arange(spec.num_frames) + 0.5) / spec.num_frames
    return Take(label, subject, scene, events, motion, times, float(spec.num_frames), Noise.draw(rng, spec.num_frames))


def subject_of(spec: SynthSpec, number: int) -> Subject:
    """Draw the subject with this number."""
    rng = np.random.default_rng((spec.seed, _SUBJECT, number))
    return draw_subject(number, rng, left_handed=spec.left_handed, style=spec.style)


def scene_of(spec: SynthSpec, number: int) -> Scene:
    """Draw the scene with this number."""
    return draw_scene(np.random.default_rng((spec.seed, _SCENE, number)), spec)


def record(
    spec: SynthSpec, take: Take, frames: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> Footage:
    """Render a take, or its frames with the indices ``frames`` (F,), in this order; indices may repeat."""
    if frames is None:
        frames = np.arange(len(take.times))
    frames, back = np.unique(frames, return_inverse=True)
    footage = film(spec, take, frames, device)
    if np.array_equal(back, np.arange(len(frames))):
        return footage
    order = torch.from_numpy(back).to(footage.rgb.device)
    return Footage(footage.rgb[order], footage.depth[order], footage.hand[order])
