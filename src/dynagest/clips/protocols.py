"""The test protocols: which frames of a clip the network is shown, and which squares of these. Needs no torch.

==========  =====  ===========================  ======================================================================
protocol    views  space (network size s)       time
==========  =====  ===========================  ======================================================================
center      1      short side s, centre square  the middle frame of each of T equal segments
clips10     10     squashed to s x s            10 x a random frame of each segment (ACTION-Net's own EgoGesture test)
paper       30     short side 8/7 s, 3 squares  10 x a random frame of each segment, each with the 3 squares of 8/7 s
                   along the longer side        that lie at the start, middle and end of the longer side
==========  =====  ===========================  ======================================================================

A network trained by dense sampling, as its card says, is shown the middle window of a clip instead of the middle
frames, and random windows instead of random frames.

The paper tests a network trained at 224 on squares of 256 (sec. IV); for a network of another size the same ratio,
8/7, is kept and rounded to whole pixels (112 -> 128, 64 -> 73). The class scores of a clip are the mean of its views'
softmax.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.depth import DepthSpec
from dynagest.clips.sampling import sample_indices
from dynagest.clips.transforms import WHOLE_FRAME, Crop, apply, apply_depth, center_crop, three_crops
from dynagest.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to test.

    ``samples``: how often the frames of a clip are sampled, at random if ``random``. ``shape``: which squares are taken
    of a frame (see the table above). ``scale``: the side of a view relative to the size that the network was trained
    at.
    """

    name: str
    title: str
    samples: int
    random: bool
    shape: Literal["squash", "centre", "along"]
    scale: Fraction

    @property
    def crops(self) -> int:
        """The number of squares taken from each frame."""
        return 3 if self.shape == "along" else 1

    @property
    def views(self) -> int:
        """The number of views of a clip, each of which is one input of the network."""
        return self.samples * self.crops

    def size(self, network_size: int) -> int:
        """The side of a view in pixels, for a network trained at ``network_size`` pixels."""
        return round(network_size * self.scale)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("center", "one centre view of the middle frames", 1, False, "centre", Fraction(1)),
        Protocol("clips10", "10 random temporal samples of the squashed frame", 10, True, "squash", Fraction(1)),
        Protocol(
            "paper", "10 random temporal samples x 3 squares along the longer side", 10, True, "along", Fraction(8, 7)
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """Return the protocol called ``name``. Raises ``RecipeError``, which lists the known ones, for another name."""
    if name not in PROTOCOLS:
        raise RecipeError(f"there is no protocol {name!r}; the protocols are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True, slots=True)
class FramePlan:
    """The frames of a clip that a protocol needs, each once, and the temporal samples made of them.

    ``frames`` (F,) int64, ascending, without repetition; ``samples`` (S, T) int64 are indices into ``frames``.
    """

    frames: np.ndarray
    samples: np.ndarray


def plan_frames(protocol: Protocol, num_frames: int, card: NetworkCard, seed: int, index: int) -> FramePlan:
    """Plan the frames of clip ``index``, sampled as ``card`` says. Random draws depend on ``(seed, index)`` alone."""
    rng = np.random.default_rng((seed, index)) if protocol.random else None
    how = (card.num_segments, card.sampling, card.stride, rng)
    drawn = np.stack([sample_indices(num_frames, *how) for _ in range(protocol.samples)])
    frames, places = np.unique(drawn, return_inverse=True)
    return FramePlan(frames, places.reshape(drawn.shape))


def cut_squares(frames: np.ndarray, protocol: Protocol, network_size: int) -> np.ndarray:
    """Cut the protocol's 1 or 3 squares out of every frame: (F, H, W, 3) uint8 -> (crops, F, s, s, 3) uint8.

    s is ``protocol.size(network_size)``.
    """
    size = protocol.size(network_size)
    return np.stack([apply(crop, frames, size) for crop in _crops(protocol, frames.shape[1:3])])


def cut_depth_squares(
    depth: np.ndarray, spec: DepthSpec | None, rgb_size: tuple[int, int], protocol: Protocol, network_size: int
) -> np.ndarray:
    """Cut what lies under ``cut_squares`` out of the depth (F, h, w) of RGB frames of ``rgb_size`` (height, width).

    Returns canonical float32 (crops, F, s, s). ``spec`` and the errors are those of ``apply_depth``.
    """
    size = protocol.size(network_size)
    return np.stack([apply_depth(crop, depth, size, spec, rgb_size) for crop in _crops(protocol, rgb_size)])


def _crops(protocol: Protocol, frame: tuple[int, int]) -> tuple[Crop, ...]:
    """The protocol's squares of a frame (height, width)."""
    if protocol.shape == "squash":
        return (WHOLE_FRAME,)
    return (center_crop(*frame),) if protocol.shape == "centre" else three_crops(*frame)


def iterate_views(squares: np.ndarray, samples: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the views of a clip, each (T, s, s, ...): all squares of a temporal sample, then those of the next.

    ``squares`` (crops, F, s, s, ...), of RGB or depth, are cut from the frames of a ``FramePlan``, ``samples`` (S, T)
    are its ``samples``.
    """
    for sample in samples:
        for square in squares:
            yield square[sample]
