"""The solids that the renderer draws: round cones (two spheres and the cone around them) with a surface.

Shapes: F frames, P solids. Coordinates in mm, x right, y down, z away from the camera.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solids:
    """P round cones in F frames.

    ``a``, ``b``: (F, P, 3) centres of the two spheres. ``ra``, ``rb``: (P,) their radii; |ra - rb| < |a - b|.
    ``dorsal``: (F, P, 3) unit vector that points out of the back, where fingernails are. ``albedo``, ``under``: (P, 3)
    RGB in [0, 1] of the back and of the other side. ``flat``: (P,) in [0, 1], how far the shading normal leans towards
    +-dorsal, which makes neighbouring solids look like one surface. ``nail``, ``crease``, ``stripe``: (P,) strength of
    fingernail, joint creases and woven stripes, 0 for none.
    """

    a: Tensor
    b: Tensor
    ra: Tensor
    rb: Tensor
    dorsal: Tensor
    albedo: Tensor
    under: Tensor
    flat: Tensor
    nail: Tensor
    crease: Tensor
    stripe: Tensor

    @property
    def frames(self) -> int:
        return self.a.shape[0]

    @property
    def count(self) -> int:
        return self.a.shape[1]


_PER_FRAME = ("a", "b", "dorsal")


def join(*groups: Solids) -> Solids:
    """Join several groups of solids with the same F into one."""
    return Solids(
        **{
            f.name: torch.cat([getattr(g, f.name) for g in groups], 1 if f.name in _PER_FRAME else 0)
            for f in fields(Solids)
        }
    )


def plain_solids(a: Tensor, b: Tensor, ra: Tensor, rb: Tensor, albedo: Tensor) -> Solids:
    """Build solids of one colour each, without details: a, b (F, P, 3), ra, rb (P,), albedo (P, 3)."""
    dorsal = torch.zeros_like(a)
    dorsal[..., 2] = -1.0
    none = torch.zeros_like(ra)
    return Solids(a, b, ra, rb, dorsal, albedo, albedo, none, none, none, none)
