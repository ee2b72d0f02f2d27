"""Who performs: a person's hand, skin, clothes and way of moving, all drawn from one seed."""

import colorsys
from dataclasses import dataclass

import numpy as np

# Skin from light to dark, RGB in [0, 1]: (back of the hand, palm).
_SKIN = (
    ((0.93, 0.76, 0.66), (0.95, 0.76, 0.68)),
    ((0.88, 0.68, 0.55), (0.92, 0.72, 0.62)),
    ((0.80, 0.60, 0.45), (0.88, 0.68, 0.56)),
    ((0.68, 0.48, 0.34), (0.82, 0.61, 0.50)),
    ((0.53, 0.36, 0.25), (0.75, 0.54, 0.44)),
    ((0.40, 0.27, 0.19), (0.70, 0.50, 0.41)),
    ((0.28, 0.19, 0.14), (0.62, 0.44, 0.37)),
)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Subject:
    """One person.

    ``side``: +1 right-handed, -1 left-handed. ``scale``, ``thickness``, ``palm_width``, ``finger_lengths``: factors on
    the average hand. Colours: RGB in [0, 1]. ``sleeve_start``: where the sleeve begins, 0 at the wrist, 1 at the elbow
    (bare forearm); ``sleeve_thickness`` in mm; ``sleeve_stripe``: strength of its stripes, 0 for none. ``amplitude``:
    how large the movements are, 1 on average; ``tempo`` in [-1, 1]: how fast, 0 on average; ``tremor`` in [0, 1]: how
    unsteady. ``drop`` in [0, 1]: how far below the stroke the hand starts and ends, where 1 is up to 170 mm at the
    start. ``habit``: (8,) numbers in [-2, 2] that shift the attitude and fingers of the hand in all of the person's
    gestures.
    """

    name: str
    side: float
    scale: float
    thickness: float
    palm_width: float
    finger_lengths: tuple[float, float, float, float, float]
    skin: Colour
    palm_skin: Colour
    sleeve: Colour
    sleeve_start: float
    sleeve_thickness: float
    sleeve_stripe: float
    hair: Colour
    amplitude: float
    tempo: float
    tremor: float
    drop: float
    habit: tuple[float, ...]


def _colour(rng: np.random.Generator) -> Colour:
    hue, saturation, value = rng.uniform(), rng.uniform(0.05, 0.75), rng.uniform(0.12, 0.9)
    return colorsys.hsv_to_rgb(hue, saturation, value)


def skin_tone(darkness: float) -> tuple[Colour, Colour]:
    """The colours of the back of the hand and of the palm, from light to dark for ``darkness`` in [0, 1]."""
    place = min(max(darkness, 0.0), 1.0) * (len(_SKIN) - 1)
    low = min(int(place), len(_SKIN) - 2)
    mix = place - low
    both = np.asarray(_SKIN[low]) * (1 - mix) + np.asarray(_SKIN[low + 1]) * mix
    back, palm = both.tolist()
    return (back[0], back[1], back[2]), (palm[0], palm[1], palm[2])


def subject_name(number: int) -> str:
    """The name of subject ``number`` in file names and lists."""
    return f"S{number:03d}"


def draw_subject(number: int, rng: np.random.Generator, *, left_handed: float, style: float) -> Subject:
    """Draw subject ``number``; ``rng`` is used for this subject alone.

    ``left_handed`` in [0, 1]: the share of left-handed people. ``style`` in [0, 1]: how much people differ in their
    movements.
    """
    side = -1.0 if rng.uniform() < left_handed else 1.0
    common = rng.normal(1.0, 0.035)
    lengths = np.clip(common + rng.normal(0.0, 0.02, 5), 0.88, 1.12).tolist()
    skin, palm = skin_tone(rng.uniform())
    tint = rng.normal(0.0, 0.02, 3)
    return Subject(
        name=subject_name(number),
        side=side,
        scale=float(rng.uniform(0.86, 1.12)),
        thickness=float(rng.uniform(0.9, 1.14)),
        palm_width=float(rng.uniform(0.94, 1.06)),
        finger_lengths=(lengths[0], lengths[1], lengths[2], lengths[3], lengths[4]),
        skin=tuple(np.clip(np.asarray(skin) + tint, 0.05, 1.0).tolist()),
        palm_skin=tuple(np.clip(np.asarray(palm) + tint, 0.05, 1.0).tolist()),
        sleeve=_colour(rng),
        sleeve_start=float(rng.uniform(0.05, 0.3)) if rng.uniform() < 0.6 else float(rng.uniform(0.6, 0.95)),
        sleeve_thickness=float(rng.uniform(3.0, 10.0)),
        sleeve_stripe=float(rng.uniform(0.15, 0.5)) if rng.uniform() < 0.4 else 0.0,
        hair=_colour(rng) if rng.uniform() < 0.1 else skin_tone(rng.uniform(0.8, 1.0))[0],
        amplitude=float(1.0 + style * rng.uniform(-0.25, 0.25)),
        tempo=float(style * rng.uniform(-1.0, 1.0)),
        tremor=float(style * rng.uniform(0.1, 1.0)),
        drop=float(rng.uniform(0.15, 0.9) * style),
        habit=tuple((style * rng.normal(size=8)).clip(-2, 2).tolist()),
    )
