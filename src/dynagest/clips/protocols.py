"""How a clip is shown to the network when it is tested: which frames, and which squares of them. Needs no torch.

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
from dynagest.clips.sampling import dense_indices, segment_indices
from dynagest.clips.transforms import WHOLE_FRAME, Crop, apply, center_crop, three_crops
from dynagest.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to test. ``scale`` is the side of a view relative to the size that the network was trained at."""

    name: str
    title: str
    samples: int
    random: bool
    shape: Literal["squash", "centre", "along"]
    scale: Fraction

    @property
    def crops(self) -> int:
        """Squares taken from each frame."""
        return 3 if self.shape == "along" else 1

    @property
    def views(self) -> int:
        """Times that the network runs for one clip."""
        return self.samples * self.crops

    def size(self, network_size: int) -> int:
        """Side of a view in pixels, for a network trained at ``network_size``."""
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
    """The protocol called ``name``. Raises ``RecipeError`` listing those that exist."""
    if name not in PROTOCOLS:
        raise RecipeError(f"there is no protocol {name!r}; the protocols are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Which frames of a clip are needed, each once, and how the temporal samples are put together from them.

    ``frames`` (F,) int64, ascending, without repetition; ``samples`` (S, T) int64 are places in ``frames``.
    """

    frames: np.ndarray
    samples: np.ndarray


def plan_frames(protocol: Protocol, num_frames: int, card: NetworkCard, seed: int, index: int) -> FramePlan:
    """The frames to decode for clip ``index``, sampled as ``card`` says; a draw depends on ``(seed, index)`` alone."""
    rng = np.random.default_rng((seed, index)) if protocol.random else None
    drawn = np.stack([_sample(card, num_frames, rng) for _ in range(protocol.samples)])
    frames, places = np.unique(drawn, return_inverse=True)
    return FramePlan(frames, places.reshape(drawn.shape))


def _sample(card: NetworkCard, num_frames: int, rng: np.random.Generator | None) -> np.ndarray:
    if card.sampling == "dense":
        return dense_indices(num_frames, card.num_segments, card.stride, rng)
    return segment_indices(num_frames, card.num_segments, rng)


def cut_squares(frames: np.ndarray, protocol: Protocol, network_size: int) -> np.ndarray:
    """The protocol's 1 or 3 squares of every frame: (F, H, W, 3) uint8 -> (crops, F, s, s, 3) uint8."""
    height, width = frames.shape[1:3]
    crops: dict[str, tuple[Crop, ...]] = {
        "squash": (WHOLE_FRAME,),
        "centre": (center_crop(height, width),),
        "along": three_crops(height, width),
    }
    return np.stack([apply(crop, frames, protocol.size(network_size)) for crop in crops[protocol.shape]])


def iterate_views(squares: np.ndarray, samples: np.ndarray) -> Iterator[np.ndarray]:
    """The protocol's views of a clip, (T, s, s, 3) uint8 each, all squares of a temporal sample before the next one.

    ``squares`` (crops, F, s, s, 3) are cut from the planned frames, ``samples`` (S, T) their places in each sample.
    """
    for sample in samples:
        for square in squares:
            yield square[sample]
