"""Whether near looks bright or dark in raw depth, from what passes in front of what. Needs no torch."""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

MIN_FRAMES = 4
MIN_SEEN = 0.4
MIN_MOVING = 0.02
MIN_LEAN = 0.2
MIN_VOTES = 5
MIN_VOTING = 0.2
CONTRADICTION = 0.8

# 8-bit holes are 0, but lossy compression smears them up to 7; 16-bit ones are exactly 0.
_FLOOR_8BIT = 7
_STEP = 0.15


@dataclass(frozen=True)
class Polarity:
    """What the clips say together about which values are near.

    ``bright`` and ``dark`` count clips that speak for each, ``silent`` those without enough evidence (nothing passes in
    front of anything: NVGesture and EgoGesture keep the hand alone); ``declared`` is the manifest's word.
    """

    declared: Literal["bright", "dark"]
    bright: int = 0
    dark: int = 0
    silent: int = 0

    @property
    def looks(self) -> Literal["bright", "dark", "unclear"]:
        """The side with at least 80 % of the votes."""
        votes = self.bright + self.dark
        if not votes or max(self.bright, self.dark) < CONTRADICTION * votes:
            return "unclear"
        return "bright" if self.bright > self.dark else "dark"

    @property
    def contradicts(self) -> bool:
        """Whether the clips look the opposite of what is declared, few or many of them."""
        return self.looks not in ("unclear", self.declared)

    @property
    def told(self) -> bool:
        """Whether enough clips voted to speak of it at all: five, or a fifth of those asked, not one odd clip."""
        votes = self.bright + self.dark
        return votes > 0 and votes >= min(MIN_VOTES, MIN_VOTING * (votes + self.silent))

    @property
    def certain(self) -> bool:
        """Whether enough clips voted for an error: five, and a fifth of those asked, as few votes come from odd clips.

        Of 200 IsoGD clips 193 vote and none is wrong; of generated ones, hands before nothing, 5 in 96 vote, 2 wrongly.
        """
        votes = self.bright + self.dark
        return votes >= max(MIN_VOTES, MIN_VOTING * (votes + self.silent))

    def __str__(self) -> str:
        if not self.told:
            asked = self.bright + self.dark + self.silent
            return (
                f"near = {self.declared} is taken as declared; the {asked} clips looked at do not show it either way, "
                "which is usual where the hand is alone in the depth"
            )
        counts = f"{self.bright} clips look near = bright, {self.dark} near = dark, {self.silent} do not tell"
        return f"declared near = {self.declared}; {counts}"


def vote(raw: npt.NDArray[Any]) -> Literal["bright", "dark"] | None:
    """What one clip's raw depth (T, H, W), uint8 or uint16, says; None without enough evidence.

    A hand passes in front of what is behind it: where a pixel shows one value most of the time and another for a
    while, the short-lived value is the nearer one. So among pixels that change by more than 15 % of the clip's range,
    values above the pixel's median in time speak for near = bright, values below it for near = dark. Holes and the
    pixels beside them are left out. A vote takes depth behind the hand (in 40 % of the frame: where the hand is cut
    out, what passes over a pixel is its rim, which is farther), 2 % moving pixels, and 60 : 40 among them.
    """
    if len(raw) < MIN_FRAMES:
        return None
    step = max(1, raw.shape[1] // 120)
    depth = raw[:, step // 2 :: step, step // 2 :: step].astype(np.float32)
    floor = _FLOOR_8BIT if raw.dtype == np.uint8 else 0
    kernel = np.ones((5, 5), np.uint8)
    valid = np.stack([cv2.erode((frame > floor).astype(np.uint8), kernel) for frame in depth]).astype(bool)
    seen = valid.sum(axis=0) > max(MIN_FRAMES - 1, len(depth) // 2)
    if seen.mean() < MIN_SEEN:
        return None
    values = np.where(valid, depth, np.nan)[:, seen]
    low, high = np.nanpercentile(values, (2, 98))
    middle = np.nanmedian(values, axis=0)
    above, below = np.nanmax(values, axis=0) - middle, middle - np.nanmin(values, axis=0)
    moving = above + below > _STEP * max(high - low, 1)
    if moving.sum() < MIN_MOVING * seen.size:
        return None
    lean = float(np.mean(np.sign(above[moving] - below[moving])))
    if abs(lean) < MIN_LEAN:
        return None
    return "bright" if lean > 0 else "dark"
